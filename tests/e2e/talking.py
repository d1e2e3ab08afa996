"""The official SDK, blocking and not, behind one set of words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import openai

USUAL: dict[str, Any] = {"max_retries": 0, "timeout": 30.0}


class Talker(Protocol):
    """A client of either kind. ``chunks`` and ``events`` fill a list as they come, so that an error loses nothing."""

    async def create(self, **arguments: Any) -> Any: ...
    async def raw(self, **arguments: Any) -> Any: ...
    async def parse(self, **arguments: Any) -> Any: ...
    async def chunks(self, into: list[Any], **arguments: Any) -> None: ...
    async def events(self, into: list[Any], **arguments: Any) -> Any: ...
    async def models(self) -> list[Any]: ...
    async def model(self, name: str) -> Any: ...


class Blocking:
    """The blocking SDK, in a thread."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self._chat = client.chat.completions

    async def create(self, **arguments: Any) -> Any:
        return await asyncio.to_thread(self._chat.create, **arguments)

    async def raw(self, **arguments: Any) -> Any:
        return await asyncio.to_thread(self._chat.with_raw_response.create, **arguments)

    async def parse(self, **arguments: Any) -> Any:
        return await asyncio.to_thread(self._chat.parse, **arguments)

    async def chunks(self, into: list[Any], **arguments: Any) -> None:
        def run() -> None:
            with self._chat.create(stream=True, **arguments) as stream:
                into.extend(stream)

        await asyncio.to_thread(run)

    async def events(self, into: list[Any], **arguments: Any) -> Any:
        def run() -> Any:
            with self._chat.stream(**arguments) as stream:
                into.extend(stream)
                return stream.get_final_completion()

        return await asyncio.to_thread(run)

    async def models(self) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self._client.models.list()))

    async def model(self, name: str) -> Any:
        return await asyncio.to_thread(self._client.models.retrieve, name)


class Awaiting:
    """The asynchronous SDK."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self._chat = client.chat.completions

    async def create(self, **arguments: Any) -> Any:
        return await self._chat.create(**arguments)

    async def raw(self, **arguments: Any) -> Any:
        return await self._chat.with_raw_response.create(**arguments)

    async def parse(self, **arguments: Any) -> Any:
        return await self._chat.parse(**arguments)

    async def chunks(self, into: list[Any], **arguments: Any) -> None:
        take = into.append
        async with await self._chat.create(stream=True, **arguments) as stream:
            async for chunk in stream:
                take(chunk)

    async def events(self, into: list[Any], **arguments: Any) -> Any:
        take = into.append
        async with self._chat.stream(**arguments) as stream:
            async for event in stream:
                take(event)
            return await stream.get_final_completion()

    async def models(self) -> list[Any]:
        return [model async for model in self._client.models.list()]

    async def model(self, name: str) -> Any:
        return await self._client.models.retrieve(name)


def blocking(base_url: str, key: str, **options: Any) -> openai.OpenAI:
    """The blocking SDK; nothing is tried twice."""
    return openai.OpenAI(**{"base_url": base_url, "api_key": key, **USUAL, **options})


def awaiting(base_url: str, key: str, **options: Any) -> openai.AsyncOpenAI:
    """The asynchronous SDK, likewise."""
    return openai.AsyncOpenAI(**{"base_url": base_url, "api_key": key, **USUAL, **options})


@asynccontextmanager
async def talking(kind: str, base_url: str, key: str) -> AsyncIterator[Talker]:
    """A client of ``kind`` ``sync`` or ``async`` until the block ends."""
    if kind == "sync":
        with blocking(base_url, key) as client:
            yield Blocking(client)
    else:
        async with awaiting(base_url, key) as client:
            yield Awaiting(client)


def user(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def text_of(chunks: list[Any]) -> str:
    """The text in a stream's chunks."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
