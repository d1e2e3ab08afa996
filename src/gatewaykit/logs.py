"""Logs of a running gateway, by loguru: one JSON object a line for machines, or coloured text on a terminal.

Library code logs through the standard ``logging``, so that a host application keeps its own habits; only
:func:`configure_logs`, called by the command line, takes those records over.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
from loguru import logger

from gatewaykit.settings import LogSettings

if TYPE_CHECKING:
    from loguru import Message

_TEXT = "<green>{time:HH:mm:ss}</green>  <level>{level: <7}</level>  {message}  <dim>{extra[module]}</dim>\n{exception}"
_LIBRARY_LEVELS = {"uvicorn.error": logging.WARNING, "httpx": logging.WARNING, "httpcore": logging.WARNING}


class Intercept(logging.Handler):
    """Hands records of the standard ``logging`` to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with its level, place and exception."""
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(module=record.name).log(level, "{}", record.getMessage())


def configure_logs(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send everything to ``stream`` (standard output), in the form that the settings name.

    Values of variables are never part of a traceback: they may be secrets.
    """
    out = stream or sys.stdout
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    logger.remove()
    logger.configure(extra={"module": "gatewaykit"})
    sink: Any = _JsonLines(out) if as_json else out
    logger.add(sink, level=settings.level.upper(), format=_TEXT, diagnose=False, backtrace=False)
    logging.basicConfig(handlers=[Intercept()], level=settings.level.upper(), force=True)
    for name, level in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, logging.getLevelName(settings.level.upper())))


class _JsonLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, message: Message) -> None:
        record = message.record
        document: dict[str, Any] = {
            "time": record["time"].isoformat(timespec="milliseconds"),
            "level": record["level"].name.lower(),
            "event": "log",
            "logger": record["extra"].get("module", ""),
            "message": record["message"],
        }
        if record["exception"] is not None:
            document["exception"] = str(message).partition("\n")[2].strip()
        self._stream.write(msgspec.json.encode(document).decode() + "\n")
        self._stream.flush()
