"""The attempt scope: from a call with targets to the first event of an answer, or the whole of it.

The targets are tried in order. What fails before its first event is followed by the next target, if another one may
answer; when none is left, by further tries, if the failure may pass and the budget allows. The ordinary case, a first
target that answers, is :meth:`Attempts.open` and :meth:`Attempts.once` and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from msgspec import structs

from gatewaykit.attempts.course import Course
from gatewaykit.attempts.deadline import Deadline
from gatewaykit.attempts.hedging import CANCELLED, Hedging
from gatewaykit.attempts.retries import RETRY_COUNT, RetryRules, stamina
from gatewaykit.attempts.targets import Targets, TargetState
from gatewaykit.errors import (
    GatewayError,
    ModelNotFound,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    ProviderTimeout,
)
from gatewaykit.folding import fold
from gatewaykit.protocols import Provider
from gatewaykit.stepping import astray, closing
from gatewaykit.types import EMPTY, Attempt, Call, EmbeddingsRequest, Event, ModelsRequest, Reply, Target

Opened: TypeAlias = "Begun | Reply"
logger = logging.getLogger(__name__)
_now = time.monotonic
_DO_NOT_RETRY = ("x-should-retry", "false")


class Begun:
    """A stream with its first event; leaving it closes the stream."""

    __slots__ = ("_state", "events", "first", "target")

    def __init__(self, first: Event, events: AsyncIterator[Event], target: Target, state: TargetState) -> None:
        self.first = first
        self.events = events
        self.target = target
        self._state = state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """The stream is over, whichever way."""
        self._state.in_flight -= 1
        await _close(self.events)

    def blame(self, cause: BaseException) -> BaseException:
        """What an error of the stream means; ``cause`` itself where it is not for us to judge."""
        return blamed(cause, self.target)


class Attempts:
    """Opens calls at their targets, by what is known of ``targets`` and within their budgets.

    ``first_event`` and ``whole_call`` are time limits in seconds; ``on_attempt`` hooks are told that one begins.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        targets: Targets,
        rules: RetryRules,
        *,
        first_event: float,
        whole_call: float,
        on_attempt: Sequence[Callable[[Call, Target], None]] = (),
    ) -> None:
        self._providers = providers
        self._targets = targets
        self._rules = rules
        self._on_attempt = tuple(on_attempt)
        self._hedging = Hedging(targets)
        self._first_event = first_event
        self._whole_call = whole_call
        self.begun = cast("Callable[[Call], Awaitable[Begun]]", self.open)
        """A stream with its first event. Raises the error of the last target."""
        self.whole = cast("Callable[[Call], Awaitable[Reply]]", self.open)
        """An answer in one piece. Raises the error of the last target."""

    async def open(self, call: Call) -> Opened:
        """A stream, or an answer in one piece where the request is not streamed."""
        self._targets.budget.call(call.incoming.headers.get(RETRY_COUNT))
        call.allowance = self
        if not call.targets:
            raise ModelNotFound(detail="a transform left no target")
        target = call.targets[0]
        state = self._targets[target]
        began = _now()
        course = None
        try:
            if state.ready and target.hedge is None and not target.after:
                try:
                    return await self.once(call, target, state)
                except GatewayError as error:
                    course = Course(call, self._targets)
                    del course.left[0]
                    course.failed(target, error)
            return await self._follow(course or Course(call, self._targets))
        finally:
            call.waited = _now() - began

    async def once(self, call: Call, target: Target, state: TargetState) -> Opened:
        """One attempt at one target. Raises :class:`~gatewaykit.errors.GatewayError`."""
        asked, events = call, None
        if target.parameters:
            call = _with_parameters(call, target.parameters)
        began = call.tried_at = _now()
        call.target = target
        probe = state.breaker is not None and state.breaker.begin(began)
        state.in_flight += 1
        state.calls += 1
        latency = state.latency(call.request.stream)
        latency.waiting += 1
        first = target.first_event or self._first_event
        deadline = Deadline(first if target.whole_call is None else _patience(target, first, call.request.stream))
        try:
            provider = self._providers[target.provider]
            for hook in self._on_attempt:
                hook(call, target)
            if call.request.stream:
                events = provider.stream(call, target)
                opened: Opened = Begun(await anext(events), events, target, state)
            elif isinstance(call.request, EmbeddingsRequest):
                opened = await provider.embed(call, target)
            else:
                opened = await provider.complete(call, target) or await _folded(provider, call, target)
            if events is None and not isinstance(opened, Reply):
                raise ProviderBadAnswer(detail=f"{type(opened).__name__} is no reply")
        except BaseException as cause:
            error = _judged(cause, target, deadline)
            deadline.end()
            asked.retried = call.retried
            _note_failure(call, state, error, probe)
            latency.waiting -= 1
            if events is not None:
                await _close(events)
            if error is cause:
                raise
            raise error from cause
        deadline.end()
        asked.answer_headers = call.answer_headers
        now = _now()
        call.attempts.append(Attempt(target, now - call.tried_at))
        latency.waiting -= 1
        latency.add(now - began, now)
        if state.breaker is not None:
            state.breaker.end(now, failed=False, seconds=now - began, probe=probe)
        if events is None:
            state.in_flight -= 1
        return opened

    def broke(self, call: Call, error: GatewayError) -> None:
        """The answer to ``call`` had begun, and failed."""
        target = call.attempts[-1].target if call.attempts and call.attempts[-1].error is None else None
        if target is not None and isinstance(error, ProviderError):
            state = self._targets[target]
            state.failures += 1
            state.last_error = error.code
            if state.breaker is not None:
                state.breaker.broke(_now())

    def grant(self, call: Call, error: GatewayError) -> bool:
        """Whether the provider itself may try ``call`` once more; see :class:`~gatewaykit.types.Allowance`."""
        target = call.target
        if target is None or self._others(call, target) or not self._allows(call, error):
            return False
        now = _now()
        call.attempts.append(Attempt(target, now - call.tried_at, error.code))
        call.tried_at = now
        return True

    async def _follow(self, course: Course) -> Opened:
        """Try the targets that are left, then again those whose failure may pass."""
        opened = await self._through(course)
        return await self._again(course) if opened is None else opened

    async def _through(self, course: Course) -> Opened | None:
        """Try the targets that are left; ``None`` when none of them answers."""
        call = course.call
        while (found := course.next(_now())) is not None:
            target, state = found
            if target.hedge is not None and course.left:
                opened = await self._hedging.race(self.once, course, found)
                if opened is not None:
                    return cast("Opened", opened)
                continue
            try:
                return await self.once(call, target, state)
            except GatewayError as error:
                course.failed(target, error)
        return None

    async def _again(self, course: Course) -> Opened:
        """Try again, with pauses, what may have passed. Raises the last error."""
        error, call = course.verdict(_now()), course.call
        if not self._rules.attempts or not course.may_pass:
            raise error
        known: GatewayError | None = error
        asked = 0

        def pause(error: Exception) -> float | bool:
            nonlocal asked
            asked += 1
            seconds = course.choose(self._rules, asked - 1, _now(), call.arrived + self._whole_call)
            if seconds is None or not self._allows(call, course.verdict(_now())):
                return False
            self._targets.retries += 1
            return seconds

        tries = (await stamina()).retry_context(on=pause, attempts=self._rules.attempts + 1, timeout=None)
        async for attempt in tries:
            with attempt:
                if known is not None:
                    failure, known = known, None
                    raise failure
                target, state = course.chosen
                if not state.admits(_now()):  # somebody else probes it since the pause began
                    raise course.verdict(_now())
                try:
                    return await self.once(call, target, state)
                except GatewayError as again:
                    course.failed(target, again)
                if (opened := await self._through(course)) is not None:
                    return opened
                raise course.verdict(_now())
        raise AssertionError("stamina returns or raises")

    def _allows(self, call: Call, error: GatewayError) -> bool:
        """Whether one more try is left to this call, and to all together; without, clients are told not to try."""
        if call.retried >= self._rules.attempts:
            return False
        if not self._targets.budget.take():
            if _DO_NOT_RETRY not in error.headers:
                error.headers = (*error.headers, _DO_NOT_RETRY)
            return False
        call.retried += 1
        return True

    def _others(self, call: Call, target: Target) -> bool:
        """Whether a target is left that has not been tried."""
        tried = {attempt.target for attempt in call.attempts} | {target}
        now = _now()
        return any(
            other not in tried and not other.after and self._targets[other].admits(now) for other in call.targets
        )


def blamed(cause: BaseException, target: Target) -> BaseException:
    """``cause`` if it is an error of ours, or somebody has ended the call; else it is the provider's defect, and the
    log has it.
    """
    if isinstance(cause, GatewayError) or not (isinstance(cause, Exception) or _let_out(cause)):
        return cause
    if isinstance(cause, StopAsyncIteration):
        return ProviderBadAnswer(detail="the stream is empty")
    if isinstance(cause, TimeoutError):
        return ProviderTimeout(detail=f"{target.provider}: no answer in time")
    logger.error("provider %s failed: %s", target.provider, type(cause).__name__, exc_info=cause)
    return ProviderError(detail=f"{target.provider}: {type(cause).__name__}")


def counts_as_failure(error: GatewayError) -> bool:
    """Whether ``error`` says that the target is not well: one that is at its limit, or does not serve this, is well."""
    return isinstance(error, ProviderError) and not isinstance(error, ProviderBusy | ProviderDenied)


def _patience(target: Target, first: float, stream: bool) -> float:
    """Seconds until ``target`` must have begun to answer; an answer in one piece is complete by then."""
    whole = target.whole_call or first
    return min(first, whole) if stream else whole


def _judged(cause: BaseException, target: Target, deadline: Deadline) -> BaseException:
    """What ended an attempt: ``cause`` itself where it is not for us to judge."""
    if isinstance(cause, asyncio.CancelledError) and deadline.passed():
        return ProviderTimeout(detail=f"{target.provider}: no answer in time")
    return blamed(cause, target)


def _let_out(cause: BaseException) -> bool:
    return isinstance(cause, asyncio.CancelledError) and astray()


def _note_failure(call: Call, state: TargetState, error: BaseException, probe: bool) -> None:
    now = _now()
    state.in_flight -= 1
    if not isinstance(error, GatewayError):
        call.attempts.append(Attempt(state.target, now - call.tried_at, CANCELLED))
        if state.breaker is not None:
            state.breaker.drop(probe=probe)
        return
    call.attempts.append(Attempt(state.target, now - call.tried_at, error.code))
    failed = counts_as_failure(error)
    if failed:
        state.failures += 1
        state.last_error = error.code
    if isinstance(error, ProviderTimeout):
        state.latency(call.request.stream).missed(now - call.tried_at, now)
    elif isinstance(error, ProviderBusy) and error.retry_after and error.retryable:
        state.rest(error.retry_after, now)
    if state.breaker is not None:
        state.breaker.end(now, failed=failed, probe=probe)


def _with_parameters(call: Call, parameters: Mapping[str, Any]) -> Call:
    """``call`` with ``parameters`` where its client said nothing; its bytes cannot pass unread then."""
    request = call.request
    if isinstance(request, ModelsRequest):
        return call
    known = {
        name: value for name, value in parameters.items() if hasattr(request, name) and getattr(request, name) is None
    }
    further = {
        name: value for name, value in parameters.items() if not hasattr(request, name) and name not in request.extra
    }
    if not known and not further:
        return call
    extra = {**request.extra, **further} if further else request.extra or EMPTY
    return structs.replace(call, request=structs.replace(request, **known, extra=extra), raw_dialect=None)


async def _folded(provider: Provider, call: Call, target: Target) -> Reply:
    """What the provider's stream adds up to."""
    async with closing(provider.stream(call, target)) as events:
        return await fold(events)


async def _close(events: AsyncIterator[Event]) -> None:
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()


__all__ = ["Attempts", "Begun", "Opened", "blamed", "counts_as_failure"]
