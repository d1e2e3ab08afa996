"""Files that clients have uploaded themselves: a call that names them goes to the credential that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gatewaykit_gigachat.pool.owners import FileOwners
from gatewaykit_gigachat.sandbox import B2B, CORP, PERS, RunningSandbox, running_sandbox
from gatewaykit_gigachat.session import client_id

from .test_gateway import KEYS, client_of, pool_of

PNG = b"\x89PNG\r\n\x1a\n"
SCOPES = (PERS, B2B, CORP)


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox() as running:
        yield running


def put(sandbox: RunningSandbox, scope: str, key: str = "k0") -> str:
    """A file of this credential, for the tenant of this key."""
    clients = sandbox.sandbox.settings.clients
    owner = next(client.client_id for client in clients if client.scope == scope)
    tenant = client_id(f"static:{key}")
    return sandbox.sandbox.files.add(owner, tenant, "a.png", "image/png", "general", PNG).id


async def ask(client: httpx.AsyncClient, *file_ids: str, key: str = "k0", stream: bool = False) -> httpx.Response:
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "say 2 words"}, {"type": "file", "file": {"file_id": it}}],
        }
        for it in file_ids
    ]
    body = {"model": "GigaChat-2-Max", "messages": messages, "stream": stream}
    return await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEYS[key]}"})


async def test_calls_go_to_the_owner(sandbox: RunningSandbox) -> None:
    """Whichever credential is freest; it is found by asking each of them once, and never for text."""
    files = {scope: put(sandbox, scope) for scope in SCOPES}
    async with client_of(pool_of(sandbox, *SCOPES)) as (client, provider):
        for scope, file_id in files.items():
            before = {member.name: member.calls for member in provider.snapshot().members}
            for stream in (False, True, False):
                answer = await ask(client, file_id, stream=stream)
                assert (answer.status_code, "word2" in answer.text) == (200, True), answer.text
            calls = {m.name: m.calls - before[m.name] for m in provider.snapshot().members if m.calls > before[m.name]}
            assert calls == {scope.rpartition("_")[2].lower(): 3}
        assert sandbox.stats.requests["/files/{id}"] == len(SCOPES) * len(SCOPES)
        body = {"model": "GigaChat-2", "messages": [{"role": "user", "content": "say 2 words"}]}
        await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEYS['k0']}"})
        assert sandbox.stats.requests["/files/{id}"] == len(SCOPES) * len(SCOPES)
    assert sandbox.stats.statuses[200] > 0
    assert sandbox.stats.requests["/chat/completions"] == 10


async def test_what_cannot_be_served_is_told_before_any_call(sandbox: RunningSandbox) -> None:
    """A file that nobody has, one of another tenant, files of two accounts, what is no id, and too many of them."""
    mine, other = put(sandbox, PERS), put(sandbox, B2B)
    theirs = put(sandbox, PERS, key="k1")
    asked: list[tuple[tuple[str, ...], int, str]] = [
        (("00000000-0000-4000-8000-000000000000",), 404, "no such file"),
        ((theirs,), 403, "no access to a file"),
        ((mine, other), 400, "different GigaChat accounts"),
        (("../models",), 400, "not the id of a file"),
        (tuple(f"f{number}" for number in range(33)), 400, "at most 32 files"),
    ]
    async with client_of(pool_of(sandbox, PERS, B2B)) as (client, _):
        for file_ids, status, words in asked:
            answer = await ask(client, *file_ids)
            assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text
        assert (await ask(client, theirs, key="k1")).status_code == 200
    assert sandbox.stats.requests["/chat/completions"] == 1


async def test_a_file_that_is_gone_is_forgotten(sandbox: RunningSandbox) -> None:
    """Deleted meanwhile, it is no such file; one credential alone need not ask anybody."""
    file_id = put(sandbox, B2B)
    async with client_of(pool_of(sandbox, PERS, B2B)) as (client, _):
        assert (await ask(client, file_id)).status_code == 200
        sandbox.sandbox.files._files.clear()
        assert [(await ask(client, file_id)).status_code for _ in range(2)] == [404, 404]
    assert sandbox.stats.requests["/chat/completions"] == 2
    before = sandbox.stats.requests["/files/{id}"]
    assert before == 4
    async with client_of(pool_of(sandbox, B2B)) as (client, _):
        assert (await ask(client, put(sandbox, B2B))).status_code == 200
    assert sandbox.stats.requests["/files/{id}"] == before


async def test_one_that_cannot_tell_is_not_taken_for_a_no(sandbox: RunningSandbox) -> None:
    """While a credential does not answer, a file of the other one is found all the same; one of its own is not denied,
    but cannot be had now.
    """
    mine, other = put(sandbox, PERS), put(sandbox, B2B)
    table = pool_of(sandbox, PERS, B2B, max_retries=0)
    table["pool"]["b2b"]["credentials"] = sandbox.key(CORP)  # of another scope: refused
    async with client_of(table) as (client, _):
        assert (await ask(client, mine)).status_code == 200
        assert (await ask(client, other)).status_code == 502


class Elsewhere:
    """A member that has what begins with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.attachments = self

    async def has(self, file_id: str, client_id: str) -> bool:
        return file_id.startswith(self.name)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was asked about least recently is asked about anew."""
    monkeypatch.setattr("gatewaykit_gigachat.pool.owners._MOST_REMEMBERED", 3)
    members: list[Any] = [Elsewhere("a"), Elsewhere("b")]
    owners = FileOwners(members)
    for number in range(5):
        assert await owners.of_all({f"b{number}"}, "c") == {"b"}
    assert len(owners._known) == 3
    assert ("c", "b0") not in owners._known
    assert not owners._asking
