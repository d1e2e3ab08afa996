"""From the standard ``logging`` to where lines are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from gatewaykit.logs.redaction import as_text
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
        """Pass one record on, with its level, place, further fields and exception. Whoever logs is not harmed by it."""
        from loguru import logger

        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        extra["module"] = record.name
        logger.opt(exception=record.exc_info).bind(**extra).log(level, "{}", _said(record))

    def flush(self) -> None:
        """Let everything be written that was handed on."""
        self._flush()


def _said(record: logging.LogRecord) -> str:
    """The message; where its arguments do not fit, it stands there without them."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever its arguments raise
        return f"{as_text(record.msg)} [without its arguments: {type(error).__name__}]"


class StructuredLines(logging.Handler):
    """Lines that know their own form."""

    def __init__(self, form: Callable[[Structured], bytes], writer: LineWriter) -> None:
        super().__init__()
        self._form = form
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line; never waits."""
        message: Any = record.msg
        try:
            line = self._form(message)
        except Exception:  # noqa: BLE001 - it is told where logging tells of its own failures
            self.handleError(record)
        else:
            self._writer.put(line)

    def take(self, messages: Iterable[Structured]) -> None:
        """Take many lines; never waits. They need no records around them, which take longer to make than lines."""
        self._writer.put_all([self._form(message) for message in messages])
