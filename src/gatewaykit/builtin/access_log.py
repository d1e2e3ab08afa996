"""One line for each request: JSON for machines, or text on a terminal.

It goes to the logger ``gatewaykit.access``: to standard output or a file where the command line has taken over the
logs, and to a host application's own handlers where the gateway is mounted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from gatewaykit.hookspecs import hookimpl
from gatewaykit.logs import visible
from gatewaykit.protocols import GatewayContext, Observer
from gatewaykit.settings import LogSettings
from gatewaykit.types import CallRecord

Redact: TypeAlias = Callable[[str], str]
logger = logging.getLogger("gatewaykit.access")
_FAULTS = {2: "32", 3: "36", 4: "33", 5: "31"}
_DIM, _BOLD = "2", "1"


def as_document(record: CallRecord, redact: Redact = str) -> dict[str, Any]:
    """The record as flat JSON: durations in milliseconds, nothing of prompts, answers or credentials.

    ``redact`` goes over what a client made up: somebody will send a key as the name of a model.
    """
    usage = record.usage
    model = redact(record.model) if record.model else record.model
    return {
        "time": datetime.fromtimestamp(record.began, UTC).isoformat(timespec="milliseconds"),
        "level": "info",
        "event": "request",
        "logger": logger.name,
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "client": record.client,
        "method": record.method,
        "route": record.route,
        "path": redact(record.path),
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "duration_ms": round(record.seconds * 1000, 2),
        "first_event_ms": _milliseconds(record.first_event_seconds),
        "overhead_ms": _milliseconds(_overhead(record)),
        "key_id": record.principal,
        "owner": record.owner,
        "model": model,
        "provider": record.target.provider if record.target else None,
        "target": redact(str(record.target)) if record.target else None,
        "attempts": len(record.attempts),
        "stream": record.stream,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "estimated": usage.estimated if usage else None,
    }


def as_text(record: CallRecord, colours: bool = False) -> str:
    """The record as one line for people."""
    when = datetime.fromtimestamp(record.began).astimezone().strftime("%H:%M:%S")
    usage = record.usage
    tokens = f"{usage.input_tokens}→{usage.output_tokens} tokens" if usage else ""
    first = f"first {record.first_event_seconds * 1000:.0f} ms" if record.stream and record.first_event_seconds else ""
    fault = _FAULTS.get(record.status // 100, "35")
    columns = [
        (when, _DIM),
        (str(record.status), fault),
        (f"{record.seconds * 1000:8.1f} ms", ""),
        (f"{record.method} {record.path}", _BOLD),
        (str(record.target or record.model or ""), ""),
        (tokens, ""),
        (first, ""),
        (record.error or "", fault),
        (record.principal or "-", _DIM),
        (record.request_id, _DIM),
    ]
    return "  ".join(_painted(visible(text), colour if colours else "") for text, colour in columns if text)


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


class AccessLine:
    """A record as the message of a log record: text for any handler, and a document for those that know it."""

    __slots__ = ("record",)

    def __init__(self, record: CallRecord) -> None:
        self.record = record

    def __str__(self) -> str:
        return as_text(self.record)

    def as_document(self, redact: Redact) -> dict[str, Any]:
        """Flat JSON."""
        return as_document(self.record, redact)

    def as_text(self, colours: bool) -> str:
        """One line for people."""
        return as_text(self.record, colours)


class AccessLog(Observer):
    """Logs records; what gathers lines is flushed once for each batch."""

    name = "access-log"

    def record(self, record: CallRecord) -> None:
        """Log one line."""
        if logger.isEnabledFor(logging.INFO):
            logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, AccessLine(record), (), None))

    def flush(self) -> None:
        """Let the lines be seen."""
        for handler in logger.handlers:
            handler.flush()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _overhead(record: CallRecord) -> float | None:
    provider = record.timings.get("provider")
    return None if provider is None or record.stream else record.seconds - provider


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The access log, unless it is switched off."""
    return [AccessLog()] if gateway.settings.get(LogSettings).access else []
