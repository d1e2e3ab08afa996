"""What a client wants of the cache: the request's ``Cache-Control`` (RFC 9111, 5.2.1)."""

from __future__ import annotations

import math

from msgspec import Struct


class Control(Struct, frozen=True):
    """``no_store``: keep nothing of this. ``no_cache``: ask anew. ``max_age``: no older answer, in seconds.
    ``only_if_cached``: ask nobody.
    """

    no_store: bool = False
    no_cache: bool = False
    max_age: float = math.inf
    only_if_cached: bool = False

    def accepts(self, age: float) -> bool:
        """Whether an answer of this age, in seconds, will do."""
        return not self.no_cache and age <= self.max_age


PLAIN = Control()


def read_control(header: str | None) -> Control:
    """The directives that matter; others, and such as make no sense, are passed over. The least ``max-age`` counts."""
    if header is None:
        return PLAIN
    names: set[str] = set()
    ages: list[float] = []
    for directive in header.lower().split(","):
        name, _, value = directive.strip().partition("=")
        names.add(name)
        value = value.strip('"')
        if name == "max-age" and value.isdecimal() and value.isascii():
            ages.append(float(value[:12]))
    return Control("no-store" in names, "no-cache" in names, min(ages, default=math.inf), "only-if-cached" in names)
