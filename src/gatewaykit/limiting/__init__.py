"""Counting limits: the contract, the stores that keep it, and which of them a gateway has.

Plugins may count what is theirs by the same stores: :func:`choose_backend` in a hook, then :meth:`Backend.reserve`.
Their limits need subjects of their own, such as ``acme:NAME``.
"""

from __future__ import annotations

from gatewaykit.limiting.backend import Backend, Charge, Charges, Decision, Standings, new_hold
from gatewaykit.limiting.choosing import choose_backend
from gatewaykit.limiting.memory import LEASE, MemoryBackend
from gatewaykit.limits import Standing

__all__ = [
    "LEASE",
    "Backend",
    "Charge",
    "Charges",
    "Decision",
    "MemoryBackend",
    "Standing",
    "Standings",
    "choose_backend",
    "new_hold",
]
