"""Marks for texts that people see in their own language: ``tools/catalogues.py`` finds them by these names."""

from __future__ import annotations


def N_(text: str) -> str:  # noqa: N802 - as everybody calls it
    """A text that is translated where it is shown."""
    return text


def NN_(one: str, many: str) -> tuple[str, str]:  # noqa: N802
    """A text for one and for many."""
    return one, many
