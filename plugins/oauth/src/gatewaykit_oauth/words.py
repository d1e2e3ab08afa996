"""Marks for texts that people see in their own language: ``tools/catalogues.py`` finds them by these names."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


def N_(text: str) -> str:  # noqa: N802 - as everybody calls it
    """A text that is translated where it is shown."""
    return text


def NN_(one: str, many: str) -> tuple[str, str]:  # noqa: N802
    """A text for one and for many."""
    return one, many


class Filled(Struct, frozen=True):
    """A text with something filled in, that can be said in any language.

    ``text`` is what is translated, or ``many`` for another ``number`` than one; ``given`` are the values by name.
    """

    text: str
    given: Mapping[str, str | int]
    many: str | None = None
    number: int = 1

    def __str__(self) -> str:
        """In English."""
        return (self.text if self.many is None or self.number == 1 else self.many) % self.given


def filled(text: str, **given: str | int) -> Filled:
    """``text`` with values in place of its ``%(name)s``."""
    return Filled(text, given)


def counted(one: str, many: str, number: int, **given: str | int) -> Filled:
    """The text for this number, which stands where the text says ``%(n)s``."""
    return Filled(one, {"n": number, **given}, many, number)
