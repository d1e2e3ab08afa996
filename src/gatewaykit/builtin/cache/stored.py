"""Answers as bytes: the events of a stream, one by one, so that a stream is given again as a stream."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from gatewaykit.types import (
    Call,
    ChatRequest,
    EmbeddingList,
    Event,
    Finished,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        EmbeddingList,
        Finished,
        Raw,
        ReasoningDelta,
        RefusalDelta,
        Started,
        TextDelta,
        ToolCallDelta,
        Usage,
    )
}
_FIELDS = {name: tuple(field.name for field in structs.fields(kind)) for name, kind in _KINDS.items()}
_pack = msgspec.msgpack.Encoder()
_VERSION = 1


def _mapping(value: Any) -> dict[Any, Any]:
    """Read-only mappings, which msgspec does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not to be written down: {type(value).__name__}")


_plain = msgspec.json.Encoder(order="deterministic", enc_hook=_mapping)


class Unkept(Exception):
    """This answer is not one that can be kept."""


class Answer(msgspec.Struct, frozen=True):
    """A kept answer and when it was given, in unix time."""

    at: float
    events: Sequence[bytes]

    def replayed(self) -> Iterator[Event]:
        """Its events, anew. Raises :class:`Unkept` for what another version wrote."""
        try:
            for packed in self.events:
                name, values = msgspec.msgpack.decode(packed)
                yield _KINDS[name](**dict(zip(_FIELDS[name], values, strict=True)))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise Unkept(type(error).__name__) from error


class Recording:
    """Takes the events of one answer as they pass; ``room`` is how many bytes it may have."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._events: list[bytes] | None = []
        self._finished = False

    def take(self, event: Event) -> None:
        """One more event. What is too large, cannot be written down, or was cut short by a filter, is not kept."""
        if self._events is None:
            return
        packed = None if _is_cut(event) else _packed(event)
        self._room -= len(packed or b"")
        if packed is None or self._room < 0:
            self._events = None
            return
        self._events.append(packed)
        self._finished = self._finished or isinstance(event, Finished | Raw | EmbeddingList)

    def whole(self) -> bytes | None:
        """The answer as bytes, after its last event; ``None`` if it is not kept."""
        if self._events is None or not self._finished:
            return None
        return _pack.encode([_VERSION, time.time(), self._events])


def read(data: bytes) -> Answer | None:
    """The answer in ``data``; ``None`` if it is of another version, or none."""
    try:
        version, at, events = msgspec.msgpack.decode(data, type=tuple[int, float, list[bytes]])
    except msgspec.DecodeError:
        return None
    return Answer(at, events) if version == _VERSION else None


def key_of(call: Call) -> str:
    """What two calls must have in common to share an answer: tenant, dialect, request and the targets that may answer,
    with the parameters that they are asked with.

    Where the client's bytes may pass unread they are the request: they may hold more than the gateway has words for.
    The name of a conversation is not part of it: it steers the provider's own cache alone.
    """
    request, body = call.request, call.body
    if call.raw_dialect is None:
        request, body = structs.replace(request, session=None) if isinstance(request, ChatRequest) else request, b""
    told = [
        call.principal.tenant,
        call.dialect,
        call.raw_dialect,
        type(request).__name__,
        None if body else request,
        sorted({(target.name, _plain.encode(target.parameters)) for target in call.targets}),
    ]
    key = hashlib.blake2b(_plain.encode(told), digest_size=32)
    key.update(body)
    return key.hexdigest()


def _is_cut(event: Event) -> bool:
    """Whether a content filter ended the answer here. In text that somebody wrote the quotes would be escaped."""
    if isinstance(event, Raw):
        return b'"content_filter"' in event.data
    return isinstance(event, Finished) and event.reason == "content_filter"


def _packed(event: Event) -> bytes | None:
    """The event as bytes; ``None`` for a kind that is not known, and for values that have no place in them."""
    name = type(event).__name__
    try:
        return _pack.encode([name, [_value(getattr(event, field)) for field in _FIELDS[name]]])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _value(value: Any) -> Any:
    """Sequences of numbers of any kind, as plain lists."""
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return list(value) if hasattr(value, "tolist") else value
