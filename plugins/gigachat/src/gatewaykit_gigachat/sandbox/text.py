"""Counting and cutting text, deterministically."""

from __future__ import annotations

import math
import re

CHARACTERS_PER_TOKEN = 3.5

_WORD = re.compile(r"\s*\S+\s*|\s+")
_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


def count_tokens(text: str) -> int:
    """Tokens of ``text``: its characters by 3.5, rounded up."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def cut_to_tokens(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` that counts at most ``tokens``."""
    return text[: int(tokens * CHARACTERS_PER_TOKEN)]


def chunks(text: str, words: int) -> list[str]:
    """``text`` in pieces of so many words; joined they are ``text`` again."""
    pieces = _WORD.findall(text)
    return ["".join(pieces[start : start + words]) for start in range(0, len(pieces), words)]


def is_russian(text: str) -> bool:
    """Whether ``text`` holds a Cyrillic letter."""
    return _CYRILLIC.search(text) is not None
