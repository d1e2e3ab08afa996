"""What all routes of the management API share: who acts, on which database, and that changes are told at once."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Annotated, TypeVar

from msgspec import Meta, Struct
from sqlalchemy.orm import Session
from starlette.requests import Request

from gatewaykit.builtin.limits.plans import Plans
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import NotFound, Unavailable
from gatewaykit.guarding import incoming_of
from gatewaykit.limits import Limit
from gatewaykit.protocols import GatewayContext
from gatewaykit.storage import Storage
from gatewaykit.types import Principal

from ..settings import KeysSettings
from .audit import with_subjects
from .model import Actor
from .secrets import Secrets

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=200, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Cursor = Annotated[str, Meta(max_length=500, pattern=r"\A[!-~]+\Z")]
Size = Annotated[int, Meta(ge=1, le=200)]
_VISIBLE = re.compile(r"[!-~]{1,500}")


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A body without fields."""


class Desk:
    """Where the API works: the gateway's database, its secrets, and ``changed``, awaited after each change, which
    tells this process and others of it.

    ``secrets`` are asked for when they are needed: they are known only while the gateway runs.
    """

    def __init__(
        self,
        gateway: GatewayContext,
        secrets: Callable[[], Secrets],
        changed: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self.gateway = gateway
        self.secrets = secrets
        self._changed = changed

    @property
    def longest(self) -> timedelta | None:
        """The longest that a key may live."""
        return self.gateway.settings.get(KeysSettings).longest

    @property
    def _storage(self) -> Storage:
        if self.gateway.storage is None:
            raise Unavailable(detail="keys: there is no database")
        return self.gateway.storage

    def actor(self, request: Request, principal: Principal) -> Actor:
        """Who acts by this request."""
        return actor_of(request, principal, self.gateway)

    async def read(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns."""
        return await self._storage.read(work)

    async def write(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, when it is committed and this process knows of it."""
        result, subjects = await self.note(with_subjects(work))
        await self._changed(subjects)
        return result

    async def note(self, work: Callable[[Session], T]) -> T:
        """The same for what no key depends on, such as a session."""
        return await self._storage.write(work)


def actor_of(request: Request, principal: Principal, gateway: GatewayContext) -> Actor:
    """Who acts, as the audit log will tell it, and as the configuration limits it."""
    incoming = incoming_of(request)
    return Actor(principal.id, principal, incoming.request_id, incoming.client, limits_at(gateway))


def limits_at(gateway: GatewayContext) -> Callable[[Principal], Sequence[Limit]]:
    """What tells the limits of a principal's key and account, those of ``[limits]`` included, if it has a plugin."""
    try:
        return Plans(gateway.settings.get(LimitsSettings)).own
    except KeyError:
        return attrgetter("limits")


def named(request: Request, name: str) -> str:
    """The id in the path. Raises :class:`~gatewaykit.errors.NotFound` for what cannot be one."""
    given: str = request.path_params[name]
    if not _VISIBLE.fullmatch(given):
        raise NotFound
    return given
