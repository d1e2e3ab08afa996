"""A gateway before the GigaChat sandbox, which fails as it is told, and a second upstream that is well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from gatewaykit import Gateway, Observer
from gatewaykit.testing import KEY, Upstream, UpstreamAnswer, make_gateway, plugin_of, serve
from gatewaykit_gigachat.sandbox import B2B, PERS, RunningSandbox

HEALTHY = "the healthy one"
ALONE, PAIR = "alone", "pair"
"""Models: the sandbox alone, and the sandbox with the healthy upstream behind it."""


class Records(Observer):
    """Keeps what is left of each call."""

    name = "records"

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def record(self, record: Any) -> None:
        self.kept.append(record)


def healthy(request: Any) -> Sequence[Any]:
    """An upstream that always answers, in one piece or as a stream."""
    if request.method == "GET":
        return UpstreamAnswer.of_json({"object": "list", "data": []}).script()
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    known = {"id": "c", "created": 1, "model": "m"}
    if not request.json().get("stream"):
        message = {"role": "assistant", "content": HEALTHY}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return UpstreamAnswer.of_json(
            {**known, "object": "chat.completion", "choices": [choice], "usage": usage}
        ).script()
    first = {"index": 0, "delta": {"role": "assistant", "content": HEALTHY}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunk = {**known, "object": "chat.completion.chunk"}
    return UpstreamAnswer.of_events(
        [{**chunk, "choices": [first]}, {**chunk, "choices": [last], "usage": usage}]
    ).script()


class World:
    """A gateway, what is behind it, and what a test asks of it."""

    def __init__(self, http: httpx.AsyncClient, gateway: Gateway, upstream: Upstream, records: Records) -> None:
        self.http = http
        self.gateway = gateway
        self.upstream = upstream
        self.records = records

    async def ask(self, model: str, fault: str = "", *, stream: bool = False) -> httpx.Response:
        text = "say 30 words" + (f" [[fault: {fault}]]" if fault else "")
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        return await self.http.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def world_of(sandbox: RunningSandbox, **config: Any) -> AsyncIterator[World]:
    """The gateway of the fault bench; ``config`` are sections, stronger than those that it has."""
    records = Records()
    members = {
        scope.rpartition("_")[2].lower(): {"credentials": sandbox.key(scope), "scope": scope} for scope in (PERS, B2B)
    }
    async with Upstream(healthy) as upstream:
        known = {
            "gigachat": {"base_url": sandbox.base_url, "auth_url": sandbox.auth_url, "pool": members},
            "openai": {"upstreams": {"healthy": {"base_url": f"{upstream.url}/v1"}}},
            "router": {
                "aliases": {ALONE: ["gigachat/GigaChat-2"], PAIR: ["gigachat/GigaChat-2", "healthy/m"]},
            },
        }
        gateway = make_gateway(plugin_of(observers=[records]), **{**known, **config})
        limits = httpx.Limits(max_connections=200, keepalive_expiry=1)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            serve(gateway) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits, trust_env=False) as http,
        ):
            yield World(http, gateway, upstream, records)


def told(answer: httpx.Response) -> str:
    """What became of a call, in the words of the page."""
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.json()['error']['code']}"
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return f"200 {answer.json()['choices'][0]['finish_reason']}"
    *frames, last = [frame for frame in answer.text.split("\n\n") if frame.startswith("data: ")]
    if last == "data: [DONE]":
        reasons = [
            choice["finish_reason"]
            for frame in frames
            for choice in msgspec.json.decode(frame[6:]).get("choices", ())
            if choice.get("finish_reason")
        ]
        return f"200 {' '.join(reasons)}"
    return f"200, then {msgspec.json.decode(last[6:])['error']['code']}"
