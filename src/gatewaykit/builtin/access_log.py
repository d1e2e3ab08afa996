"""One line for each request on standard output: JSON for machines, or text on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from gatewaykit.hookspecs import hookimpl
from gatewaykit.logs import WholeLines
from gatewaykit.protocols import GatewayContext, Observer
from gatewaykit.settings import LogSettings
from gatewaykit.types import CallRecord

_encode = msgspec.json.Encoder().encode


def as_document(record: CallRecord) -> dict[str, Any]:
    """The record as flat JSON: durations in milliseconds, nothing of prompts, answers or credentials."""
    usage = record.usage
    return {
        "time": datetime.fromtimestamp(record.began, UTC).isoformat(timespec="milliseconds"),
        "level": "info",
        "event": "request",
        "request_id": record.request_id,
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "ms": round(record.seconds * 1000, 2),
        "first_event_ms": _milliseconds(record.first_event_seconds),
        "overhead_ms": _milliseconds(_overhead(record)),
        "principal": record.principal,
        "model": record.model,
        "target": str(record.target) if record.target else None,
        "attempts": len(record.attempts),
        "stream": record.stream,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "estimated": usage.estimated if usage else None,
    }


def as_text(record: CallRecord) -> str:
    """The record as one line for people."""
    when = datetime.fromtimestamp(record.began).astimezone().strftime("%H:%M:%S")
    usage = record.usage
    tokens = f"{usage.input_tokens}→{usage.output_tokens} tokens" if usage else ""
    first = f"first {record.first_event_seconds * 1000:.0f} ms" if record.stream and record.first_event_seconds else ""
    what = str(record.target or record.model or "")
    columns = [what, tokens, first, record.error or "", record.principal or "-", record.request_id]
    head = f"{when}  {record.status}  {record.seconds * 1000:8.1f} ms  {record.method} {record.path}"
    return _visible("  ".join([head, *(column for column in columns if column)]))


def _visible(line: str) -> str:
    """``line`` with nothing in it that would move a cursor or begin another line: paths and models are the client's."""
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


class AccessLog(Observer):
    """Writes records to ``stream``, flushed once for each batch."""

    name = "access-log"

    def __init__(self, stream: TextIO | WholeLines, *, as_json: bool) -> None:
        self._stream = stream
        self._format: Callable[[CallRecord], str] = _as_json if as_json else as_text

    def record(self, record: CallRecord) -> None:
        """Write one line."""
        self._stream.write(self._format(record) + "\n")

    def flush(self) -> None:
        """Let the lines be seen."""
        self._stream.flush()


def _as_json(record: CallRecord) -> str:
    return _encode(as_document(record)).decode()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _overhead(record: CallRecord) -> float | None:
    provider = record.timings.get("provider")
    return None if provider is None or record.stream else record.seconds - provider


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The access log, unless it is switched off."""
    settings = gateway.settings.get(LogSettings)
    if not settings.access:
        return []
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stdout.isatty())
    return [AccessLog(WholeLines(sys.stdout), as_json=as_json)]
