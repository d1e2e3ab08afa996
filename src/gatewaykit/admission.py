"""Who may come in: asking the authenticators, and what a principal may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gatewaykit.errors import AuthFailed, PermissionDenied
from gatewaykit.types import ADMIN, INFERENCE, Incoming, Principal

Authenticate = Callable[[Incoming], Awaitable[Principal | None]]
Judged = Callable[[Incoming, Principal | None], None]


@dataclass(frozen=True, slots=True)
class Door:
    """All authenticators, in order, and those of them who want to hear what came of it."""

    authenticators: tuple[Authenticate, ...]
    judged: tuple[Judged, ...] = ()

    async def admit(self, incoming: Incoming) -> Principal:
        """The principal of the first authenticator that knows one. Raises :class:`~gatewaykit.errors.AuthFailed`."""
        try:
            principal = await self._asked(incoming)
        except AuthFailed:
            for judged in self.judged:
                judged(incoming, None)
            raise
        for judged in self.judged:
            judged(incoming, principal)
        return principal

    async def _asked(self, incoming: Incoming) -> Principal:
        for authenticate in self.authenticators:
            principal = await authenticate(incoming)
            if principal is not None:
                return principal
        given = {"authorization", "x-api-key"} & incoming.headers.keys()
        raise AuthFailed("This API key is not valid." if given else None)


def require(principal: Principal, scope: str, path: str) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` unless the principal has ``scope`` and may call ``path``.

    Who may manage everything has every scope but that of calling models, which costs money and must be given.
    """
    if scope not in principal.scopes and (ADMIN not in principal.scopes or scope == INFERENCE):
        raise PermissionDenied(f"This needs the scope {scope!r}, which this key does not have.")
    if not matches(principal.routes, path):
        raise PermissionDenied(f"This key may not call {path}.")


def matches(globs: Sequence[str], name: str) -> bool:
    """Whether any of the globs, in which only ``*``, ``?`` and ``[…]`` are special, matches the whole name."""
    return any(glob == "*" or fnmatchcase(name, glob) for glob in globs)
