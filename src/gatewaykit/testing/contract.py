"""The tests that every provider has to pass, over real sockets, whatever its wire format.

::

    class TestAcme(ProviderContract):
        secrets = ("acme-key-0123456789",)

        def provider(self, base_url):
            return Acme(AcmeSettings(base_url=base_url, api_key=self.secrets[0]))

        def upstream_text(self, pieces, request):
            return UpstreamAnswer.of_events([{"text": piece} for piece in pieces])

        def upstream_tool_call(self, call, request):
            return UpstreamAnswer.of_events([{"tool": call.name, "arguments": call.arguments}])

The tests need pytest and no plugin of it: each runs in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, ParamSpec, TypeAlias, cast

import msgspec
import pytest
from loguru import logger

from gatewaykit.errors import (
    AuthFailed,
    BadRequest,
    GatewayError,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderError,
    ProviderUnavailable,
)
from gatewaykit.folding import Folder, fold
from gatewaykit.protocols import Provider
from gatewaykit.testing.doubles import plugin_of
from gatewaykit.testing.gateways import gateway_client, make_gateway
from gatewaykit.testing.grammar import check_events
from gatewaykit.testing.stage import BREAKS, Break, Plan, Stage, broken_off, held_at_once, held_before_end, instead
from gatewaykit.testing.upstream import Script, Step, Upstream, UpstreamAnswer, UpstreamRequest, refusing_address
from gatewaykit.testing.waiting import until
from gatewaykit.types import Finished, Message, Raw, Reply, TextDelta, Tool, ToolCall

P = ParamSpec("P")
Way: TypeAlias = str

TEXT = ("In ", "the ", "beginning ", "was ", "the ", "word.")
OTHER = ("All ", "happy ", "families ", "are ", "alike.")
TOOL = Tool("get_weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
TOOL_CALL = ToolCall("call_1", "get_weather", '{"city": "Paris \\"centre\\"", "days": 2}')
HTML = UpstreamAnswer(
    (b"<html><body>Welcome to the hotel's network</body></html>",), headers={"content-type": "text/html"}
)
NOT_HTTP: Script = [b"\x16\x03\x01 this is not HTTP\r\n\r\n", Step.CLOSE]

both_ways = pytest.mark.parametrize("way", ["stream", "complete"])


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test to its end, whatever plugins pytest has, and no longer than half a minute."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run


class ProviderContract(ABC):
    """Subclass it as ``class TestMine(ProviderContract)``, say how to make the provider and what its upstream answers.

    ``model`` is what calls ask for. ``secrets`` are credentials that :meth:`provider` gives to the provider: nothing of
    them may show. ``close_within`` is how many seconds the provider may take to let go of its upstream.

    A provider that has no upstream to speak to over HTTP says so in ``without_upstream``, and one without tools in
    ``without_tools``: a sentence that the report of the skipped tests shows.
    """

    model: ClassVar[str] = "test-model"
    secrets: ClassVar[Sequence[str]] = ()
    close_within: ClassVar[float] = 1.0
    without_upstream: ClassVar[str] = ""
    without_tools: ClassVar[str] = ""

    # What the author supplies

    @abstractmethod
    def provider(self, base_url: str) -> Provider:
        """A new provider that speaks to ``base_url`` (``http://127.0.0.1:PORT``), and does not try again by itself."""

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's answer with this text.

        To a streamed request: each piece of text in a piece of the body of its own, as the real upstream writes it.
        """
        pytest.fail("override upstream_text, or say in without_upstream why there is no upstream")

    def upstream_tool_call(self, call: ToolCall, request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's answer that calls a tool; ``call.arguments`` is JSON text."""
        pytest.fail("override upstream_tool_call, or say in without_tools why there are no tools")

    def upstream_error(self, status: int, message: str, request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's refusal; by default in the shape that most have."""
        return UpstreamAnswer.of_json({"error": {"message": message}}, status)

    def upstream_aside(self, request: UpstreamRequest) -> UpstreamAnswer | None:
        """The answer to what the provider asks beside the model call: a token, the list of models.

        ``None`` means that ``request`` is the model call. By default all that is not POST is aside, and not found.
        """
        return None if request.method == "POST" else self.upstream_error(404, "There is nothing here.", request)

    # Events

    @in_a_loop
    async def test_first_event_comes_before_the_upstream_ends(self) -> None:
        """Text reaches the gateway while the upstream has yet to write the end of its answer."""
        async with self._stage(held_before_end(self._says())) as stage:
            async with aclosing(stage.stream()) as events:
                received = ""
                async with asyncio.timeout(self.close_within):
                    while not received:
                        event = await anext(events)
                        received += event.text if isinstance(event, TextDelta) else ""
                assert stage.upstream.held == 1, "the upstream was not asked, or had ended before the first event"
                assert received.startswith(TEXT[0])
                stage.upstream.release()
                rest = [event async for event in events]
            assert any(isinstance(event, Finished) for event in rest)

    @both_ways
    @in_a_loop
    async def test_text_arrives_whole(self, way: Way) -> None:
        """What the upstream says is what the gateway gets, no piece lost, doubled or changed."""
        async with self._stage(self._says("Grüße, 世界! ", *TEXT)) as stage:
            reply = await stage.answer(way)
            assert [choice.text for choice in reply.choices] == ["Grüße, 世界! " + "".join(TEXT)]
            assert reply.choices[0].finish_reason == "stop"

    @in_a_loop
    async def test_events_are_well_formed_and_usage_is_sane(self) -> None:
        """Events come in the order that the gateway relies on; token counts, if given, are possible and come last."""
        async with self._any_stage(self._says()) as stage:
            events = [event async for event in stage.stream()]
            check_events(events)
            assert not [event for event in events if isinstance(event, Raw)], "Raw where the gateway did not allow it"

    @in_a_loop
    async def test_stream_and_complete_say_the_same(self) -> None:
        """An answer in one piece is what the stream adds up to."""
        async with self._any_stage(self._says()) as stage:
            whole = await stage.provider.complete(stage.call(stream=False), stage.target)
            if whole is not None:
                assert _comparable(await fold(stage.stream())) == _comparable(whole)

    @in_a_loop
    async def test_two_calls_at_once_do_not_mix(self) -> None:
        """Two calls that are under way together each get their own answer."""

        def plan(request: UpstreamRequest) -> Script:
            pieces = OTHER if b"second-question" in request.body else TEXT
            return held_before_end(self._says(*pieces))(request)

        async with self._stage(plan) as stage:
            calls = [stage.call("first-question"), stage.call("second-question")]
            tasks = [asyncio.create_task(fold(stage.stream(call))) for call in calls]
            await until(lambda: stage.upstream.held == len(tasks))
            stage.upstream.release()
            first, second = await asyncio.gather(*tasks)
            assert first.choices[0].text == "".join(TEXT)
            assert second.choices[0].text == "".join(OTHER)

    # Tools

    @both_ways
    @in_a_loop
    async def test_tool_calls_arrive_complete(self, way: Way) -> None:
        """The tool is offered to the upstream, and its call comes with id, name and whole arguments."""
        self._needs_tools()
        async with self._stage(lambda request: self.upstream_tool_call(TOOL_CALL, request).script()) as stage:
            reply = await stage.answer(way, tools=(TOOL,))
            assert TOOL.name.encode() in stage.model_call().body
            (choice,) = reply.choices
            (call,) = choice.tool_calls
            assert call.id
            assert call.name == TOOL_CALL.name
            assert msgspec.json.decode(call.arguments) == msgspec.json.decode(TOOL_CALL.arguments)
            assert choice.finish_reason == "tool_calls"

    @in_a_loop
    async def test_tool_call_events_are_well_formed(self) -> None:
        """A streamed tool call begins with id and name, and its arguments add up to a JSON object."""
        self._needs_tools()
        async with self._stage(lambda request: self.upstream_tool_call(TOOL_CALL, request).script()) as stage:
            check_events([event async for event in stage.stream(stage.call(tools=(TOOL,)))])

    @in_a_loop
    async def test_tool_results_reach_the_upstream(self) -> None:
        """The second leg of a tool call: the model gets its own call and the result back."""
        self._needs_tools()
        history = (
            Message("user", "What is the weather in Paris?"),
            Message("assistant", tool_calls=(TOOL_CALL,)),
            Message("tool", '{"sky": "cloudless-31"}', tool_call_id=TOOL_CALL.id),
        )
        async with self._stage(self._says()) as stage:
            await fold(stage.stream(stage.call(messages=history, tools=(TOOL,))))
            body = stage.model_call().body
            assert b"cloudless-31" in body
            assert b"centre" in body, "the arguments of the model's own call are missing"

    # Leaving

    @in_a_loop
    async def test_closing_the_stream_closes_the_upstream(self) -> None:
        """When the client leaves in mid-stream, the connection to the upstream is closed at once."""
        async with self._stage(held_before_end(self._says())) as stage:
            events = stage.stream()
            await anext(events)
            await until(lambda: stage.upstream.held == 1)
            async with asyncio.timeout(self.close_within):
                await events.aclose()
            await until(lambda: stage.upstream.held == 0, self.close_within)

    @both_ways
    @in_a_loop
    async def test_cancelling_the_wait_closes_the_upstream(self, way: Way) -> None:
        """When the client leaves before the first event, the connection to the upstream is closed at once."""
        async with self._stage(held_at_once(self._says())) as stage:
            task = asyncio.create_task(stage.answer(way))
            await until(lambda: stage.upstream.held == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: stage.upstream.held == 0, self.close_within)

    @in_a_loop
    async def test_nothing_is_left_behind(self) -> None:
        """After one whole and one abandoned answer, aclose leaves no connection and no task."""
        before = asyncio.all_tasks()
        async with self._upstream(self._says()) as upstream:
            stage = Stage(self.provider(upstream.url), upstream, self.model)
            await fold(stage.stream())
            async with aclosing(stage.stream()) as events:
                await anext(events)
            await stage.provider.aclose()
            await until(lambda: upstream.live == 0, self.close_within)
        await until(lambda: asyncio.all_tasks() == before, self.close_within)

    def test_one_provider_serves_two_event_loops(self) -> None:
        """The same provider works again in a new event loop, closed in the first one or not."""
        plan = self._says()
        upstream = Upstream(self._handler(plan))
        try:
            provider = self.provider("" if self.without_upstream else upstream.url)
            for closes in (False, True, True):
                asyncio.run(self._talk_once(provider, upstream, closes=closes))
        finally:
            upstream.close()

    # Errors

    @both_ways
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, BadRequest),
            (401, ProviderAuthFailed),
            (429, ProviderBusy),
            (500, ProviderUnavailable),
            (502, ProviderUnavailable),
            (503, ProviderUnavailable),
        ],
    )
    @in_a_loop
    async def test_refusals_are_told_in_the_gateways_words(
        self, status: int, kind: type[GatewayError], way: Way
    ) -> None:
        """Each status of the upstream becomes the error that tells gateway and client what to do."""
        async with self._stage(self._refuses(status)) as stage:
            error = await stage.failure(way)
            assert isinstance(error, kind), f"HTTP {status} became {type(error).__name__}"
            assert not isinstance(error, AuthFailed), "the gateway's own credential is not the client's matter"

    @both_ways
    @in_a_loop
    async def test_retry_after_is_kept(self, way: Way) -> None:
        """How long the upstream asks to wait is known to the gateway."""
        async with self._stage(self._refuses(429, {"retry-after": "7"})) as stage:
            assert (await stage.failure(way)).retry_after == 7

    @both_ways
    @in_a_loop
    async def test_refused_connection_is_unavailable(self, way: Way) -> None:
        """An upstream that is not there is ProviderUnavailable."""
        self._needs_upstream()
        with refusing_address() as url:
            upstream = Upstream(lambda request: [])
            stage = Stage(self.provider(url), upstream, self.model)
            try:
                assert isinstance(await stage.failure(way), ProviderUnavailable)
            finally:
                await stage.provider.aclose()
                upstream.close()

    @both_ways
    @pytest.mark.parametrize("how", [Step.CLOSE, Step.RESET])
    @in_a_loop
    async def test_cut_before_the_first_byte_is_unavailable(self, how: Step, way: Way) -> None:
        """An upstream that takes the request and says nothing is ProviderUnavailable."""
        async with self._stage(instead([how])) as stage:
            assert isinstance(await stage.failure(way), ProviderUnavailable)

    @pytest.mark.parametrize("how", BREAKS)
    @in_a_loop
    async def test_half_a_stream_is_never_a_whole_one(self, how: Break) -> None:
        """A stream that breaks off fails, after the events that had come; it is never taken for finished."""
        async with self._stage(broken_off(self._says(), how)) as stage:
            folder = Folder()
            with pytest.raises(ProviderError) as caught:
                await stage.collect(folder)
            with pytest.raises(ProviderBadAnswer):
                folder.reply()  # no choice is finished
            if how is not Break.EARLY_END:
                assert isinstance(caught.value, ProviderUnavailable)

    @both_ways
    @in_a_loop
    async def test_garbage_is_a_bad_answer(self, way: Way) -> None:
        """Broken JSON, another page's HTML, and what is not HTTP at all are told as such."""
        for plan in (self._says_garbage, instead(HTML.script()), instead(NOT_HTTP)):
            async with self._stage(plan) as stage:
                assert isinstance(await stage.failure(way), ProviderBadAnswer)

    # Secrets

    @in_a_loop
    async def test_no_secret_shows(self, caplog: pytest.LogCaptureFixture) -> None:
        """Credentials stay out of the provider's repr, of errors and their causes, and of the logs."""
        self._needs_upstream()
        if not self.secrets:
            pytest.skip("no secrets are declared")
        logged: list[str] = []
        sink = logger.add(logged.append, level=0, diagnose=False)
        try:
            with caplog.at_level(logging.DEBUG):
                texts = [text async for text in self._all_that_is_said()]
        finally:
            logger.remove(sink)
        for secret in self.secrets:
            assert not [text for text in [*texts, *logged, caplog.text] if secret in text], "a secret shows"

    @both_ways
    @in_a_loop
    async def test_clients_learn_no_address(self, way: Way) -> None:
        """The message for the client does not name the upstream's address."""
        async with self._stage(self._refuses(500)) as stage:
            error = await stage.failure(way)
            assert stage.upstream.url.removeprefix("http://") not in error.message

    # The list of models

    @in_a_loop
    async def test_models_are_a_list_of_names(self) -> None:
        """The list of models is empty, or has models with names of their own."""
        async with self._any_stage(self._says()) as stage:
            models = await stage.provider.models()
            assert all(model.id for model in models)
            assert len({model.id for model in models}) == len(models)

    # In a gateway

    @pytest.mark.parametrize("stream", [True, False])
    @in_a_loop
    async def test_answers_through_a_gateway(self, stream: bool) -> None:
        """A client of OpenAI's API gets the provider's text through a gateway, over sockets."""
        async with (
            self._upstream(self._says()) as upstream,
            gateway_client(make_gateway(plugin_of(providers=[self._provider_at(upstream)]))) as client,
        ):
            response = await client.post("/v1/chat/completions", json=_chat_document(self.model, stream=stream))
            assert response.status_code == 200, response.text
            text = _text_of(response.text, stream=stream)
            assert text
            if not self.without_upstream:
                assert text == "".join(TEXT)

    @in_a_loop
    async def test_a_slow_upstream_is_cut_by_the_gateway(self) -> None:
        """The gateway's limit for the first event ends the call with 504 and closes the upstream."""
        async with self._upstream(held_at_once(self._says()), needed=True) as upstream:
            gateway = make_gateway(plugin_of(providers=[self.provider(upstream.url)]), timeouts={"first_event": 0.3})
            async with gateway_client(gateway) as client:
                response = await client.post("/v1/chat/completions", json=_chat_document(self.model, stream=True))
                assert response.status_code == 504, response.text
                assert response.json()["error"]["code"] == "provider_timeout"
                await until(lambda: upstream.held == 0, self.close_within)

    # How it is done

    def _needs_upstream(self) -> None:
        if self.without_upstream:
            pytest.skip(self.without_upstream)

    def _needs_tools(self) -> None:
        if self.without_tools:
            pytest.skip(self.without_tools)

    def _handler(self, plan: Plan) -> Plan:
        def handler(request: UpstreamRequest) -> Script:
            aside = self.upstream_aside(request)
            return plan(request) if aside is None else aside.script()

        return handler

    @asynccontextmanager
    async def _upstream(self, plan: Plan, *, needed: bool = False) -> AsyncIterator[Upstream]:
        if needed:
            self._needs_upstream()
        async with Upstream(self._handler(plan)) as upstream:
            yield upstream

    @asynccontextmanager
    async def _any_stage(self, plan: Plan) -> AsyncIterator[Stage]:
        """A provider before an upstream that follows ``plan``, or a provider alone if it has no upstream."""
        async with self._upstream(plan) as upstream:
            provider = self._provider_at(upstream)
            try:
                yield Stage(provider, upstream, self.model)
            finally:
                await provider.aclose()

    @asynccontextmanager
    async def _stage(self, plan: Plan) -> AsyncIterator[Stage]:
        self._needs_upstream()
        async with self._any_stage(plan) as stage:
            yield stage

    def _provider_at(self, upstream: Upstream) -> Provider:
        return self.provider("" if self.without_upstream else upstream.url)

    def _says(self, *pieces: str) -> Plan:
        return lambda request: self.upstream_text(pieces or TEXT, request).script()

    def _says_garbage(self, request: UpstreamRequest) -> Script:
        answer = self.upstream_text(TEXT, request)
        return replace(answer, pieces=tuple(piece.replace(b"{", b"<") for piece in answer.pieces)).script()

    def _refuses(self, status: int, headers: dict[str, str] | None = None) -> Plan:
        def plan(request: UpstreamRequest) -> Script:
            message = " ".join(["Refused:", *self.secrets])
            answer = self.upstream_error(status, message, request)
            return replace(answer, headers={**answer.headers, **(headers or {})}).script()

        return plan

    async def _talk_once(self, provider: Provider, upstream: Upstream, *, closes: bool) -> None:
        async with asyncio.timeout(30), upstream.serving():
            stage = Stage(provider, upstream, self.model)
            reply = await fold(stage.stream())
            assert reply.choices
            if not self.without_upstream:
                assert reply.choices[0].text == "".join(TEXT)
            if closes:
                await provider.aclose()

    async def _all_that_is_said(self) -> AsyncIterator[str]:
        """Everything a person might read of a provider that answers, is refused with its secrets named, and breaks."""
        for plan in (self._says(), self._refuses(401), self._refuses(500), instead([Step.CLOSE])):
            async with self._stage(plan) as stage:
                try:
                    await stage.answer("stream")
                except GatewayError as error:
                    yield f"{error!r} {error.message} {error.detail} {error.headers}"
                    yield "".join(traceback.format_exception(error))
                yield f"{stage.provider!r} {stage.provider}"
                sent = "".join(f"{request.headers} {request.body!r}" for request in stage.upstream.requests)
                assert all(secret in sent for secret in self.secrets), "the upstream never got the declared secrets"


def _comparable(reply: Reply) -> Reply:
    """``reply`` without what an upstream makes up anew for each answer."""
    return replace(reply, id="", created=0)


def _chat_document(model: str, *, stream: bool) -> dict[str, Any]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}


def _text_of(body: str, *, stream: bool) -> str:
    """The text in an answer of OpenAI's chat API."""
    if not stream:
        return cast("str", msgspec.json.decode(body)["choices"][0]["message"]["content"])
    frames = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]", body
    choices = [choice for frame in frames[:-1] for choice in msgspec.json.decode(frame)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


__all__ = ["ProviderContract"]
