"""Reading a streamed answer: server-sent events to JSON to the gateway's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from gatewaykit.errors import GatewayError, ProviderBadAnswer
from gatewaykit.sse import DONE, payloads
from gatewaykit.types import Event

_decode = msgspec.json.Decoder().decode

_LAST_BYTES = 0.25
"""Seconds that the end of the body may take behind ``[DONE]``; with it the connection can be used again."""


class Reader(Protocol):
    """Turns the JSON objects of one answer into events."""

    def read(self, document: dict[str, Any]) -> list[Event]:
        """The events of the next object."""
        ...

    def end(self, *, done: bool = False) -> list[Event]:
        """The events at the end of the stream, with its ``[DONE]`` or without; raises when the answer is not whole."""
        ...


async def event_batches(blocks: AsyncIterator[bytes], reader: Reader) -> AsyncIterator[list[Event]]:
    """The events of a stream, those together that arrived together; no batch is empty.

    What came before a fault is given before the fault is raised, however the network cut the stream.
    """
    async for block in blocks:
        events: list[Event] = []
        done, fault = _read(block, reader, events)
        if events:
            yield events
        if fault is not None:
            raise fault
        if done:
            await _drain(blocks)
            return
    if events := reader.end():
        yield events


def _read(block: bytes, reader: Reader, events: list[Event]) -> tuple[bool, GatewayError | None]:
    """Appends the events of ``block``; whether the stream is over, and what went wrong."""
    try:
        for data in payloads(block):
            if data == DONE:
                events += reader.end(done=True)
                return True, None
            events += reader.read(_object(data))
    except GatewayError as error:
        return False, error
    return False, None


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = _decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise ProviderBadAnswer(detail="an event of the stream is not JSON") from None
    if not isinstance(document, dict):
        raise ProviderBadAnswer(detail="an event of the stream is no JSON object")
    return document


async def _drain(blocks: AsyncIterator[bytes]) -> None:
    """Reads the end of the body, and nothing else that may come."""
    try:
        async with asyncio.timeout(_LAST_BYTES):
            await anext(blocks, b"")
    except (TimeoutError, GatewayError):
        return
