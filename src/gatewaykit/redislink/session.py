"""Redis in one event loop: a few connections, a place for each call, a deadline for each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gatewaykit.errors import Unanswered, Unavailable
from gatewaykit.redislink.breaker import Breaker, Counters
from gatewaykit.redislink.patience import Patience
from gatewaykit.redislink.script import Script
from gatewaykit.redislink.wire import Address, Moved, NoScript, Wire, opened, packed, reason
from gatewaykit.settings import RedisSettings

_LONGEST_QUEUE = 0.5
"""Seconds in which a burst passes: a thousand calls keep a process busy for a third of one, however quick Redis is.

Who gets no place must hear of it while there is time to do without, within the ``timeouts.hook`` of a plugin.
"""


class Session:
    """At most ``max_connections`` calls are under way; others wait for a place, until the breaker opens.

    Not redis-py's blocking pool: that takes longer than Redis itself, and up to Python 3.12 a call that is cancelled
    while it waits there can keep the next one from being woken.
    """

    def __init__(self, address: Address, settings: RedisSettings, probe_key: str, counters: Counters) -> None:
        self._address = address
        self._timeout = settings.timeout
        self._counters = counters
        self._places = asyncio.Semaphore(settings.max_connections)
        self._idle: list[Wire] = []
        self._node: tuple[str, int] | None = None
        self._closed = False
        self._probe_command = packed(("SET", probe_key, "1", "PX", 1000))
        self.busy = 0
        self.breaker = Breaker(str(address), settings.failures, settings.cooldown, self._probe, counters)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """What the script returns; its text is sent only if Redis does not know it yet."""
        try:
            return await self.call("EVALSHA", script.digest, len(keys), *keys, *args)
        except NoScript:
            return await self.call("EVAL", script.source, len(keys), *keys, *args)

    async def call(self, *words: str | bytes | int) -> Any:
        """The answer to one command. Raises :class:`~gatewaykit.errors.Unavailable`, but ``NoScript`` as it is."""
        self.breaker.check()
        await self._place()
        try:
            self.breaker.check()
            return await self._judged(packed(words))
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        self._closed = True
        await self.breaker.aclose()
        await self._hang_up()

    async def _place(self) -> None:
        """Wait for a free connection, not for ever. That there is none says nothing of Redis: it is no failure."""
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with Patience(max(self._timeout, _LONGEST_QUEUE)):
                await self._places.acquire()
        except TimeoutError:
            self._counters.crowded += 1
            raise Unavailable(retry_after=1.0, detail="redis: all connections are in use") from None

    async def _judged(self, command: bytes) -> Any:
        """The answer; the breaker is told whether there was one."""
        try:
            answer = await self._answer(command)
        except NoScript:
            self.breaker.succeeded()
            raise
        except Exception as error:  # noqa: BLE001 - redis-py raises anything over what is no answer of Redis
            await self._turn_to(None)
            self.breaker.failed(reason(error))
            raise Unanswered(retry_after=1.0, detail=f"redis: {reason(error)}") from None
        self.breaker.succeeded()
        return answer

    async def _answer(self, command: bytes) -> Any:
        """The answer, from the node that has the keys: all keys are in one slot, so it is the same for all calls."""
        try:
            return await self._exchange(command)
        except Moved as moved:
            await self._turn_to((moved.host, moved.port))
            return await self._exchange(command)

    async def _exchange(self, command: bytes) -> Any:
        """Send and read, within the time allowed. Only a connection with a good answer is used again.

        One that answers with an error may lead to a server that the address does not lead to any more.
        """
        node = self._node
        wire = self._take()
        try:
            async with Patience(self._timeout):
                await opened(wire)
                await wire.send_packed_command(command, check_health=False)
                return await wire.read_response()
        except (Moved, NoScript):
            raise
        except BaseException:
            await wire.disconnect(nowait=True)
            raise
        finally:
            await self._give_back(wire, node)

    async def _turn_to(self, node: tuple[str, int] | None) -> None:
        if node != self._node:
            self._node = node
            await self._hang_up()

    async def _hang_up(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    def _take(self) -> Wire:
        self.busy += 1
        return self._idle.pop() if self._idle else self._address.connection(self._node)

    async def _give_back(self, wire: Wire, node: tuple[str, int] | None) -> None:
        self.busy -= 1
        if self._closed or node != self._node:
            await wire.disconnect(nowait=True)
        else:
            self._idle.append(wire)

    async def _probe(self) -> None:
        """Whether Redis takes writes, where the address leads now; a copy that only reads would answer a PING."""
        self._node = None
        await self._hang_up()
        await self._answer(self._probe_command)
