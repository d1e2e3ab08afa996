"""The course of a call that is no ordinary one: which targets are left, what came of the others, whom to ask again."""

from __future__ import annotations

from gatewaykit.attempts.retries import RetryRules
from gatewaykit.attempts.targets import Targets, TargetState
from gatewaykit.errors import ContextTooLong, GatewayError, ProviderTimeout, ProviderUnavailable
from gatewaykit.types import Call, Target


class Course:
    """The targets of ``call``, in order; those that want to be left alone for a while come last.

    ``left`` are those not tried yet, ``chosen`` is the one that :meth:`choose` has found.
    """

    def __init__(self, call: Call, targets: Targets) -> None:
        self.call = call
        self.left = list(call.targets)
        self._targets = targets
        self._failed: dict[Target, GatewayError] = {}
        self._last: GatewayError | None = None
        self._kind = ""
        self._over = False
        self._opens_in: float | None = None
        self.chosen: tuple[Target, TargetState]

    @property
    def may_pass(self) -> bool:
        """Whether any of the failures may have passed when the target is asked again."""
        return not self._over and any(error.retryable for error in self._failed.values())

    def next(self, now: float) -> tuple[Target, TargetState] | None:
        """The next target to try, which is left no more; ``None`` when there is none."""
        resting = None
        for target in tuple(self.left):
            state = self._targets[target]
            if target.after and self._kind not in target.after:
                continue
            if not state.admits(now):
                if self._left_alone(target, state, now):
                    return self.next(now)
            elif state.resting(now):
                resting = resting or (target, state)
            else:
                return self._go(target, state)
        return None if resting is None else self._go(*resting)

    def beside(self, now: float) -> tuple[Target, TargetState] | None:
        """A target to try beside another one that is silent: one that may well be asked now."""
        for target in self.left:
            state = self._targets[target]
            if not target.after and state.admits(now) and not state.resting(now):
                self.left.remove(target)
                return target, state
        return None

    def failed(self, target: Target, error: GatewayError) -> None:
        """``target`` failed: leave out whom that rules out. Raises ``error`` when no other target can help."""
        self._failed[target] = self._last = error
        self._over = not error.fallback
        if self._over:
            raise error
        if not target.after:
            self.left = [other for other in self.left if _fits(other, target, error)]
            self._rule_out(target, error.code)
            self._over = error.code in target.stops and not self.left and not error.retryable

    def choose(self, rules: RetryRules, number: int, now: float, ends: float) -> float | None:
        """Seconds to wait before asking ``chosen`` again, the best target whose failure may pass; ``None``: nobody.

        ``number`` is that of the further try, from 0; the call ``ends`` at this time.
        """
        if self._over:
            return None
        for target in self.call.targets:
            error = self._failed.get(target)
            if error is None or not error.retryable:
                continue
            state = self._targets[target]
            pause = rules.pause(number, error.retry_after)
            if pause is not None and state.admits(now + pause) and now + pause < ends:
                self.chosen = target, state
                return pause
        return None

    def verdict(self, now: float) -> GatewayError:
        """The error for the client, when nobody answers."""
        if self._last is not None:
            return self._last
        self._last = ProviderUnavailable(retry_after=self._opens_in, detail="all circuits are open")
        return self._last

    def _go(self, target: Target, state: TargetState) -> tuple[Target, TargetState]:
        self.left.remove(target)
        if self._failed:
            self._targets.fallbacks += 1
        return target, state

    def _left_alone(self, target: Target, state: TargetState, now: float) -> bool:
        """Its circuit is open: it counts as failed in the way in which it failed last. Whether others are left now."""
        wait = state.opens_in(now)
        self._opens_in = wait if self._opens_in is None else min(self._opens_in, wait)
        self.left.remove(target)
        return not target.after and self._rule_out(target, state.last_error or ProviderTimeout.code)

    def _rule_out(self, target: Target, kind: str) -> bool:
        """After a failure of this ``kind`` at ``target`` leave those whom that rules out; whether it rules out any."""
        self._kind = kind
        if kind not in target.stops:
            return False
        self.left = [other for other in self.left if kind in other.after]
        return True


def _fits(other: Target, target: Target, error: GatewayError) -> bool:
    """Whether ``other`` can take what was too long for ``target``, as far as their windows are known."""
    if not isinstance(error, ContextTooLong) or target.context is None or other.context is None:
        return True
    return other.context > target.context


__all__ = ["Course"]
