"""The credential pool: several credentials, the places that each of them has, and a fair queue before them."""

from __future__ import annotations

from .measuring import readings
from .member import Health, Member
from .pool import Pool, QueueBounds
from .queue import FairQueue
from .seats import Ask, Lease, PoolBusy
from .slots import LocalSlots, SharedSlots, Slots
from .snapshot import MemberSnapshot, PoolSnapshot, joined
from .watching import WatchTimes

__all__ = [
    "Ask",
    "FairQueue",
    "Health",
    "Lease",
    "LocalSlots",
    "Member",
    "MemberSnapshot",
    "Pool",
    "PoolBusy",
    "PoolSnapshot",
    "QueueBounds",
    "SharedSlots",
    "Slots",
    "WatchTimes",
    "joined",
    "readings",
]
