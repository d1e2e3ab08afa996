"""Which trace a request belongs to: the header ``traceparent`` (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from hashlib import sha256

from msgspec import Struct

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_ID = re.compile(r"[0-9a-f]{32}")
_NOBODY, _NOTHING = "0" * 16, "0" * 32


class TraceParent(Struct, frozen=True):
    """The caller's own place in a trace; ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool


def parse(header: str | None) -> TraceParent | None:
    """What the header says; ``None`` where it is missing or not of the form that the standard demands (3.2)."""
    if header is None or (form := _FORM.fullmatch(header)) is None:
        return None
    version, trace_id, span_id, flags, more = form.groups()
    if version == "ff" or trace_id == _NOTHING or span_id == _NOBODY or (version == "00" and more):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def trace_id(header: str | None, request_id: str) -> str:
    """The trace of a request: its caller's, or one of its own, that is known as soon as the request's id is.

    An id that the gateway made is a trace id as it stands.
    """
    parent = parse(header)
    if parent is not None:
        return parent.trace_id
    if _ID.fullmatch(request_id) and request_id != _NOTHING:
        return request_id
    return sha256(request_id.encode()).hexdigest()[:32]


def format_parent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """The header's value for those who are called."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
