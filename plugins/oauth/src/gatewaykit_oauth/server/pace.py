"""How often somebody may ask for what costs more than it seems to: counted in this process, whatever Redis does."""

from __future__ import annotations

import time
from collections import OrderedDict

from gatewaykit.errors import RateLimited

_SIZE = 10_000


class Pace:
    """Counts by subject, such as an address, in windows of a fixed length."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, subject: str, most: int, seconds: float) -> None:
        """One more. Raises :class:`~gatewaykit.errors.RateLimited` after ``most`` of them within ``seconds``."""
        now = time.monotonic()
        ends, count = self._counts.pop(subject, (0.0, 0))
        if ends <= now:
            ends, count = now + seconds, 0
        self._counts[subject] = (ends, count + 1)
        if len(self._counts) > _SIZE:
            self._counts.popitem(last=False)
        if count >= most:
            raise RateLimited(retry_after=ends - now)
