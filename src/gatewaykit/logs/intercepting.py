"""From the standard ``logging`` to where lines are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from gatewaykit.logs.writing import LineWriter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@runtime_checkable
class Structured(Protocol):
    """A log message with fields of its own: ``str()`` of it is what other programs' handlers show."""

    def as_document(self, redact: Callable[[str], str]) -> dict[str, Any]:
        """Flat JSON; ``redact`` takes secrets out of a text."""
        ...

    def as_text(self, colours: bool) -> str:
        """One line for people, without its newline."""
        ...


class Intercept(logging.Handler):
    """Hands records of the standard ``logging`` to loguru. ``flush`` waits until all are written."""

    def __init__(self, flush: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._flush = flush

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with its level, place, further fields and exception."""
        from loguru import logger

        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        extra["module"] = record.name
        logger.opt(exception=record.exc_info).bind(**extra).log(level, "{}", record.getMessage())

    def flush(self) -> None:
        """Let everything be written that was handed on."""
        self._flush()


class StructuredLines(logging.Handler):
    """Lines that know their own form."""

    def __init__(self, form: Callable[[Structured], bytes], writer: LineWriter) -> None:
        super().__init__()
        self._form = form
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line; never waits."""
        message: Any = record.msg
        self._writer.put(self._form(message))

    def write(self, messages: Iterable[Structured]) -> None:
        """Write lines on the caller's time. They need no records around them, which take longer to make than lines."""
        self._writer.write([self._form(message) for message in messages])
