"""Secrets and prompts stay out of everything that is kept or sent: database, outbox, Redis, logs, metrics, traces, and
bodies of errors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from gatewaykit import Finished, TextDelta
from gatewaykit.testing import KEY, FakeProvider, Upstream, gateway_client, plugin_of
from gatewaykit.testing.servers import RedisServer, redis_program, redis_server

from ..ledger.serving import Served
from ..tracing.conftest import Collector, collector
from ..tracing.test_tracing import traced
from . import openai_upstream

__all__ = ["collector"]

OPERATOR = "operator-canary-0a1b2c3d4e5f"
PEPPER = "pepper-canary-0a1b2c3d4e5f60718293a4b5c6d7"
REDIS_PASSWORD = "redis-canary-0a1b2c3d"
PROMPT = "prompt-canary-zebra"
TYPED = "typed-by-mistake-canary-0a1b2c3d"
CONFIG = f"""
[database]
url = "sqlite:///{{folder}}/books.db"
[ledger]
outbox = "{{folder}}/outbox"
[keys]
pepper = "{PEPPER}"
[redis]
url = "{{redis}}"
timeout = 1.0
[static_keys]
keys = {{{{ operator = "{OPERATOR}" }}}}
scopes = {{{{ operator = ["admin", "inference", "usage", "keys"] }}}}
[limits.each_key]
rpm = 50
tpm = 100000
concurrency = 10
[log]
level = "debug"
[tracing]
endpoint = "{{collector}}"
[openai.upstreams.openai]
base_url = "{{upstream}}/v1"
api_key = "{openai_upstream.CREDENTIAL}"
"""


class Visitor:
    """Asks, and keeps the bodies of all refusals."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.refusals: list[str] = []
        self.request_ids: list[str] = []

    async def ask(self, path: str, body: Any = None, *, key: str = OPERATOR, **headers: str) -> Any:
        """The answer's document; None for a refusal and for a stream."""
        content = body if isinstance(body, bytes) else None
        answer = await self._client.request(
            "GET" if body is None else "POST",
            path,
            content=content,
            json=body if content is None and body is not None else None,
            headers={"authorization": f"Bearer {key}", **headers},
        )
        if answer.status_code >= 400:
            self.refusals.append(answer.text)
            return None
        streamed = answer.headers["content-type"].startswith("text/event-stream")
        return None if streamed else answer.json()

    async def chat(self, text: str, **fields: Any) -> Any:
        """One call of the model."""
        key = fields.pop("key", OPERATOR)
        messages = [{"role": "user", "content": f"{text} {PROMPT}"}]
        return await self.ask("/v1/chat/completions", {"model": "gpt-sandbox", "messages": messages, **fields}, key=key)


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below ``folder`` but the configuration, as text."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "gatewaykit.toml":
            yield str(path.relative_to(folder)), path.read_bytes().decode("latin-1")


def everything(server: RedisServer) -> str:
    """All keys and values of the server."""
    with redis.Redis.from_url(
        server.url, password=REDIS_PASSWORD, decode_responses=True, encoding_errors="backslashreplace"
    ) as client:
        return json.dumps([[name, dump(client, name)] for name in client.scan_iter(count=1000)])


def dump(client: Any, name: str) -> str:
    """The value of one key, whatever its type."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return str(readers[client.type(name)](name))


async def use(visitor: Visitor, keys: list[str]) -> str:
    """Every path that a secret may take: right and wrong, in headers, bodies and addresses. Returns a key's id."""
    made = await visitor.ask("/api/admin/keys", {"name": "canary", "limits": {"rpm": 40}})
    key_id = made["key"]["id"] if "key" in made else made["id"]
    keys.append(made["secret"])
    turned = await visitor.ask(f"/api/admin/keys/{key_id}/rotate", {})
    keys.append(turned["secret"])
    for key in keys:
        assert await visitor.chat("say 3 words", key=key)
        await visitor.chat("say 30 words", key=key, stream=True)
    for fault in ("500", "401", "429", "html", "close"):
        await visitor.chat(f"[[upstream: {fault}]]")
    for fault in ("500", "close-midway", "error-midway"):
        await visitor.chat(f"[[upstream: {fault}]]", stream=True)
    await visitor.chat("hi", key=keys[0][:-1] + ("a" if keys[0][-1] != "a" else "b"))
    await visitor.chat("hi", key=TYPED)
    await visitor.chat("hi", model=f"no-such-model-{PROMPT}")
    await visitor.ask("/v1/models", **{"x-request-id": keys[0], "traceparent": keys[0], "tracestate": keys[0]})
    await visitor.chat("hi", temperature=keys[0])
    await visitor.ask("/v1/chat/completions", f'{{"model": "gpt-sandbox", "x": "{keys[1]}", {PROMPT}'.encode())
    await visitor.ask(f"/v1/models?api_key={keys[0]}", key=TYPED)
    await visitor.ask(f"/api/admin/keys/{keys[0]}")
    await visitor.ask("/api/admin/keys", {"name": "x", "secret": keys[0]})
    await visitor.ask(f"/api/admin/keys/{key_id}/revoke", {})
    await visitor.chat("hi", key=keys[1])
    for path in ("/api/admin/keys", "/api/admin/audit", "/api/admin/usage/records", "/v1/usage"):
        assert await visitor.ask(path)
    return str(key_id)


@dataclass
class Seen:
    """What a visit left: the text of each place, and what must not be in any of them."""

    places: list[tuple[str, str]]
    secrets: list[str]
    key_id: str
    refusals: int


async def visited(folder: Path, collector: Collector) -> Seen:
    """A gateway of two workers that was asked everything, stopped, and turned inside out."""
    keys: list[str] = []
    async with Upstream(openai_upstream.serve) as upstream:
        with redis_server(redis_program()) as server:
            with server.client() as operator:
                operator.config_set("requirepass", REDIS_PASSWORD)
            address = server.url.replace("unix://", f"unix://:{REDIS_PASSWORD}@")
            given = {"redis": address, "upstream": upstream.url, "collector": collector.url}
            (folder / "gatewaykit.toml").write_text(CONFIG.format(folder=folder, **given))
            gateway = Served(folder, "--workers", "2")
            try:
                async with httpx.AsyncClient(base_url=await gateway.url(), timeout=60, trust_env=False) as client:
                    visitor = Visitor(client)
                    key_id = await use(visitor, keys)
                    metrics = (await client.get("/metrics")).text
                kept = await asyncio.to_thread(everything, server)
                assert await gateway.stop() == 0
            finally:
                gateway.kill()
    assert len(keys) == 2
    places = [
        *contents(folder),
        ("Redis", kept),
        ("the metrics", metrics),
        ("the traces", "\n".join(body.decode("latin-1") for body in collector.bodies)),
        ("the refusals", "\n".join(visitor.refusals)),
    ]
    secrets = [*keys, OPERATOR, PEPPER, REDIS_PASSWORD, openai_upstream.CREDENTIAL, TYPED]
    return Seen(places, secrets, key_id, len(visitor.refusals))


async def test_no_secret_is_kept_anywhere(tmp_path: Path, collector: Collector) -> None:
    """Keys, pepper, credentials and prompts, sent along every path, are found in no file, no store and no error, and
    nothing of them leaves in metrics or traces.
    """
    seen = await visited(tmp_path, collector)
    assert seen.refusals >= 12
    # What may be there is found: the search looks where the gateway writes.
    texts = dict(seen.places)
    assert "gatewaykit_calls_total" in texts["the metrics"]
    assert {"books.db", "errors", "Redis", "the traces"} <= {name for name, text in seen.places if seen.key_id in text}
    assert len(collector.spans) > 20
    found = [(secret, name) for name, text in seen.places for secret in seen.secrets if secret in text]
    assert not found
    said = [name for name, text in seen.places if PROMPT in text.replace(f"no-such-model-{PROMPT}", "")]
    assert not said


async def test_no_secret_is_in_traces_that_tell_what_was_said(collector: Collector) -> None:
    """With prompts and answers switched on, a key that somebody puts into a prompt, a model's name or an id is masked;
    so are the settings' own secrets, should a provider say one.
    """
    key, credential = "gk_canary_0a1b2c3d4e5f60718293", "credential-canary-0a1b2c3d"
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
    script = (TextDelta(f"You sent {credential}"), Finished("stop"))
    gateway = traced(
        collector,
        plugin_of(providers=[FakeProvider(*script, models=["m", key])]),
        environ=environ,
        static_keys={"keys": {"test": KEY, "other": credential}},
        router={"aliases": {"m": ["fake/m"], key: [f"fake/{key}"]}},
    )
    async with gateway_client(gateway) as client:
        for model in ("m", key, f"no-such-{key}"):
            for stream in (False, True):
                messages = [{"role": "user", "content": f"{PROMPT}: my key is {key}, yours is {credential}"}]
                body = {"model": model, "stream": stream, "messages": messages}
                await client.post("/v1/chat/completions", json=body, headers={"x-request-id": key})
    sent = b"".join(collector.bodies)
    assert sent.count(PROMPT.encode()) == 6
    assert b"You sent ***" in sent
    assert key.encode() not in sent
    assert credential.encode() not in sent
