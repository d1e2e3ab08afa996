"""Stop sequences, which the service does not know: the text is cut here."""

from __future__ import annotations


class StopCutter:
    """Cuts a text, piece by piece, before the stop sequence that is complete first; of several the longest counts.

    Held back is no more than what may be the beginning of a stop sequence, so that any cutting into pieces gives the
    same text.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """What of the text is certain now; nothing more once a stop sequence was met."""
        if self.stopped:
            return ""
        text = self._held + piece
        if (end := self._first(text)) >= 0:
            self.stopped, self._held = True, ""
            return text[:end]
        keep = self._beginning(text)
        if not keep:
            self._held = ""
            return text
        self._held = text[-keep:]
        return text[:-keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        rest, self._held = self._held, ""
        return rest

    def _first(self, text: str) -> int:
        """Where the stop sequence begins that ends first; -1 without one."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else -1

    def _beginning(self, text: str) -> int:
        """The length of the longest end of ``text`` with which a stop sequence begins."""
        longest = 0
        for stop in self._stops:
            at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while at >= 0 and not stop.startswith(text[at:]):
                at = text.find(stop[0], at + 1)
            if at >= 0:
                longest = max(longest, len(text) - at)
        return longest


__all__ = ["StopCutter"]
