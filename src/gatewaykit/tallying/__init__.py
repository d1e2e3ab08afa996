"""What the workers count together: each reports to the parent process, which keeps the sums.

Every second, and whenever somebody reads, a worker sends what came on top since its last report. What the parent has,
it keeps, whatever becomes of the worker; of one that is killed, what it had not sent yet is lost, a message that broke
off in the middle included. A parent that does not listen costs a worker nothing: reports wait until it does.
"""

from __future__ import annotations

from gatewaykit.tallying.hub import TallyHub
from gatewaykit.tallying.shared import SharedTally

__all__ = ["SharedTally", "TallyHub"]
