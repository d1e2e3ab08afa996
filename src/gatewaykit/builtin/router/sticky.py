"""Sticky routing: every turn of a conversation goes to the same target, as long as it is there.

Targets have points on a ring, in number by weight; a conversation belongs to the next point (consistent hashing). So a
target that comes or goes moves its own conversations and no others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

from gatewaykit.types import Call, ChatRequest, Target

POINTS = 64
"""Points of a target with weight 1."""

_ENOUGH = 2048


class Ring:
    """The points of ``targets``; those without weight have none."""

    def __init__(self, targets: Sequence[Target], weights: Sequence[float]) -> None:
        points = sorted(
            (_number(f"{target}\0{number}".encode()), position)
            for position, (target, weight) in enumerate(zip(targets, weights, strict=True))
            for number in range(ceil(POINTS * weight))
        )
        self._places = [place for place, _ in points]
        self._owners = [owner for _, owner in points]

    def owners(self, conversation: int) -> tuple[int, int | None]:
        """The positions of the target that a conversation belongs to, and of the next one."""
        count = len(self._owners)
        start = bisect_left(self._places, conversation)
        first = self._owners[start % count]
        for step in range(start + 1, start + count):
            if (owner := self._owners[step % count]) != first:
                return first, owner
        return first, None


def conversation(call: Call) -> int:
    """A number for the conversation: from the client's own name for it, or from how it begins."""
    request, tenant = call.request, call.principal.tenant
    if not isinstance(request, ChatRequest):
        return _number(call.body[:_ENOUGH])
    if request.session:
        return _number(f"{tenant}\0{request.session}".encode(errors="replace"))
    told = [tenant]
    for message in request.messages:
        told.append(message.text[:_ENOUGH])
        if message.role == "user":
            break
    return _number("\0".join(told).encode(errors="replace"))


def _number(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
