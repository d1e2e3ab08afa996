"""A target's own time limits, over sockets: until the first event, between events, and for the whole answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gatewaykit.testing import KEY, Step, Upstream, UpstreamAnswer, make_gateway, plugin_of, serve, until

from .conftest import Records

URL = "/v1/chat/completions"
LONG = 30.0
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
}


def chunk(text: str | None) -> dict[str, Any]:
    """A piece of the answer, or its end."""
    delta, reason = ({}, "stop") if text is None else ({"content": text}, None)
    return {**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def held_after(pieces: int) -> Callable[[Any], Sequence[Any]]:
    """An upstream that falls silent after so many pieces of a stream; 0 is silent from the beginning."""

    def answered(request: Any) -> Sequence[Any]:
        if request.method == "GET":
            return UpstreamAnswer.of_json({"object": "list", "data": []}).script()
        whole = UpstreamAnswer.of_events([chunk("a"), chunk("b"), chunk(None)])
        if not request.json().get("stream"):
            whole = UpstreamAnswer.of_json(REPLY)
        script = list(whole.script())
        return [*script[: pieces + 1 if pieces else 0], Step.HOLD, *script[pieces + 1 if pieces else 0 :]]

    return answered


@asynccontextmanager
async def asked(
    handler: Callable[[Any], Sequence[Any]], records: Records, *, stream: bool, **limits: float
) -> AsyncIterator[tuple[Any, httpx.Response, Upstream]]:
    """The gateway, the answer of a target with these limits, with another target behind it; and the upstream."""
    async with Upstream(handler) as slow, Upstream(held_after(99)) as good:
        targets = [{"to": "slow/m", **limits}, {"to": "good/m"}]
        gateway = make_gateway(
            plugin_of(observers=[records]),
            openai={"upstreams": {"slow": {"base_url": f"{slow.url}/v1"}, "good": {"base_url": f"{good.url}/v1"}}},
            router={"models": {"smart": {"targets": targets}}},
            timeouts={"first_event": LONG, "between_events": LONG, "whole_call": LONG},
        )
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            serve(gateway) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as http,
        ):
            body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
            yield gateway, await http.post(URL, json=body), slow


def ending(answer: httpx.Response) -> str:
    """What the last frame of a stream says."""
    return [frame for frame in answer.text.split("\n\n") if frame][-1]


@pytest.mark.parametrize(
    "limits", [{"first_event": 0.2}, {"whole_call": 0.2}, {"first_event": LONG, "whole_call": 0.2}]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_silence_before_the_first_event(records: Records, stream: bool, limits: dict[str, float]) -> None:
    """The next target answers, whichever of the limits has passed."""
    async with asked(held_after(0), records, stream=stream, **limits) as (_, answer, slow):
        assert answer.headers["x-gatewaykit-target"] == "good/m"
        assert answer.headers["x-gatewaykit-attempts"] == "2"
        assert [request.method for request in slow.requests].count("POST") == 1
    assert records.tries() == [("slow/m", "provider_timeout"), ("good/m", None)]


@pytest.mark.parametrize("limits", [{"between_events": 0.2}, {"whole_call": 0.4}])
async def test_silence_in_the_middle(records: Records, limits: dict[str, float]) -> None:
    """What came is the client's, then one error in the stream; the connection to the provider is closed, nobody else is
    asked, and the failure is the target's.
    """
    async with asked(held_after(2), records, stream=True, **limits) as (gateway, answer, slow):
        assert answer.status_code == 200
        assert '"content":"b"' in answer.text
        assert '"code":"provider_timeout"' in ending(answer)
        assert "[DONE]" not in answer.text
        (state,) = [state for state in gateway.targets.all() if str(state.target) == "slow/m"]
        assert (state.in_flight, state.failures, state.last_error) == (0, 1, "provider_timeout")
        await until(lambda: slow.held == 0)
    assert (records.only.outcome, records.only.error) == ("timeout", "provider_timeout")
    assert records.tries() == [("slow/m", None)]


async def test_an_answer_in_one_piece_has_the_time_of_a_whole_one(records: Records) -> None:
    """``first_event`` is for streams where the whole has a limit of its own."""
    async with asked(held_after(99), records, stream=False, first_event=0.000_001, whole_call=LONG) as (_, answer, _s):
        assert answer.headers["x-gatewaykit-target"] == "slow/m"
    assert records.tries() == [("slow/m", None)]


async def test_a_limit_that_is_kept_changes_nothing(records: Records) -> None:
    """The stream is whole."""
    limits = {"first_event": LONG, "between_events": LONG, "whole_call": LONG}
    async with asked(held_after(99), records, stream=True, **limits) as (_, answer, _slow):
        assert ending(answer) == "data: [DONE]"
    assert records.only.outcome == "done"
