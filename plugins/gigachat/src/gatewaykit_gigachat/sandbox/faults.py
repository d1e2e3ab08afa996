"""Scripted faults: the grammar, and the queue of faults for requests to come.

A fault is written as ``word`` or ``word=value``, several joined by ``;``:

==================  ===========================================================================
``status=503``      answer this status with the API's error body
``message=text``    the ``message`` of that body
``retry-after=2``   a ``Retry-After`` header with that value on the error answer
``html=502``        answer this status with a front-end page in HTML
``empty=503``       answer this status with no body
``delay=0.2``       wait so many seconds before the answer
``drop=before``     close the connection instead of answering
``drop=after:3``    close it after 3 events of a stream, or in the middle of a JSON body
``stall=2``         fall silent after 2 events (a JSON answer: after the head) until the client leaves
``garbage=2``       event 2 (default 1) is no JSON; a JSON answer is none either
``half-line=2``     event 2 (default 1) is cut in its middle and the stream ends there
``slow=0.05``       so many seconds between events, or between the eight pieces of a JSON body
``split=7``         write the body in pieces of 7 bytes
``no-done``         end a stream without ``[DONE]``
``finish=length``   finish with ``stop``, ``length``, ``function_call``, ``blacklist`` or ``error``
``revoke-token``    answer 401 ``Token has expired``, and so for this token from now on
==================  ===========================================================================
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LONGEST_WAIT = 3600.0
FINISHES = ("stop", "length", "function_call", "blacklist", "error")

_DIRECTIVE = re.compile(r"\s?\[\[fault:([^\]]*)\]\]")


class FaultSyntaxError(ValueError):
    """A fault that the grammar does not know; the text names the word."""


@dataclass(frozen=True)
class Fault:
    """What shall go wrong with one request; the default is nothing."""

    status: int | None = None
    message: str | None = None
    retry_after: str | None = None
    html: int | None = None
    empty: int | None = None
    delay: float = 0.0
    drop_before: bool = False
    drop_after: int | None = None
    stall: int | None = None
    garbage: int | None = None
    half_line: int | None = None
    slow: float = 0.0
    split: int | None = None
    no_done: bool = False
    finish: str | None = None
    revoke_token: bool = False

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read the grammar of this module; raises :class:`FaultSyntaxError`."""
        fields: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(";"))):
            word, equals, value = (piece.strip() for piece in part.partition("="))
            reader = _WORDS.get(word)
            if reader is None:
                raise FaultSyntaxError(f"unknown word '{word}'")
            try:
                fields.update(reader(value if equals else ""))
            except ValueError as error:
                raise FaultSyntaxError(f"bad value '{value}' for '{word}'") from error
        return cls(**fields)


NO_FAULT = Fault()


def _status(text: str) -> int:
    value = int(text)
    if not 200 <= value <= 599:
        raise ValueError(value)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= LONGEST_WAIT):
        raise ValueError(value)
    return value


def _count(text: str, lowest: int = 0) -> int:
    value = int(text)
    if value < lowest:
        raise ValueError(value)
    return value


def _drop(text: str) -> dict[str, Any]:
    if text == "before":
        return {"drop_before": True}
    word, _, number = text.partition(":")
    if word != "after":
        raise ValueError(text)
    return {"drop_after": _count(number)}


def _finish(text: str) -> dict[str, Any]:
    if text not in FINISHES:
        raise ValueError(text)
    return {"finish": text}


def _switch(field: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if text:
            raise ValueError(text)
        return {field: True}

    return read


def _header_value(text: str) -> dict[str, Any]:
    if not (text.isascii() and text.isprintable()):
        raise ValueError(text)
    return {"retry_after": text}


_WORDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "status": lambda text: {"status": _status(text)},
    "message": lambda text: {"message": text},
    "retry-after": _header_value,
    "html": lambda text: {"html": _status(text)},
    "empty": lambda text: {"empty": _status(text)},
    "delay": lambda text: {"delay": _seconds(text)},
    "drop": _drop,
    "stall": lambda text: {"stall": _count(text or "0")},
    "garbage": lambda text: {"garbage": _count(text or "1", 1)},
    "half-line": lambda text: {"half_line": _count(text or "1", 1)},
    "slow": lambda text: {"slow": _seconds(text)},
    "split": lambda text: {"split": _count(text, 1)},
    "no-done": _switch("no_done"),
    "finish": _finish,
    "revoke-token": _switch("revoke_token"),
}


def extract_directive(text: str) -> tuple[str, Fault | None]:
    """Take ``[[fault: …]]`` out of ``text``; several are joined. Raises :class:`FaultSyntaxError`."""
    found = _DIRECTIVE.findall(text)
    if not found:
        return text, None
    return _DIRECTIVE.sub("", text), Fault.parse(";".join(found))


@dataclass
class _Planned:
    fault: Fault
    path: str | None
    left: int | None


class FaultQueue:
    """Faults for requests to come, first in, first out; safe to use from any thread."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def push(self, fault: Fault | str, *, times: int | None = 1, path: str | None = None) -> None:
        """Apply ``fault`` to the next ``times`` requests (``None``: until cleared).

        ``path`` is the path without its version, e.g. ``/chat/completions`` or ``/oauth``;
        without it every request matches.
        """
        parsed = Fault.parse(fault) if isinstance(fault, str) else fault
        if times is not None and times < 1:
            raise ValueError("times must be at least 1")
        with self._lock:
            self._planned.append(_Planned(dataclasses.replace(parsed), path, times))

    def take(self, path: str) -> Fault | None:
        """The fault for a request to ``path`` that is beginning now."""
        with self._lock:
            for planned in self._planned:
                if planned.path in (None, path):
                    return self._use(planned)
        return None

    def _use(self, planned: _Planned) -> Fault:
        if planned.left is not None:
            planned.left -= 1
            if planned.left == 0:
                self._planned.remove(planned)
        return planned.fault

    def clear(self) -> None:
        """Forget every planned fault."""
        with self._lock:
            self._planned.clear()

    def __len__(self) -> int:
        return len(self._planned)
