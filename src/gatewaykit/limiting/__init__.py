"""Counting limits: the contract, and the stores that keep it."""

from __future__ import annotations

from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.memory import LEASE, MemoryBackend
from gatewaykit.limits import Standing

__all__ = ["LEASE", "Backend", "Charge", "Decision", "MemoryBackend", "Standing"]
