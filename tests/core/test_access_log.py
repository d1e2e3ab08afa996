"""One line for each request, whatever the client called things, and nothing of what was said."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit import CallRecord, Observer, RouteRecord, Target, Usage
from gatewaykit.builtin.access_log import AccessLine, as_text
from gatewaykit.logs import encode_line
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of


def record(**fields: Any) -> CallRecord:
    known: dict[str, Any] = {"path": "/v1/chat/completions", "model": "m", **fields}
    return CallRecord("id-1", 0.0, "POST", dialect="openai_chat", status=200, outcome="done", seconds=0.1, **known)


@given(path=st.text(), model=st.text())
def test_a_record_is_one_line_of_text(path: str, model: str) -> None:
    """A newline or an escape sequence in a path or a model's name is shown, and not obeyed."""
    for target in (None, Target("p", model)):
        line = as_text(record(path=path, model=model, target=target))
        assert line.isprintable()
        assert len(line.splitlines()) == 1


@given(path=st.text(), model=st.text())
def test_a_record_is_one_line_of_json(path: str, model: str) -> None:
    """What a machine reads is what the client sent."""
    (line, rest) = encode_line(AccessLine(record(path=path, model=model)).as_document(str)).decode().split("\n")
    assert rest == ""
    document = json.loads(line)
    assert (document["path"], document["model"], document["duration_ms"]) == (path, model, 100.0)


def test_the_text_says_what_a_person_asks() -> None:
    """When, how it went, how long, what, by whom, which target, how many tokens, and the id to ask for."""
    line = as_text(
        record(target=Target("p", "m"), usage=Usage(3, 2), stream=True, first_event_seconds=0.05, principal="static:me")
    )
    for word in (
        "200",
        "100.0 ms",
        "POST /v1/chat/completions",
        "p/m",
        "3→2 tokens",
        "first 50 ms",
        "static:me",
        "id-1",
    ):
        assert word in line


async def test_neither_prompts_nor_answers_nor_keys_are_logged(wire: Any, records: Any) -> None:
    """The record that observers get has nothing of them, so that no log can."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], observers=[records]))
    async with gateway:
        await wire(gateway).ask(messages=[{"role": "user", "content": "a private question"}], user="alice").run()
    text = repr(records.only)
    assert "private" not in text
    assert "Hello" not in text
    assert "gk_test" not in text


async def test_a_route_that_is_cut_off_did_not_answer() -> None:
    """Whose route is cancelled before it says anything has 499 in its line, as a call has, and not that it is done."""
    begun = asyncio.Event()

    async def endless(request: Request) -> Response:
        begun.set()
        return await asyncio.Future[Response]()

    seen: list[RouteRecord] = []

    class Watching(Observer):
        name = "watching"

        def routed(self, record: RouteRecord) -> None:
            seen.append(record)

    gateway = make_gateway(plugin_of(observers=[Watching()], routes=[Route("/endless", endless)]))
    transport = httpx.ASGITransport(app=gateway)
    async with gateway, httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        asking = asyncio.create_task(client.get("/endless"))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    (record,) = seen
    line = AccessLine(record).as_document(str)
    assert (line["status"], line["outcome"]) == (499, "client_gone")
