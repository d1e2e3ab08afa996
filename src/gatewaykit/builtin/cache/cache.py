"""The cache: around every call, the same answer for the same request of the same tenant."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from gatewaykit.admission import matches
from gatewaykit.builtin.cache.control import Control, read_control
from gatewaykit.builtin.cache.settings import CacheSettings
from gatewaykit.builtin.cache.stored import Answer, Recording, Unkept, key_of, read
from gatewaykit.builtin.cache.stores import Store
from gatewaykit.errors import GatewayError
from gatewaykit.metrics import Reading, names
from gatewaykit.protocols import AroundCall, Proceed
from gatewaykit.stepping import closing
from gatewaykit.types import CACHE, Attempt, Call, Event, ModelsRequest, Target

HEADER = "x-gatewaykit-cache"
logger = logging.getLogger(__name__)


class NotCached(GatewayError):
    """The client wanted a kept answer or none (RFC 9111, 5.2.1.7)."""

    status = 504
    code = "not_cached"
    default_message = "There is no kept answer to this request, and it was asked for with only-if-cached."


class Cache(AroundCall):
    """Gives kept answers, and keeps those that were whole. ``hits``, ``misses`` and ``kept`` only grow."""

    name = "cache"
    tier = 100  # innermost: guards and tracers see what the client gets

    def __init__(self, settings: CacheSettings, store: Store) -> None:
        self._models = settings.models
        self._room = settings.max_entry_bytes
        self._store = store
        self._putting: set[asyncio.Task[None]] = set()
        self.hits = self.misses = self.kept = 0

    def readings(self) -> Iterator[Reading]:
        """How often it had the answer."""
        for result, count in (("hit", self.hits), ("miss", self.misses)):
            yield Reading(names.CACHE_REQUESTS, count, {names.CACHE: "answers", names.RESULT: result})

    async def around(self, call: Call, proceed: Proceed) -> AsyncIterator[Event]:
        """The kept answer, or that of ``proceed``."""
        if isinstance(call.request, ModelsRequest) or not matches(self._models, call.request.model):
            async with closing(proceed(call)) as events:
                async for event in events:
                    yield event
            return
        control = read_control(call.incoming.headers.get("cache-control"))
        key = _key(call)
        if key is not None and (events_kept := await self._found(call, key, control)) is not None:
            for event in events_kept:
                yield event
            return
        if control.only_if_cached:
            raise NotCached
        self.misses += 1
        call.answer_headers = (*call.answer_headers, (HEADER, "miss"))
        recording = None if control.no_store or key is None else Recording(self._room)
        async with closing(proceed(call)) as events:
            async for event in events:
                if recording is not None:
                    recording.take(event)
                yield event
        if recording is not None and key is not None and (data := recording.whole()) is not None:
            await self._keep(key, data)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """What is being written is written before the gateway stops."""
        loop = asyncio.get_running_loop()
        yield
        while mine := [task for task in tuple(self._putting) if task.get_loop() is loop]:
            await asyncio.gather(*mine)

    async def _found(self, call: Call, key: str, control: Control) -> list[Event] | None:
        """The events of a kept answer that the client accepts; headers and record tell where they come from."""
        if control.no_cache or control.no_store:
            return None
        began = time.monotonic()
        data = await self._store.get(key)
        answer: Answer | None = None if data is None else read(data)
        if answer is None:
            return None
        age = max(0.0, time.time() - answer.at)
        if not control.accepts(age):
            return None
        try:
            events = list(answer.replayed())
        except Unkept as error:
            logger.debug("a kept answer cannot be read: %s", error)
            return None
        self.hits += 1
        call.attempts.append(Attempt(Target(CACHE, call.request.model), time.monotonic() - began))
        call.answer_headers = (*call.answer_headers, (HEADER, "hit"), ("age", str(int(age))))
        return events

    async def _keep(self, key: str, data: bytes) -> None:
        """Keep an answer; the client does not wait for a store that is elsewhere."""
        self.kept += 1
        if self._store.instant:
            await self._store.put(key, data)
            return
        task = asyncio.create_task(self._store.put(key, data))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)


def _key(call: Call) -> str | None:
    """The key; ``None`` for a request that cannot be written down, such as one with half a surrogate pair."""
    try:
        return key_of(call)
    except (TypeError, ValueError, RecursionError):
        return None
