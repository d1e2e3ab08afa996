"""The live page: what the gateway does now, by the sums that ``/metrics`` shows, with the last quarter of an hour.

Nothing is counted for it. Every ten seconds one process reads the sums and keeps those few that are drawn as lines.
"""

from __future__ import annotations
