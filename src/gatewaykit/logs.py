"""Logs of a running gateway, by loguru: one JSON object a line for machines, or coloured text on a terminal.

Library code logs through the standard ``logging``, so that a host application keeps its own habits; only the command
line takes those records over: first :func:`hold_logs`, for nobody knows yet where they go, then :func:`configure_logs`.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from loguru import Message

    from gatewaykit.settings import LogSettings

_TEXT = "<green>{time:HH:mm:ss}</green>  <level>{level: <7}</level>  {message}  <dim>{extra[module]}</dim>\n{exception}"
_JSON = "{exception}"
_LIBRARY_LEVELS = {
    "uvicorn.error": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "stamina": logging.ERROR,
}
_ATOMIC = 4096
"""Bytes that the system writes to a pipe in one piece (POSIX, write: PIPE_BUF; Linux has this value)."""


class HeldLogs(logging.Handler):
    """Keeps the records until it is known who wants them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)

    def warnings(self) -> list[str]:
        """What was said of level warning and above, each text once."""
        said = (record.getMessage() for record in self.records if record.levelno >= logging.WARNING)
        return list(dict.fromkeys(said))


def hold_logs() -> HeldLogs:
    """Hold back all that the standard ``logging`` gets from now on, unless handlers of another program are there."""
    held = HeldLogs()
    logging.basicConfig(handlers=[held], level=logging.INFO)
    return held


def configure_logs(settings: LogSettings, held: HeldLogs | None = None) -> None:
    """Send everything to standard output, in the form that the settings name; the records ``held`` first.

    Values of variables are never part of a traceback: they may be secrets.
    """
    from loguru import logger

    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stdout.isatty())
    level = settings.level.upper()
    if as_json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    logger.remove()
    logger.configure(extra={"module": "gatewaykit"})
    sink: Any = _json_line if as_json else sys.stdout
    colours = not as_json and sys.stdout.isatty() and not no_colours()
    form = _JSON if as_json else _TEXT
    logger.add(sink, level=level, format=form, colorize=colours, diagnose=False, backtrace=False)
    intercept = Intercept()
    logging.basicConfig(handlers=[intercept], level=level, force=True)
    for name, at_least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(at_least, logging.getLevelName(level)))
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    for record in held.records if held is not None else ():
        if logging.getLogger(record.name).isEnabledFor(record.levelno):
            intercept.emit(record)


def no_colours() -> bool:
    """Whether the user wants none (no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _is_news(record: logging.LogRecord) -> bool:
    """Calls that are cut when the gateway stops end with this; how many were cut has been said before."""
    from asyncio import CancelledError

    return record.exc_info is None or not isinstance(record.exc_info[1], CancelledError)


class Intercept(logging.Handler):
    """Hands records of the standard ``logging`` to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with its level, place and exception."""
        from loguru import logger

        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(module=record.name).log(level, "{}", record.getMessage())


class WholeLines:
    """A stream that writes complete lines in pieces that no other process's can be mixed into, where lines allow it.

    ``write`` takes whole lines and keeps them; ``flush`` writes them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def write(self, line: str) -> int:
        """Keep a line for the next :meth:`flush`."""
        self._lines.append(line)
        return len(line)

    def flush(self) -> None:
        """Write what was kept."""
        lines, self._lines = self._lines, []
        piece: list[str] = []
        size = 0
        for line in lines:
            length = len(line.encode("utf-8", "replace"))
            if piece and size + length > _ATOMIC:
                self._put(piece)
                piece, size = [], 0
            piece.append(line)
            size += length
        if piece:
            self._put(piece)

    def _put(self, piece: list[str]) -> None:
        self._stream.write("".join(piece))
        self._stream.flush()


def _json_line(message: Message) -> None:
    import msgspec

    record = message.record
    document: dict[str, Any] = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "event": "log",
        "logger": record["extra"].get("module", ""),
        "message": record["message"],
    }
    if record["exception"] is not None:
        document["exception"] = str(message).strip()
    text = {key: value.encode("utf-8", "backslashreplace").decode() for key, value in document.items()}
    sys.stdout.write(msgspec.json.encode(text).decode() + "\n")
    sys.stdout.flush()
