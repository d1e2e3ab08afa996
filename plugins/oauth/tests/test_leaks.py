"""Credentials that somebody found in public, and keys that end together."""

from __future__ import annotations

from typing import Any

from gatewaykit.storage import Storage
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.format import new_key, new_secret

from .conftest import made, text_of
from .oauth_world import World, world

PATH = "/api/credentials/revoke"


async def report(there: World, credentials: Any) -> tuple[int, str]:
    """Status and body of the answer to a stranger."""
    answer = await there.http.post(PATH, json={"credentials": credentials})
    assert answer.status_code >= 400 or answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.text


async def test_who_finds_a_credential_ends_it(url: str, storage: Storage) -> None:
    """Keys and refresh tokens end everywhere at once, with all that they gave; others stay; the answer tells nothing,
    and the audit log tells who found them."""
    found, kept = made(storage), made(storage)
    async with world(url, keys={"leak_reports": True}) as there:
        tokens, other = await there.tokens(), await there.tokens()
        secrets = [text_of(found), tokens["refresh_token"]]
        good = await report(there, [*secrets, "x", "gk_live_" + "x" * 42])
        assert good == (202, "")
        assert good == await report(there, [new_key("live"), new_secret("gko_"), "кот"]) == await report(there, secrets)
        assert [await there.is_good(one) for one in (text_of(found), tokens["access_token"])] == [False, False]
        assert [await there.is_good(one) for one in (text_of(kept), other["access_token"])] == [True, True]
        log = await there.authority.read(lambda session: store.audit(session, actor="leak").items)
        assert sorted((entry.action, entry.client) for entry in log) == [
            ("grant.end", "192.0.2.1"),
            ("key.revoke", "192.0.2.1"),
        ]
        assert not any(secret in str(entry) for secret in secrets for entry in log)


async def test_what_is_no_report(sqlite_url: str) -> None:
    """Too many, none, and what is no text is refused; an address may report so often only; by default nobody may."""
    async with world(sqlite_url, keys={"leak_reports": True}) as there:
        for wrong in ([], ["x"] * 101, [7], "x", None, ["x" * 201]):
            assert (await report(there, wrong))[0] == 400, wrong
        answers = [await there.http.post(PATH, json={"credentials": ["x"]}) for _ in range(60)]
        assert {answer.status_code for answer in answers} == {202, 429}
        assert int(answers[-1].headers["retry-after"]) > 0
    async with world(sqlite_url) as there:
        assert (await report(there, ["x"]))[0] == 404


async def test_keys_end_together(url: str, storage: Storage) -> None:
    """All that are named or all of an owner; one that may not be ended keeps the others as they are."""
    from gatewaykit_oauth.accounts import put_account
    from gatewaykit_oauth.keys.model import Account

    from .conftest import OPERATOR

    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann"))
        put_account(session, OPERATOR, Account(id="bob"))
    keys = [made(storage, f"key {number}", owner="bob") for number in range(4)]
    own = made(storage, "manager", owner="ann", scopes=("inference", "keys"))
    async with world(url) as there:

        async def revoke(headers: dict[str, str], **body: Any) -> int:
            return (await there.http.post("/api/admin/keys/revoke", json=body, headers=headers)).status_code

        async def good() -> int:
            return sum([await there.is_good(text_of(key)) for key in keys])

        ids = [key.key.id for key in keys]
        assert await revoke(there.operator, ids=[*ids, "key_nothing"]) == 404
        member = {"authorization": f"Bearer {text_of(own)}"}
        assert [await revoke(member, ids=ids), await revoke(member, owner="bob")] == [404, 403]
        wrong = [
            await revoke(there.operator, **body) for body in ({}, {"ids": ids, "owner": "bob"}, {"ids": ["x"] * 201})
        ]
        assert wrong == [400] * 3
        assert await good() == 4
        assert await revoke(there.operator, ids=ids[:2]) == 200
        assert await good() == 2
        assert await revoke(there.operator, owner="bob") == 200
        assert await good() == 0
        assert await there.is_good(text_of(own))
