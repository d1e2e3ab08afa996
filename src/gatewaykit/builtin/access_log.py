"""One line for each request: JSON for machines, or text on a terminal.

It goes to the logger ``gatewaykit.access``: to standard output or a file where the command line has taken over the
logs, and to a host application's own handlers where the gateway is mounted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from gatewaykit.hookspecs import hookimpl
from gatewaykit.logs import StructuredLines, dropped_lines, visible
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import LOG_DROPPED, REASON
from gatewaykit.protocols import GatewayContext, Observer, Readable
from gatewaykit.settings import LogSettings
from gatewaykit.types import CallRecord, RouteRecord

Redact: TypeAlias = Callable[[str], str]
logger = logging.getLogger("gatewaykit.access")
_FAULTS = {2: "32", 3: "36", 4: "33", 5: "31"}
_DIM, _BOLD = "2", "1"
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


def as_document(record: CallRecord, redact: Redact = str) -> dict[str, Any]:
    """The record as flat JSON: durations in milliseconds, nothing of prompts, answers or credentials.

    ``redact`` goes over what a client made up: somebody will send a key as the name of a model.
    """
    usage, target = record.usage, record.target
    provider = record.timings.get("provider")
    overhead = None if provider is None or record.stream else record.seconds - provider
    return {
        "time": _clock(record.began),
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
        "duration_ms": _milliseconds(record.seconds),
        "first_event_ms": _milliseconds(record.first_event_seconds),
        "overhead_ms": _milliseconds(overhead),
        "key_id": record.principal,
        "owner": record.owner,
        "model": redact(record.model) if record.model else record.model,
        "provider": target.provider if target else None,
        "target": redact(target.name) if target else None,
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
    usage = record.usage
    tokens = f"{usage.input_tokens}→{usage.output_tokens} tokens" if usage else ""
    first = f"first {record.first_event_seconds * 1000:.0f} ms" if record.stream and record.first_event_seconds else ""
    columns = [
        *_beginning(record),
        (str(record.target or record.model or ""), ""),
        (tokens, ""),
        (first, ""),
        (record.error or "", _FAULTS.get(record.status // 100, "35")),
        (record.principal or "-", _DIM),
        (record.request_id, _DIM),
    ]
    return _line(columns, colours)


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def route_document(record: RouteRecord, redact: Redact = str) -> dict[str, Any]:
    """The same for a request that was no call of a model."""
    return {
        "time": _clock(record.began),
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
        "outcome": _route_outcome(record.status),
        "duration_ms": _milliseconds(record.seconds),
        "key_id": record.principal,
    }


def _route_outcome(status: int) -> str:
    if status == 499:
        return "client_gone"
    return "done" if status < 400 else "refused" if status < 500 else "failed"


def route_text(record: RouteRecord, colours: bool = False) -> str:
    """The same as one line for people."""
    ending = [(record.principal or "-", _DIM), (record.request_id, _DIM)]
    return _line([*_beginning(record), *ending], colours)


class AccessLine:
    """A record as the message of a log record: text for any handler, and a document for those that know it."""

    __slots__ = ("record",)

    def __init__(self, record: CallRecord | RouteRecord) -> None:
        self.record = record

    def __str__(self) -> str:
        return self.as_text(colours=False)

    def as_document(self, redact: Redact) -> dict[str, Any]:
        """Flat JSON."""
        record = self.record
        return as_document(record, redact) if isinstance(record, CallRecord) else route_document(record, redact)

    def as_text(self, colours: bool) -> str:
        """One line for people."""
        record = self.record
        return as_text(record, colours) if isinstance(record, CallRecord) else route_text(record, colours)


class AccessLog(Observer):
    """Logs records; the lines of calls are written once for each batch, by the thread that hands them out."""

    name = "access-log"

    def __init__(self) -> None:
        self._batch: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        """Keep one until :meth:`flush`."""
        self._batch.append(record)

    def flush(self) -> None:
        """Log what was kept: the short way, if it ends with ourselves."""
        batch, self._batch = self._batch, []
        match logger.handlers:
            case [StructuredLines() as lines] if not logger.filters and logger.isEnabledFor(logging.INFO):
                lines.take(map(AccessLine, batch))
            case _:
                for record in batch:
                    _log(logging.INFO, record)

    def routed(self, record: RouteRecord) -> None:
        """Log one line; what machines ask every few seconds is not news."""
        quiet = record.route in _PROBES and record.status < 400
        _log(logging.DEBUG if quiet else logging.INFO, record)


def _log(level: int, record: CallRecord | RouteRecord) -> None:
    if logger.isEnabledFor(level):
        logger.handle(logging.LogRecord(logger.name, level, __file__, 0, AccessLine(record), (), None))


def _beginning(record: CallRecord | RouteRecord) -> list[tuple[str, str]]:
    when = datetime.fromtimestamp(record.began).astimezone().strftime("%H:%M:%S")
    return [
        (when, _DIM),
        (str(record.status), _FAULTS.get(record.status // 100, "35")),
        (f"{record.seconds * 1000:8.1f} ms", ""),
        (f"{record.method} {record.path}", _BOLD),
    ]


def _line(columns: list[tuple[str, str]], colours: bool) -> str:
    return "  ".join(_painted(visible(text), colour if colours else "") for text, colour in columns if text)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{_to_the_second(whole)}.{int((seconds - whole) * 1000):03}+00:00"


@lru_cache(maxsize=256)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")[:19]


def _milliseconds(seconds: float | None) -> float | None:
    """To the hundredth: this rounds at half the price of :func:`round`."""
    return None if seconds is None else int(seconds * 100_000 + 0.5) / 100


class LogLosses:
    """Tells how many lines this process has lost."""

    name = "log"

    def readings(self) -> Iterator[Reading]:
        """By reason: too many waited, or they could not be written."""
        for reason, count in dropped_lines().items():
            yield Reading(LOG_DROPPED, count, {REASON: reason})


@hookimpl
def gateway_readings(gateway: GatewayContext) -> Iterable[Readable]:
    """What the log lost."""
    return [LogLosses()]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The access log, unless it is switched off."""
    return [AccessLog()] if gateway.settings.get(LogSettings).access else []
