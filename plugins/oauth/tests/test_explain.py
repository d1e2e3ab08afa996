"""What a key of the database may do is known to those who ask where its requests would go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from gatewaykit.storage import Storage
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of
from gatewaykit.testing.waiting import within
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, KeyChanges, KeyLimits

from .conftest import OPERATOR, PEPPER, incoming, made, text_of
from .oauth_world import ADMIN_KEY, oauth_gateway, world
from .surfaces import Place

EXPLAIN = "/api/admin/routes/explain"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
CONFIG = """
[openai.upstreams.one]
base_url = "http://127.0.0.1:9/v1"
models = ["small", "large"]
"""


async def explained(client: httpx.AsyncClient, key: str, model: str = "small", /, **more: Any) -> dict[str, Any]:
    """The answer for this key."""
    answer = await client.post(EXPLAIN, json={"model": model, "key": key, **more}, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_limits_and_rights_of_keys_are_told(url: str, storage: Storage) -> None:
    """By id, by its beginning, or by the hint of the secret: what the key and its account allow, how their limits stand
    after a call, and what refuses the next one.
    """
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann", models=("s*",), limits=KeyLimits(rpd=100)))
    key = made(storage, owner="ann", routes=("/v1/chat/*",), limits=KeyLimits(rpm=1))
    static = {"keys": {"admin": ADMIN_KEY}, "scopes": {"admin": ["admin"]}}
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider(models=["small", "large"])]),
        plugin,
        database={"url": url},
        keys={"pepper": PEPPER},
        router={"default_provider": "fake"},
        static_keys=static,
        timeouts={"hook": 30},
    )
    async with gateway_client(gateway) as client:
        for name in (key.key.id, key.key.id[:12], key.key.hint):
            told = await explained(client, name)
            assert (told["key"]["id"], told["refused"], told["order"]) == (key.key.id, None, ["fake/small"])
        assert (told["key"]["models"], told["key"]["owner"]) == (["s*"], "ann")
        assert (await explained(client, key.key.id, "large"))["refused"]["status"] == 403
        assert (await explained(client, key.key.id, path="/v1/embeddings"))["refused"]["status"] == 403
        body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
        bearer = {"authorization": f"Bearer {text_of(key)}"}
        done = await client.post("/v1/chat/completions", json=body, headers=bearer)
        assert done.status_code == 200
        told = await explained(client, key.key.id)
    limits = {(line["of"], line["limit"]): (line["remaining"], line["fits"]) for line in told["limits"]}
    assert limits == {("key", "rpm"): (0, False), ("user", "rpd"): (99, True)}
    assert (told["refused"]["status"], told["refused"]["code"]) == (429, "rate_limit_exceeded")


async def test_a_key_that_lets_nobody_in(url: str, storage: Storage) -> None:
    """Switched off, at the end of its life, or of an account that is: it says which."""
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="bob", enabled=False))
    off, gone, bobs = made(storage), made(storage), made(storage, owner="bob")
    with storage.transaction() as session:
        store.set_enabled(session, OPERATOR, off.key.id, False)
        store.revoke(session, OPERATOR, gone.key.id)
    async with gateway_client(oauth_gateway(url, oauth={"issuer": None}, router={})) as client:
        bars = [(await explained(client, key.key.id))["key"]["bars"] for key in (off, gone, bobs)]
        refused = (await explained(client, off.key.id))["refused"]
        several = await client.post(EXPLAIN, json={"model": "m", "key": "key_"}, headers=ADMIN)
        secret = await client.post(EXPLAIN, json={"model": "m", "key": text_of(off)}, headers=ADMIN)
    assert bars == ["disabled", "revoked", "its account is disabled"]
    assert (refused["status"], refused["code"]) == (401, "invalid_api_key")
    assert several.json()["key"] == {"id": "key_", "known": False}
    assert (secret.status_code, text_of(off) in secret.text) == (400, False)


async def test_networks_of_a_key_are_told(url: str, storage: Storage) -> None:
    """And asked, where it is known from which address the request comes: it is, for a past one."""
    key = made(storage, networks=("192.0.2.0/24", "2001:db8::/32"))
    async with gateway_client(oauth_gateway(url, oauth={"issuer": None}, router={})) as client:
        told = await explained(client, key.key.id)
        assert told["key"]["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
        assert told["refused"]["status"] == 404
        for address, status in (("192.0.2.7", 404), ("::ffff:192.0.2.7", 404), ("198.51.100.1", 403), ("nowhere", 403)):
            assert (await explained(client, key.key.id, client=address))["refused"]["status"] == status


async def test_a_past_request_came_from_an_address(url: str, storage: Storage) -> None:
    """Whether the key may be used there now is asked of it."""
    key = made(storage)
    async with gateway_client(oauth_gateway(url, oauth={"issuer": None}, router={})) as client:
        body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
        bearer = {"authorization": f"Bearer {text_of(key)}"}
        refused = await client.post("/v1/chat/completions", json=body, headers=bearer)
        past = {"request_id": refused.headers["x-request-id"]}
        async with within(30, "the ledger has the request"):
            while (await client.post(EXPLAIN, json=past, headers=ADMIN)).status_code == 404:
                await asyncio.sleep(0.01)
        with storage.transaction() as session:
            store.update(session, OPERATOR, key.key.id, KeyChanges(networks=("192.0.2.0/24",)))
        told = await explained(client, key.key.id, **past)
    assert (told["past"]["client"], told["refused"]["status"]) == ("127.0.0.1", 403)


async def test_whoever_comes_with_a_token_is_known_by_the_grant(url: str) -> None:
    """So that a past request of theirs can be explained, which the ledger has under that id."""
    async with world(url) as there:
        token = (await there.tokens())["access_token"]
        known = await there.gateway.authenticate(incoming(token))
        found = await there.gateway.look_up(known.id)
        nobody = await there.gateway.look_up("grant_unknown")
    assert found is not None
    assert (found.principal.id, found.principal.owner, found.bars) == (known.id, known.owner, "")
    assert (found.principal.models, found.principal.scopes) == (known.models, known.scopes)
    assert nobody is None


def test_the_command_line_knows_them_too(tmp_path: Path) -> None:
    """From the database alone: rights, and a budget as far as it was spent."""
    place = Place(tmp_path, CONFIG)
    done = place.run("keys", "create", "ci", "--model", "small", "--rpm", "5", "--json")
    key = json.loads(done.stdout)["id"]
    told = place.run("routes", "explain", "small", "--key", key[:12])
    assert f"key {key} (ci): scopes inference, usage; models small" in told.stderr + told.stdout
    assert "5 of 5 left, 1 asked for" in told.stdout
    refused = place.run("routes", "explain", "large", "--key", key)
    assert "403 permission_denied" in refused.stderr
