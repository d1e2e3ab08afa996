"""Scopes: what a client may ask for, and what its tokens may then do."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from .errors import InvalidScopeError
from .settings import BUILTIN, OAuthSettings

OPENID, PROFILE, OFFLINE = "openid", "profile", "offline_access"
USERINFO = "/oauth/userinfo"
_DESCRIPTIONS = {
    INFERENCE: "Use models on your behalf",
    USAGE: "Read what you have used",
    KEYS: "Manage your API keys",
    ADMIN: "Manage the whole gateway",
    OPENID: "Know who you are",
    PROFILE: "Know your name",
    OFFLINE: "Stay connected while you are away",
}
_ROUTES: dict[str, tuple[str, ...]] = {
    INFERENCE: ("*",),
    USAGE: ("/v1/usage", "/v1/usage/*"),
    KEYS: ("/api/admin/*",),
    ADMIN: ("*",),
    OPENID: (USERINFO,),
}
_LONGEST, _MOST = 2000, 32


class Rights(Struct, frozen=True):
    """What a token with certain scopes may do: scopes, models and routes as a principal has them."""

    scopes: frozenset[str]
    models: tuple[str, ...]
    routes: tuple[str, ...]


class Scopes:
    """All scopes of this server: those of the gateway, those of OpenID Connect, and those of the configuration."""

    def __init__(self, settings: OAuthSettings) -> None:
        self._own = settings.scopes

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*BUILTIN, *self._own)

    @property
    def of_resources(self) -> tuple[str, ...]:
        """Those that mean something at the gateway itself (MCP: never ``offline_access``)."""
        return tuple(name for name in self.names if name not in {OPENID, PROFILE, OFFLINE})

    def describe(self, name: str) -> str:
        """What the consent page says of it."""
        return self._own[name].description if name in self._own else _DESCRIPTIONS.get(name, name)

    def asked(self, text: str | None, allowed: Iterable[str]) -> tuple[str, ...]:
        """The scopes of a request, in their order; all that are allowed if it names none (RFC 6749, 3.3).

        Raises authlib's ``InvalidScopeError`` for one that does not exist or is not allowed: none is dropped silently.
        """
        may = tuple(name for name in allowed if name in self.names)
        if text is None:
            return may
        names = tuple(dict.fromkeys(text.split(" ")))
        if len(text) > _LONGEST or len(names) > _MOST or not set(names) <= set(may):
            raise InvalidScopeError()
        return names

    def rights(self, names: Iterable[str], *, admin: bool) -> Rights:
        """What tokens with these scopes may do; for accounts that are no admins, ``admin`` allows nothing.

        Models count for scopes that allow to call them. With several scopes, the models and paths of each add up.
        """
        scopes: set[str] = set()
        models: dict[str, None] = {}
        routes: dict[str, None] = {}
        for name in names:
            own = self._own.get(name)
            allows = set(own.allows) if own else {name}
            if not admin:
                allows.discard(ADMIN)
            if not allows:
                continue
            scopes |= allows
            routes.update(dict.fromkeys(own.routes if own else _ROUTES.get(name, ())))
            if INFERENCE in allows:
                models.update(dict.fromkeys(own.models if own else ("*",)))
        return Rights(frozenset(scopes), _simple(models), _simple(routes))


def _simple(globs: Iterable[str]) -> tuple[str, ...]:
    found = tuple(globs)
    return ("*",) if "*" in found else found
