"""Locks, threads and queues do not survive a fork: what has them begins anew in the child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that can begin anew."""

    def renew(self) -> None:
        """Called in a process that was forked just now, while it has one thread."""
        ...


def renew_after_fork(item: Renewable) -> None:
    """Call ``item.renew()`` in every forked process, as long as the item lives."""
    itself = weakref.ref(item)

    def renew() -> None:
        if (alive := itself()) is not None:
            alive.renew()

    os.register_at_fork(after_in_child=renew)
