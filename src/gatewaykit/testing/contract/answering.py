"""Answers: when they come, and that they come whole."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
from msgspec import structs

from gatewaykit.folding import fold
from gatewaykit.testing.contract.base import TEXT, ContractBase, both_ways, in_a_loop
from gatewaykit.testing.grammar import check_events
from gatewaykit.testing.stage import Way, held_before_end
from gatewaykit.testing.upstream import Script, UpstreamRequest
from gatewaykit.testing.waiting import until, within
from gatewaykit.types import Finished, Message, Raw, Reply, TextDelta, Tool, ToolCall

OTHER = ("All ", "happy ", "families ", "are ", "alike.")
TOOL = Tool("get_weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
TOOL_CALL = ToolCall("call_1", "get_weather", '{"city": "Paris \\"centre\\"", "days": 2}')


class AnsweringTests(ContractBase):
    """Text and what surrounds it."""

    @in_a_loop
    async def test_first_event_comes_before_the_upstream_ends(self) -> None:
        """Text reaches the gateway while the upstream has yet to write the end of its answer."""
        async with self._stage(held_before_end(self._says())) as stage:
            async with aclosing(stage.stream()) as events:
                received = ""
                async with within(self.close_within, "text comes while the upstream has yet to end"):
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
            try:
                await until(lambda: stage.upstream.held == len(tasks), what="both calls are at the upstream")
                stage.upstream.release()
                first, second = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            assert first.choices[0].text == "".join(TEXT)
            assert second.choices[0].text == "".join(OTHER)


class ToolTests(ContractBase):
    """Tools, there and back."""

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


class CatalogueTests(ContractBase):
    """The list of models."""

    @in_a_loop
    async def test_models_are_a_list_of_names(self) -> None:
        """The list of models is empty, or has models with names of their own."""
        async with self._any_stage(self._says()) as stage:
            models = await stage.provider.models()
            assert all(model.id for model in models)
            assert len({model.id for model in models}) == len(models)


def _comparable(reply: Reply) -> Reply:
    """``reply`` without what an upstream makes up anew for each answer."""
    return structs.replace(reply, id="", created=0)
