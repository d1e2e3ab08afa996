"""Reading a streamed answer: server-sent events to JSON to the gateway's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple, Protocol

import msgspec

from gatewaykit.errors import GatewayError, ProviderBadAnswer
from gatewaykit.sse import DONE, DONE_FRAME, as_array, payloads
from gatewaykit.types import Event

from .errors import UNREADABLE

_decode = msgspec.json.Decoder().decode
_decode_all = msgspec.json.Decoder(list[dict[str, Any]]).decode

_LAST_BYTES = 0.25
"""Seconds that the end of the body may take behind the last event; with it the connection can be used again."""


class Reader(Protocol):
    """Turns the JSON objects of one answer into events."""

    def read(self, document: dict[str, Any]) -> list[Event]:
        """The events of the next object."""
        ...

    def end(self, *, done: bool = False) -> list[Event]:
        """The events at the end of the stream, with its ``[DONE]`` or without; raises when the answer is not whole."""
        ...


class _Read(NamedTuple):
    """What became of the events that came together: the stream is ``done``, there was a ``fault``, or neither.

    ``halved``: the fault is in the last of them, which may be the beginning of an event whose end was lost.
    """

    done: bool = False
    fault: GatewayError | None = None
    halved: bool = False


async def event_batches(blocks: AsyncIterator[bytes], reader: Reader) -> AsyncGenerator[list[Event], None]:
    """The events of a stream, those together that arrived together; no batch is empty.

    What came before a fault is given before the fault is raised, however the network cut the stream. Half an event at
    the very end means that the stream broke off.
    """
    async for block in blocks:
        events: list[Event] = []
        done, fault, halved = _read(block, reader, events)
        if events:
            yield events
        if done:
            await _ends(blocks)
            return
        if fault is not None:
            if halved and await _ends(blocks):
                break
            raise fault
    if events := reader.end():
        yield events


def _read(block: bytes, reader: Reader, events: list[Event]) -> _Read:
    """Reads the frames of ``block`` and appends to ``events``."""
    try:
        body = block.removesuffix(DONE_FRAME)
        documents = _documents(body)
        if documents is None:
            return _read_singly(payloads(block), reader, events)
        for document in documents:
            events += reader.read(document)
        if done := body is not block:
            events += reader.end(done=True)
        return _Read(done=done)
    except GatewayError as error:
        return _Read(fault=error)


def _documents(block: bytes) -> list[dict[str, Any]] | None:
    """What all frames hold, if each holds a JSON object and nothing else, as most blocks do."""
    if not block:
        return []
    array = as_array(block)
    if array is None:
        return None
    try:
        documents = _decode_all(array)
    except UNREADABLE:
        return None
    return documents if len(documents) == block.count(b"\n\n") else None


def _read_singly(found: list[bytes], reader: Reader, events: list[Event]) -> _Read:
    for number, data in enumerate(found, 1):
        if data == DONE:
            events += reader.end(done=True)
            return _Read(done=True)
        document = _object(data)
        if document is None:
            fault = ProviderBadAnswer(detail="an event of the stream is no JSON object")
            return _Read(fault=fault, halved=number == len(found))
        events += reader.read(document)
    return _Read()


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = _decode(data)
    except UNREADABLE:
        return None
    return document if isinstance(document, dict) else None


async def _ends(blocks: AsyncIterator[bytes]) -> bool:
    """Whether the body ends now, with nothing more in it."""
    try:
        async with asyncio.timeout(_LAST_BYTES):
            return await anext(blocks, None) is None
    except (TimeoutError, GatewayError):
        return False
