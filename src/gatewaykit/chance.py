"""Random bits for names that have to differ, not to be secret: ids of requests, traces and holds.

Drawn without asking the system, and from a beginning of each process's own: a forked one would repeat its parent's.
"""

from __future__ import annotations

import os
import random

_source = random.Random()
os.register_at_fork(after_in_child=_source.seed)

bits = _source.getrandbits
"""A number of so many random bits."""
