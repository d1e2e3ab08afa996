"""What can be measured: the words for it, and the list of everything that this project measures.

A plugin's object says how it stands by a method ``readings``; see :class:`Reading`. The names of what the gateway and
its own plugins measure stand in :mod:`gatewaykit.metrics.names`, and nowhere else.
"""

from __future__ import annotations

from gatewaykit.metrics.instruments import Distribution, Kind, Merge, Metric, Reading

__all__ = ["Distribution", "Kind", "Merge", "Metric", "Reading"]
