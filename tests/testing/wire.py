"""A small wire format, a provider that speaks it as it should, and providers that each do one thing wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
from loguru import logger
from msgspec import structs

from gatewaykit.answers import read_json
from gatewaykit.errors import AuthFailed, GatewayError, ProviderAuthFailed, ProviderError, ProviderUnavailable
from gatewaykit.http import HttpClient
from gatewaykit.protocols import Provider
from gatewaykit.testing import ProviderContract, UpstreamAnswer, UpstreamRequest
from gatewaykit.types import (
    Call,
    Choice,
    Event,
    Finished,
    Model,
    Reply,
    Started,
    Target,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

KEY = "tiny-key-0123456789"


class Line(msgspec.Struct):
    """One line of an answer: text, a tool call, or the end."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    tokens: int = 0
    end: str = ""


class Tiny(Provider):
    """Sends the question as JSON, reads lines of JSON."""

    name = "tiny"

    def __init__(self, base_url: str) -> None:
        self._http = HttpClient(base_url, headers={"Authorization": KEY})

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        messages = [
            {"text": message.text, "calls": [called.arguments for called in message.tool_calls]}
            for message in call.chat.messages
        ]
        body = msgspec.json.encode({"messages": messages, "tools": [tool.name for tool in call.chat.tools]})
        async with self._http.stream("POST", "/ask", body=body) as answer:
            answer.raise_for_status()
            async for line in answer.json_lines(Line):
                for event in self.events(line):
                    yield event

    def events(self, line: Line) -> list[Event]:
        """What one line says."""
        if line.tool:
            return [ToolCallDelta(0, "call_0", line.tool, line.arguments)]
        if line.end == "stop":
            return [Finished("stop"), Usage(3, line.tokens)]
        if line.end == "tool":
            return [Finished("tool_calls"), Usage(3, line.tokens)]
        return [TextDelta(line.text)]

    async def aclose(self) -> None:
        await self._http.aclose()


class TinyContract(ProviderContract):
    """The contract in that format; ``subject`` is the provider on trial."""

    secrets = (KEY,)
    close_within = 0.5
    subject: type[Provider] = Tiny

    def provider(self, base_url: str) -> Provider:
        return self.subject(base_url)  # type: ignore[call-arg]

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        return UpstreamAnswer.of_lines([*({"text": piece} for piece in pieces), {"end": "stop", "tokens": 2}])

    def upstream_tool_call(self, call: ToolCall, request: UpstreamRequest) -> UpstreamAnswer:
        return UpstreamAnswer.of_lines([{"tool": call.name, "arguments": call.arguments}, {"end": "tool"}])


class Hoarder(Tiny):
    """Waits for the whole answer before it says anything."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        for event in [event async for event in super().stream(call, target)]:
            yield event


class Doubler(Tiny):
    """Says everything twice."""

    def events(self, line: Line) -> list[Event]:
        events = super().events(line)
        return [*events, *events] if isinstance(events[0], TextDelta) else events


class Eager(Tiny):
    """Begins before the upstream has answered."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        yield Started("tiny")
        async for event in super().stream(call, target):
            yield event


class UsageFirst(Tiny):
    """Says what the call cost before it says that it is over."""

    def events(self, line: Line) -> list[Event]:
        return super().events(line)[::-1]


class OtherWords(Tiny):
    """Answers otherwise in one piece."""

    async def complete(self, call: Call, target: Target) -> Reply:
        return Reply(choices=[Choice(text="something else")])


class Mixer(Tiny):
    """Keeps what belongs to one call where all calls find it."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        async with self._http.stream("POST", "/ask", body=msgspec.json.encode(call.chat.messages[-1].text)) as answer:
            answer.raise_for_status()
            self.lines = answer.json_lines(Line)
            await asyncio.sleep(0)
            while (line := await anext(self.lines, None)) is not None:
                for event in self.events(line):
                    yield event


class HalfArguments(Tiny):
    """Loses the end of a tool call's arguments."""

    def events(self, line: Line) -> list[Event]:
        return [
            ToolCallDelta(0, event.id, event.name, event.arguments[:-3]) if isinstance(event, ToolCallDelta) else event
            for event in super().events(line)
        ]


class Forgetful(Tiny):
    """Sends the first message alone."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        call.request = structs.replace(call.chat, messages=call.chat.messages[:1])
        async for event in super().stream(call, target):
            yield event


class Clinging(Tiny):
    """Reads on in a task of its own when nobody listens any more."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.tasks: list[asyncio.Task[None]] = []

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event | GatewayError | None] = asyncio.Queue()

        async def read() -> None:
            try:
                async for event in Tiny.stream(self, call, target):
                    queue.put_nowait(event)
                queue.put_nowait(None)
            except GatewayError as error:
                queue.put_nowait(error)

        self.tasks.append(asyncio.create_task(read()))
        while (event := await queue.get()) is not None:
            if isinstance(event, GatewayError):
                raise event
            yield event

    async def aclose(self) -> None:
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await super().aclose()


class NeverCloses(Tiny):
    """Opens a connection that it does not close."""

    kept: ClassVar[list[socket.socket]] = []

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        address = urlsplit(base_url)
        self.kept.append(socket.create_connection((address.hostname, address.port)))


class OneLoop(Tiny):
    """Belongs to the event loop that it met first."""

    loop: asyncio.AbstractEventLoop | None = None

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("another event loop")
        async for event in super().stream(call, target):
            yield event
        await self._http.aclose()


class Accusing(Tiny):
    """Tells the client that its own key is wrong."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        try:
            async for event in super().stream(call, target):
                yield event
        except ProviderAuthFailed:
            raise AuthFailed from None


class Vague(Tiny):
    """Has one error for everything."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        try:
            async for event in super().stream(call, target):
                yield event
        except ProviderError as error:
            raise ProviderError(retry_after=None) from error


class Content(Tiny):
    """Takes what there is for the whole answer."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        finished = False
        with suppress(ProviderUnavailable):
            async for event in super().stream(call, target):
                finished = finished or isinstance(event, Finished)
                yield event
        if not finished:
            yield Finished("stop")


class Careless(Tiny):
    """Reads whatever comes with no thought that it could be something else."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        async with self._http.stream("POST", "/ask", body=b"{}") as answer:
            async for line in answer.lines():
                for event in self.events(msgspec.json.decode(line, type=Line)):
                    yield event


class ShowsKey(Tiny):
    """Shows its key to whoever prints it."""

    def __repr__(self) -> str:
        return f"<Tiny with {KEY}>"


class LogsKey(Tiny):
    """Logs its key."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        logger.debug("asking with {}", KEY)
        async for event in super().stream(call, target):
            yield event


class Quoting(Tiny):
    """Passes on what the upstream says of the key."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        async with self._http.stream("POST", "/ask", body=b"{}") as answer:
            if answer.status != 200:
                said = read_json(await answer.read(), dict[str, dict[str, str]])["error"]["message"]
                raise ProviderAuthFailed(detail=said)
            async for line in answer.json_lines(Line):
                for event in self.events(line):
                    yield event


class Telltale(Tiny):
    """Tells the client where the upstream is."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.base_url = base_url

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        try:
            async for event in super().stream(call, target):
                yield event
        except ProviderUnavailable as error:
            raise ProviderUnavailable(f"{self.base_url} is down") from error


class SameModelTwice(Tiny):
    """Lists a model twice."""

    async def models(self) -> Sequence[Model]:
        return (Model("one"), Model("one"))
