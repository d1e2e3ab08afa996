"""The link to Redis or Valkey: scripts and messages, with one deadline, one breaker, and errors of one's own."""

from __future__ import annotations

from gatewaykit.redislink.link import RedisLink
from gatewaykit.redislink.script import Script

__all__ = ["RedisLink", "Script"]
