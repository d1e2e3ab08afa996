"""Secrets and prompts stay out of everything that is kept: database, outbox, Redis, logs, and bodies of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import redis

from gatewaykit.testing import Upstream
from gatewaykit.testing.servers import RedisServer, redis_program, redis_server

from ..ledger.serving import Served
from . import openai_upstream

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
    with redis.Redis.from_url(server.url, password=REDIS_PASSWORD, decode_responses=True) as client:
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


async def test_no_secret_is_kept_anywhere(tmp_path: Path) -> None:
    """Keys, pepper, credentials and prompts, sent along every path, are found in no file, no store and no error."""
    keys: list[str] = []
    async with Upstream(openai_upstream.serve) as upstream:
        with redis_server(redis_program()) as server:
            with server.client() as operator:
                operator.config_set("requirepass", REDIS_PASSWORD)
            address = server.url.replace("unix://", f"unix://:{REDIS_PASSWORD}@")
            (tmp_path / "gatewaykit.toml").write_text(
                CONFIG.format(folder=tmp_path, redis=address, upstream=upstream.url)
            )
            gateway = Served(tmp_path, "--workers", "2")
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
    assert len(visitor.refusals) >= 12
    places = [
        *contents(tmp_path),
        ("Redis", kept),
        ("the metrics", metrics),
        ("the refusals", "\n".join(visitor.refusals)),
    ]
    # What may be there is found: the search looks where the gateway writes.
    assert "gatewaykit_calls_total" in metrics
    assert {"books.db", "errors", "Redis"} <= {name for name, text in places if key_id in text}
    secrets = [*keys, OPERATOR, PEPPER, REDIS_PASSWORD, openai_upstream.CREDENTIAL, TYPED]
    found = [(secret, name) for name, text in places for secret in secrets if secret in text]
    assert not found
    said = [name for name, text in places if PROMPT in text.replace(f"no-such-model-{PROMPT}", "")]
    assert not said
