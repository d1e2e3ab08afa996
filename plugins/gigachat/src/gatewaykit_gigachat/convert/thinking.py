"""Reasoning that a model writes into its text, as ``<think>…</think>`` at the very beginning."""

from __future__ import annotations

from enum import Enum, auto

_OPEN = "<think>"
_CLOSE = "</think>"


class _State(Enum):
    BEGINNING = auto()
    THINKING = auto()
    AFTER = auto()
    TEXT = auto()


class ThinkSplitter:
    """Divides a text, piece by piece, into reasoning and answer; any cutting into pieces gives the same result."""

    def __init__(self) -> None:
        self._state = _State.BEGINNING
        self._held = ""

    def feed(self, piece: str) -> tuple[str, str]:
        """What is certain now: more reasoning, more text."""
        if self._state is _State.TEXT:
            return "", piece
        text, self._held = self._held + piece, ""
        if self._state is _State.BEGINNING:
            text, known = self._begin(text)
            if not known:
                return "", ""
        reasoning = ""
        if self._state is _State.THINKING:
            reasoning, text = self._think(text)
        if self._state is _State.AFTER:
            text = text.lstrip()
            self._state = _State.TEXT if text else _State.AFTER
        return reasoning, text

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        rest, self._held = self._held, ""
        return (rest, "") if self._state is _State.THINKING else ("", rest)

    def _begin(self, text: str) -> tuple[str, bool]:
        """The text behind the opening tag, if there is one, and whether that is known yet."""
        start = text.lstrip()
        if start.startswith(_OPEN):
            self._state = _State.THINKING
            return start[len(_OPEN) :], True
        if _OPEN.startswith(start):
            self._held = text
            return "", False
        self._state = _State.TEXT
        return text, True

    def _think(self, text: str) -> tuple[str, str]:
        """More reasoning, and the text behind the closing tag."""
        reasoning, tag, rest = text.partition(_CLOSE)
        if tag:
            self._state = _State.AFTER
            return reasoning, rest
        keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""


__all__ = ["ThinkSplitter"]
