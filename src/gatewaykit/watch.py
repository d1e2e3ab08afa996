"""What may end a call from outside: its client leaves, or a time limit passes.

ASGI servers do not raise when a client leaves; one has to ask ``receive``. A :class:`Watch` asks, keeps one timer
for all limits (rearmed when it fires, so that an event costs one assignment), and cancels the task of the call with
a reason. It begins to ask a little late: what a cache or a quick provider answers, also through a busy gateway, is over
by then and needs no second task, and what a model does in so short a time is hardly worth saving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from gatewaykit.errors import ClientGone, GatewayError, ProviderTimeout
from gatewaykit.stepping import astray

Receive = Callable[[], Awaitable[Any]]
LISTEN_AFTER = 0.08
"""Seconds after which a call's client is listened to."""

LEAVE_SECONDS = 5.0
"""How long those who are in a call that was cut off may take to leave it, before what they wait for is cut off too."""


class Watch:
    """Guards the body of an ``async with``; leaving by its hand raises the reason instead of ``CancelledError``.

    ``between`` (seconds without an event) counts from :meth:`flow` on; ``whole`` from the beginning. ``idle`` is
    awaited whenever nothing was sent for ``keepalive`` seconds while events flow.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        between: float,
        whole: float,
        keepalive: float,
        idle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._receive = receive
        self._between = between
        self._whole = whole
        self._keepalive = keepalive
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._reason: GatewayError | None = None
        self._cuts = 0
        self._ended = False
        self._flowing = False
        self._listener: asyncio.Task[None] | None = None
        self._comment: asyncio.Task[None] | None = None
        self.last_event = self.last_sent = 0.0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Watch needs a running task")
        self._task = task
        self._cancelling = task.cancelling()
        self._began = self._loop.time()
        self._timer: asyncio.Handle = self._loop.call_at(self._began + min(LISTEN_AFTER, self._whole), self._tick)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self.end()
        if self._reason is None:
            if isinstance(error, asyncio.CancelledError) and astray():
                raise RuntimeError("something in the call was cancelled, and the call was not") from error
            return
        for _ in range(self._cuts):
            self._task.uncancel()
        # A cancellation by somebody else, at the same time, goes before.
        if self._task.cancelling() <= self._cancelling and error is not None:
            raise self._reason from None

    def flow(self, between: float | None = None, rest: float | None = None) -> None:
        """The first event has come: from now on pauses are limited and filled.

        ``between`` replaces the limit of pauses. What comes now may take ``rest`` seconds, if not less is left anyway.
        """
        self._flowing = True
        if between is not None:
            self._between = between
        if rest is not None:
            self._whole = min(self._whole, self._loop.time() - self._began + rest)
        self.last_event = self.last_sent = self._loop.time()
        self._timer.cancel()
        # Not at once: a task that cancels itself would not hear of it before its next wait.
        self._timer = self._loop.call_soon(self._tick)

    def touch(self) -> None:
        """An event has come."""
        self.last_event = self._loop.time()

    def end(self) -> None:
        """Nothing can cut the call off any more: its last bytes are on their way."""
        self._ended = True
        self._idle = None  # which holds who made us, and is freed with the call only if no circle is left
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        if self._comment is not None:
            self._comment.cancel()

    async def _listen(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except OSError:
            pass  # some servers raise where others report the disconnect
        self._cut(ClientGone())

    def _tick(self) -> None:
        now = self._loop.time()
        if self._listener is None and now >= self._began + LISTEN_AFTER:
            self._listener = self._loop.create_task(self._listen())
        next_tick = self._began + self._whole
        if now >= next_tick:
            return self._cut(ProviderTimeout("The answer took longer than this gateway allows."))
        if self._flowing:
            if now >= self.last_event + self._between:
                return self._cut(ProviderTimeout("The model provider stopped in the middle of its answer."))
            if now >= self.last_sent + self._keepalive:
                self._fill(now)
            next_tick = min(next_tick, self.last_event + self._between, self.last_sent + self._keepalive)
        if self._listener is None:
            next_tick = min(next_tick, self._began + LISTEN_AFTER)
        self._timer = self._loop.call_at(next_tick, self._tick)
        return None

    def _fill(self, now: float) -> None:
        self.last_sent = now
        if self._idle is not None and (self._comment is None or self._comment.done()):
            self._comment = self._loop.create_task(self._send_comment(self._idle))

    async def _send_comment(self, idle: Callable[[], Awaitable[None]]) -> None:
        try:
            await idle()
        except ClientGone as gone:
            self._cut(gone)

    def _cut(self, reason: GatewayError) -> None:
        if not self._ended and self._reason is None:
            self._reason = reason
            self._cancel()

    def _cancel(self) -> None:
        """Cancel the call, and again after a while: a provider that waits as it cleans up could hold it for ever."""
        self._cuts += 1
        self._task.cancel()
        self._timer.cancel()
        self._timer = self._loop.call_later(LEAVE_SECONDS, self._cancel)
