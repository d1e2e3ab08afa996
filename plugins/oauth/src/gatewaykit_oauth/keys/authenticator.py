"""The authenticator of API keys: from a request's headers to the principal, from memory in a few microseconds.

A text that does not look like a key of ours is left to the other authenticators; one that does and has a wrong checksum
is refused without asking anybody. Unknown, disabled, expired and revoked keys all get the same answer, and so do those
of a disabled account. Two different credentials in one request, of which one looks like ours, are refused with 400, for
a client must not use two methods at once (RFC 6750, 2 and 3.1), and nobody could tell whose request it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gatewaykit.admission import require_network
from gatewaykit.errors import BadRequest, Unavailable
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import CACHE, CACHE_ENTRIES, REVOCATION_LAG, UNCONFIRMED
from gatewaykit.protocols import Authenticator, Known
from gatewaykit.settings import DatabaseSettings
from gatewaykit.types import Incoming, Principal

from ..changes.channel import Changes
from ..changes.feed import ended
from ..settings import KeysSettings
from .format import has_checksum, has_shape
from .known import look_up
from .last_used import LastUsed
from .lookup import KeyLookup, not_valid
from .peppers import load_secrets

if TYPE_CHECKING:
    from gatewaykit.redislink import RedisLink
    from gatewaykit.storage import Storage

    from .secrets import Secrets


class ApiKeys(Authenticator):
    """Knows the keys of the database. It can be used while its lifespan is entered, in that event loop."""

    name = "api-keys"
    before = ("static-keys",)

    def __init__(
        self,
        storage: Storage,
        settings: KeysSettings,
        database: DatabaseSettings,
        redis: RedisLink | None = None,
        changes: Changes | None = None,
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._database = database
        self._changes = changes or Changes(storage, settings, redis)
        self._here: dict[asyncio.AbstractEventLoop, tuple[KeyLookup, LastUsed]] = {}

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """The principal of the key; None for credentials of another kind.

        Raises :class:`~gatewaykit.errors.AuthFailed`, :class:`~gatewaykit.errors.PermissionDenied` for an address from
        which the key may not be used, and :class:`~gatewaykit.errors.Unavailable`, with Retry-After, while it cannot be
        known whether the key is valid.
        """
        text = given_key(incoming.headers)
        if text is None or not has_shape(text):
            return None
        running = self._here.get(asyncio.get_running_loop())
        if running is None:
            raise _not_running()
        lookup, last_used = running
        digest = lookup.secrets.digest(text)
        entry = lookup.remembered(digest)
        if entry is None:
            if not has_checksum(text):
                raise not_valid()
            entry = await lookup.load(text, digest)
        now = time.time()
        if now >= entry.ends:
            raise not_valid()
        if entry.networks:
            require_network(entry.networks, incoming.client)
        last_used.note(entry.principal.id, now, incoming.client)
        return entry.principal

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """A key by its id, the beginning of it, or the hint of one of its secrets. The database must be open; whether
        anything else runs does not matter.
        """
        return await self._storage.read(lambda session: look_up(session, id, datetime.now(UTC)))

    def readings(self) -> Iterator[Reading]:
        """How old the knowledge of revoked keys is at most, and how many keys are remembered."""
        lookups = [lookup for lookup, _ in tuple(self._here.values())]
        if lookups:
            asked = min(lookup.feed.confirmed for lookup in lookups)
            yield Reading(REVOCATION_LAG, max(0.0, time.monotonic() - asked))
        yield Reading(CACHE_ENTRIES, sum(len(lookup.cache) for lookup in lookups), {CACHE: "keys"})
        yield Reading(UNCONFIRMED, sum(lookup.unconfirmed for lookup in lookups), {CACHE: "keys"})

    @property
    def secrets(self) -> Secrets:
        """What makes and digests secrets here. Raises :class:`~gatewaykit.errors.Unavailable` unless it is running."""
        return self._running()[0].secrets

    async def changed(self, subjects: Sequence[str] | None = None) -> None:
        """Something was committed: forget it here before this returns, and elsewhere as soon as may be."""
        await self._changes.changed(subjects)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Read the pepper, and follow changes until the end.

        Raises :class:`~gatewaykit.errors.ConfigError` when the pepper is missing or not the right one.
        """
        loop = asyncio.get_running_loop()
        secrets = await asyncio.to_thread(load_secrets, self._settings, self._database, self._storage)
        async with AsyncExitStack() as stack:
            feed = await stack.enter_async_context(self._changes.lifespan())
            lookup, last_used = KeyLookup(self._storage, feed, secrets, self._settings), LastUsed(self._storage)
            stack.push_async_callback(lookup.stop)
            stack.push_async_callback(last_used.flush)
            stack.push_async_callback(ended, [asyncio.create_task(last_used.run(), name="gatewaykit-key-use")])
            self._here[loop] = (lookup, last_used)
            stack.callback(self._here.pop, loop)
            yield

    def _running(self) -> tuple[KeyLookup, LastUsed]:
        found = self._here.get(asyncio.get_running_loop())
        if found is None:
            raise _not_running()
        return found


def _not_running() -> Unavailable:
    return Unavailable(retry_after=1.0, detail="API keys: not running")


def given_key(headers: Mapping[str, str]) -> str | None:
    """The key that a client sent: ``Authorization: Bearer``, or ``x-api-key`` as Anthropic's clients do.

    Raises :class:`~gatewaykit.errors.BadRequest` for two that are not the same.
    """
    authorization, other = headers.get("authorization"), headers.get("x-api-key")
    bearer = authorization[7:].strip() if authorization and authorization[:7].lower() == "bearer " else None
    if not other or other == bearer:
        return bearer
    if not bearer:
        return other
    if has_shape(bearer) or has_shape(other):
        raise BadRequest("Authorization and x-api-key hold different keys. Send one of them.")
    return None
