"""Who may come in: asking the authenticators, and what a principal may do."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from gatewaykit.errors import AuthFailed, PermissionDenied
from gatewaykit.protocols import Known, Network
from gatewaykit.types import ADMIN, INFERENCE, Incoming, Principal

Authenticate = Callable[[Incoming], Awaitable[Principal | None]]
Judged = Callable[[Incoming, Principal | None], None]
Challenge = Callable[[Incoming], str | None]
LookUp = Callable[[str], Awaitable[Known | None]]
_HEADER = "www-authenticate"


class Door(Struct, frozen=True):
    """All authenticators, in order, those of them who want to hear what came of it, those who tell refused clients
    how to do better, and those who know people by their ids.
    """

    authenticators: tuple[Authenticate, ...]
    judged: tuple[Judged, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    look_ups: tuple[LookUp, ...] = ()

    async def admit(self, incoming: Incoming) -> Principal:
        """The principal of the first authenticator that knows one. Raises :class:`~gatewaykit.errors.AuthFailed`."""
        try:
            for authenticate in self.authenticators:
                if (principal := await authenticate(incoming)) is not None:
                    break
            else:
                given = {"authorization", "x-api-key"} & incoming.headers.keys()
                raise AuthFailed("This API key is not valid." if given else None)
        except AuthFailed as error:
            for judged in self.judged:
                judged(incoming, None)
            self._challenge(incoming, error)
            raise
        for judged in self.judged:
            judged(incoming, principal)
        return principal

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """Who has this id, as the first authenticator that knows it tells."""
        for look_up in self.look_ups:
            if (known := await look_up(id)) is not None:
                return known
        return None

    def _challenge(self, incoming: Incoming, error: AuthFailed) -> None:
        if not any(name.lower() == _HEADER for name, _ in error.headers):
            told = [text for challenge in self.challenges if (text := challenge(incoming))]
            error.headers = (*error.headers, *((_HEADER, text) for text in told))


def require(principal: Principal, scope: str, path: str) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` unless the principal has ``scope`` and may call ``path``.

    Who may manage everything has every scope but that of calling models, which costs money and must be given.
    """
    if scope not in principal.scopes and (ADMIN not in principal.scopes or scope == INFERENCE):
        raise denied(principal, f"This needs the scope {scope!r}, which this key does not have.", scope=scope)
    if not matches(principal.routes, path):
        raise denied(principal, f"This key may not call {path}.")


def require_model(principal: Principal, model: str) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` unless the principal may ask for ``model``."""
    if not matches(principal.models, model):
        raise denied(principal, f"This key has no access to the model {model!r}.", param="model")


def require_network(networks: Sequence[Network], client: str | None) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` unless the address ``client`` is in one of ``networks``."""
    try:
        address = ipaddress.ip_address((client or "").partition("%")[0])
    except ValueError:
        raise PermissionDenied("This key may not be used from this address.") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not any(address in network for network in networks):
        raise PermissionDenied("This key may not be used from this address.")


def denied(
    principal: Principal, message: str, *, scope: str | None = None, param: str | None = None
) -> PermissionDenied:
    """The refusal of something that ``principal`` may not do, with its challenge (RFC 6750, 3.1)."""
    challenge = principal.challenge
    if challenge and scope:
        challenge += f', scope="{scope}"'
    return PermissionDenied(message, param=param, headers=[(_HEADER, challenge)] if challenge else ())


def matches(globs: Sequence[str], name: str) -> bool:
    """Whether any of the globs, in which only ``*``, ``?`` and ``[…]`` are special, matches the whole name."""
    return "*" in globs or any(fnmatchcase(name, glob) for glob in globs)
