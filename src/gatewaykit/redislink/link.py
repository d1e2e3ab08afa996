"""The gateway's link to one Redis, in as many event loops as the gateway runs in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from gatewaykit.errors import ConfigError, ConfigFault, Unavailable
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import REASON, REDIS_BUSY, REDIS_EVENTS, REDIS_OPEN
from gatewaykit.redislink.breaker import Counters
from gatewaykit.redislink.script import Script
from gatewaykit.settings import RedisSettings

if TYPE_CHECKING:
    from gatewaykit.redislink.session import Session


class RedisLink:
    """Scripts and messages over Redis or Valkey.

    Making it opens nothing and waits for nothing; Redis may be down then, and later. Every call either is answered
    within about ``timeout`` seconds or raises :class:`~gatewaykit.errors.Unavailable`, at once while the breaker is
    open; where all connections are in use it waits for one before, half a second, or ``timeout`` if that is longer.
    ``prefix`` begins all keys and channels; it is a hash tag, so that a cluster keeps all keys in one slot.
    Raises :class:`~gatewaykit.errors.ConfigError` for a URL that cannot be used and if redis-py is not installed.
    """

    def __init__(self, settings: RedisSettings) -> None:
        if settings.url is None:
            raise ConfigError([ConfigFault("is not set", "redis.url")])
        try:
            from gatewaykit.redislink.wire import Address
        except ModuleNotFoundError:
            raise ConfigError(
                [ConfigFault("redis is not installed: pip install 'gatewaykit[redis]'", "redis.url")]
            ) from None
        self.prefix = f"{{{settings.prefix}}}:"
        self.counters = Counters()
        self._settings = settings
        self._address = Address(settings.url.get_secret_value())
        self._sessions: dict[asyncio.AbstractEventLoop, tuple[Session, int]] = {}

    def __repr__(self) -> str:
        return f"<RedisLink: {self._address}>"

    @property
    def degraded(self) -> bool:
        """Whether the breaker is open, in any event loop."""
        return any(session.breaker.open for session, _ in tuple(self._sessions.values()))

    @property
    def busy(self) -> int:
        """How many connections are in use for calls."""
        return sum(session.busy for session, _ in tuple(self._sessions.values()))

    def readings(self) -> Iterator[Reading]:
        """How the link stands."""
        yield Reading(REDIS_OPEN, float(self.degraded))
        yield Reading(REDIS_BUSY, self.busy)
        for reason in ("failed", "refused", "crowded"):
            yield Reading(REDIS_EVENTS, getattr(self.counters, reason), {REASON: reason})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Calls are possible inside of it, in the event loop that entered it. May be entered many times."""
        from gatewaykit.redislink.session import Session

        loop = asyncio.get_running_loop()
        for stale in [known for known in tuple(self._sessions) if known.is_closed()]:
            self._sessions.pop(stale, None)
        session, users = self._sessions.get(loop) or (
            Session(self._address, self._settings, f"{self.prefix}probe", self.counters),
            0,
        )
        self._sessions[loop] = (session, users + 1)
        try:
            yield
        finally:
            session, users = self._sessions.pop(loop)
            if users > 1:
                self._sessions[loop] = (session, users - 1)
            else:
                await session.aclose()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """What ``script`` returns for these keys (prefix included) and arguments; text comes as bytes.

        One round trip, and one more when Redis does not know the script yet. Raises
        :class:`~gatewaykit.redislink.Unanswered` where Redis may have run it all the same, or will: a server that was
        frozen goes on with what it was sent.
        """
        return await self._here().run(script, keys, args)

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep ``value`` under ``name`` for so many seconds, in the place of what was there."""
        await self._here().call("SET", self.prefix + name, value, "PX", max(1, int(seconds * 1000)))

    async def get(self, name: str) -> bytes | None:
        """What is kept under ``name``."""
        found: bytes | None = await self._here().call("GET", self.prefix + name)
        return found

    async def publish(self, channel: str, message: bytes) -> None:
        """Send ``message`` to all who listen now, in any process."""
        await self._here().call("PUBLISH", self.prefix + channel, message)

    @asynccontextmanager
    async def listen(
        self, channel: str, on_message: Callable[[bytes], None], on_connect: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Hand every message of ``channel`` to ``on_message``, inside of this context; does not wait for Redis.

        Messages sent while the connection is lost never come: ``on_connect`` is called after each connect, the first
        too, so that the caller reads anew what they would have said. Both must be quick.
        """
        from gatewaykit.redislink.listening import Listener

        listener = Listener(self._address, self.prefix + channel, on_message, on_connect)
        task = asyncio.get_running_loop().create_task(listener.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _here(self) -> Session:
        found = self._sessions.get(asyncio.get_running_loop())
        if found is None:
            raise Unavailable(retry_after=1.0, detail="redis: the link is not open")
        return found[0]
