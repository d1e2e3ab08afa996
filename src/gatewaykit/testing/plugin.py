"""The pytest plugin of gatewaykit: fixtures that start gateways. Importing it costs next to nothing."""

from __future__ import annotations
