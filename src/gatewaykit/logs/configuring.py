"""The one place that takes over a process's logs."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.logs.files import RotatingFile, Stream
from gatewaykit.logs.holding import HeldLogs
from gatewaykit.logs.intercepting import Intercept, Structured, StructuredLines
from gatewaykit.logs.lines import encode_line, json_line, no_colours, text_line
from gatewaykit.logs.redaction import Redactor, secrets_in
from gatewaykit.logs.writing import LineWriter, Sink
from gatewaykit.settings import DEFAULT, LogSettings, Settings

if TYPE_CHECKING:
    from loguru import Message

ACCESS = "gatewaykit.access"
"""The logger of the access log."""

_LIBRARY_LEVELS = {
    "uvicorn.error": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "asyncio": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.INFO,
    "stamina": logging.ERROR,
}
"""Least severe levels of libraries, whatever is configured: below them they tell of headers, statements and bodies."""

_writers: list[LineWriter] = []
logger = logging.getLogger("gatewaykit")


def configure_logs(settings: Settings, held: HeldLogs | None = None, *, take_stdout: bool = False) -> None:
    """Send everything to standard output or to ``log.file``, in the form that the settings name; the records ``held``
    first. With ``take_stdout`` what is printed becomes lines of the log too, where those are JSON.

    Secrets of the settings are masked, and the values of variables are never part of a traceback. Raises
    :class:`~gatewaykit.errors.ConfigError` when the file cannot be written.
    """
    log = settings.log
    as_json = log.format == "json" or (log.format == "auto" and (log.file is not None or not sys.stdout.isatty()))
    writer = LineWriter(_sink(settings))
    _writers[:] = [writer]
    redact = Redactor(secrets_in(settings.sections))
    colours = not as_json and log.file is None and sys.stdout.isatty() and not no_colours()
    _configure_loguru(log, writer, redact, as_json, colours)
    intercept = Intercept(writer.flush)
    level = logging.getLevelName(log.level.upper())
    logging.basicConfig(handlers=[intercept], level=level, force=True)
    logging.captureWarnings(True)
    for name, at_least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(at_least, level))
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    _configure_access_log(writer, redact, level, as_json, colours)
    _log_what_nobody_catches()
    for record in held.records if held is not None else ():
        if logging.getLogger(record.name).isEnabledFor(record.levelno):
            intercept.emit(record)
    if take_stdout and as_json and log.file is None:
        sys.stdout = Printed(sys.stdout)


def dropped_lines() -> Mapping[str, int]:
    """How many lines this process lost since it began: ``full``, for too many waited, or ``failed`` to be written."""
    return {reason: sum(writer.dropped[reason] for writer in _writers) for reason in ("full", "failed")}


def _sink(settings: Settings) -> Sink:
    log = settings.log
    if log.file is None:
        sys.stdout.flush()
        return Stream(sys.stdout.fileno())
    file = RotatingFile(log.file, log.rotation)
    try:
        file.check()
    except OSError as error:
        origin = settings.origins.get("log.file", DEFAULT)
        raise ConfigError([ConfigFault(f"log.file: cannot be written: {error.strerror}", origin)]) from None
    return file


def _configure_loguru(log: LogSettings, writer: LineWriter, redact: Redactor, as_json: bool, colours: bool) -> None:
    from loguru import logger as loguru

    def put_json(message: Message) -> None:
        writer.put(json_line(message, redact))

    def put_text(message: Message) -> None:
        writer.put(text_line(message, redact, colours).encode("utf-8", "backslashreplace"))

    loguru.remove()
    loguru.configure(extra={"module": "gatewaykit"})
    put: Any = put_json if as_json else put_text
    loguru.add(put, level=log.level.upper(), format=_exception_alone, colorize=False, diagnose=False, backtrace=False)


def _exception_alone(_: object) -> str:
    return "{exception}"


def _configure_access_log(writer: LineWriter, redact: Redactor, level: int, as_json: bool, colours: bool) -> None:
    """Its lines take the short way: there are many of them."""

    remembered = lru_cache(maxsize=1024)(redact)  # models and paths come again and again

    def json_form(message: Structured) -> bytes:
        return encode_line(message.as_document(remembered))

    def text_form(message: Structured) -> bytes:
        return redact(message.as_text(colours)).encode("utf-8", "backslashreplace") + b"\n"

    access = logging.getLogger(ACCESS)
    for handler in access.handlers[:]:
        access.removeHandler(handler)
    access.addHandler(StructuredLines(json_form if as_json else text_form, writer))
    access.setLevel(min(level, logging.INFO))
    access.propagate = False


def _log_what_nobody_catches() -> None:
    """A traceback on standard error would be lost where only the log is kept."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("stopped by %s", kind.__name__, exc_info=(kind, error, trace))

    def uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else "?"
            logger.critical("thread %s ended by %s", name, arguments.exc_type.__name__, exc_info=arguments.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread


def _is_news(record: logging.LogRecord) -> bool:
    """Calls that are cut when the gateway stops end with this; how many were cut has been said before."""
    from asyncio import CancelledError

    return record.exc_info is None or not isinstance(record.exc_info[1], CancelledError)


class Printed(io.TextIOBase):
    """Standard output for code that prints: each line becomes a line of the log."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the log."""
        return "utf-8"

    def fileno(self) -> int:
        """The descriptor beneath."""
        return int(self._stream.fileno())

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are complete."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            logging.getLogger("stdout").info(line)
        return len(text)
