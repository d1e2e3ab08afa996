"""``[cache]``: which answers are kept, where, and for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gatewaykit.settings import Seconds, Section


class CacheSettings(Section):
    """Answers that are given again to the same tenant for the same request. Off by default."""

    section = "cache"

    enabled: bool = Field(False, description="Keep answers, and give them again.")
    store: Literal["auto", "memory", "redis"] = Field(
        "auto",
        description="Where answers are kept. `auto`: Redis where `redis.url` is set, else each process's memory.",
    )
    ttl: Seconds = Field(300.0, description="Seconds that an answer is kept.")
    models: tuple[str, ...] = Field(("*",), description="Models, by glob, whose answers are kept.")
    max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Most bytes in each process's memory.")
    max_entry_bytes: int = Field(1024 * 1024, ge=1, description="Largest answer that is kept, in bytes.")
