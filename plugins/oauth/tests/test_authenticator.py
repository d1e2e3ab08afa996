"""From a request's headers to the principal: what is answered, what is remembered, and what it costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from gatewaykit.errors import AuthFailed, BadRequest, PermissionDenied, Unavailable
from gatewaykit.storage import Storage
from gatewaykit.testing.waiting import until
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.changes import cache
from gatewaykit_oauth.keys import authenticator, store
from gatewaykit_oauth.keys.authenticator import ApiKeys
from gatewaykit_oauth.keys.format import has_checksum, new_key
from gatewaykit_oauth.keys.model import Account, KeyLimits

from .conftest import NOW, OPERATOR, SECRETS, incoming, keys_at, made, text_of

Count = Callable[[], int]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many keys were looked for in the database since the last time one asked."""
    from gatewaykit_oauth.keys import lookup

    seen: list[None] = []
    real = lookup.recognise

    def counted(*arguments: Any) -> Any:
        seen.append(None)
        return real(*arguments)

    def count() -> int:
        found = len(seen)
        seen.clear()
        return found

    monkeypatch.setattr(lookup, "recognise", counted)
    return count


async def refused(keys: ApiKeys, *arguments: Any, **headers: str) -> tuple[int, str]:
    """Status and message of the refusal."""
    with pytest.raises((AuthFailed, PermissionDenied, BadRequest)) as error:
        await keys.authenticate(incoming(*arguments, **headers))
    return error.value.status, error.value.message


async def test_a_key_is_recognised_and_remembered(url: str, storage: Storage, reads: Count) -> None:
    """The principal has what the key has, and only the first request asks the database."""
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann", limits=KeyLimits(tpm=9)))
    created = made(storage, owner="ann", models=("gpt-*",), routes=("/v1/*",), scopes=("inference", "keys"))
    async with keys_at(url) as keys:
        for _ in range(3):
            principal = await keys.authenticate(incoming(text_of(created)))
        assert principal is not None
        assert (principal.id, principal.owner, principal.models) == (created.key.id, "ann", ("gpt-*",))
        assert (principal.routes, principal.scopes) == (("/v1/*",), {"inference", "keys"})
        assert [limit.subject for limit in principal.limits] == ["user:ann"]
        assert reads() == 1


async def test_both_headers_are_read(url: str, storage: Storage) -> None:
    """``x-api-key`` serves as ``Authorization: Bearer`` does, whose scheme may be written in any way; both may be sent
    if they hold the same key, and other schemes do not count."""
    key = text_of(made(storage))
    async with keys_at(url) as keys:
        for headers in (
            {"x_api_key": key},
            {"authorization": f"bEaReR  {key} "},
            {"authorization": f"Bearer {key}", "x_api_key": key},
            {"authorization": "Basic dTpw", "x_api_key": key},
        ):
            assert await keys.authenticate(incoming(**headers)) is not None


async def test_two_different_keys_are_refused(url: str, storage: Storage) -> None:
    """Nobody could tell whose request it is: 400; two keys that are both not ours are not our matter."""
    key, other = text_of(made(storage)), text_of(made(storage))
    async with keys_at(url) as keys:
        for given in (other, "static-key-of-the-configuration"):
            assert (await refused(keys, key, x_api_key=given))[0] == 400
            assert (await refused(keys, given, x_api_key=key))[0] == 400
        assert await keys.authenticate(incoming("one-static-key", x_api_key="another-static-key")) is None


async def test_keys_of_others_are_left_to_others(sqlite_url: str, reads: Count) -> None:
    """What has not exactly our shape is none of our business, also after ``gk_``, and costs no look-up."""
    async with keys_at(sqlite_url) as keys:
        for given in (None, "gk_test_0123456789abcdefghij", "sk-something", new_key("live") + "x"):
            assert await keys.authenticate(incoming(given)) is None
        assert reads() == 0


async def test_a_wrong_checksum_asks_nobody(sqlite_url: str, reads: Count) -> None:
    """A mistyped key is refused without any look-up."""
    async with keys_at(sqlite_url) as keys:
        for _ in range(3):
            key = new_key("live")
            wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
            assert not has_checksum(wrong)
            assert (await refused(keys, wrong))[0] == 401
        assert reads() == 0


async def test_every_invalid_key_gets_the_same_answer(url: str, storage: Storage) -> None:
    """Unknown, mistyped, disabled, expired, revoked, rotated away, and of a disabled account: one status, one text."""
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="gone", enabled=False))
    names = ("disabled", "revoked", "rotated", "expired")
    created = {name: made(storage, name) for name in names}
    with storage.transaction() as session:
        ids = {name: one.key.id for name, one in created.items()}
        store.set_enabled(session, OPERATOR, ids["disabled"], False)
        store.revoke(session, OPERATOR, ids["revoked"])
        store.rotate(session, OPERATOR, ids["rotated"], grace=timedelta(0), secrets=SECRETS)
        session.execute(text("UPDATE api_keys SET expires = created WHERE name = 'expired'"))
    secrets = [text_of(created[name]) for name in names]
    secrets += [text_of(made(storage, owner="gone")), new_key("live"), "gk_live_" + "0" * 42]
    async with keys_at(url) as keys:
        answers = {await refused(keys, secret) for secret in secrets}
        again = {await refused(keys, secret) for secret in secrets}
    assert answers == again == {(401, "This API key is not valid.")}


async def test_a_remembered_key_expires(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a key, or of a secret's grace, is looked at with each request, not only when it is loaded."""
    hour = timedelta(hours=1)
    expiring, rotated = made(storage, expires=datetime.now(UTC) + hour), made(storage)
    with storage.transaction() as session:
        store.rotate(session, OPERATOR, rotated.key.id, grace=hour, secrets=SECRETS)
    async with keys_at(url, poll_seconds=30, stale_seconds=60) as keys:
        for one in (expiring, rotated):
            assert await keys.authenticate(incoming(text_of(one)))
        clock = SimpleNamespace(time=lambda: time.time() + hour.total_seconds() + 1)
        monkeypatch.setattr(authenticator, "time", clock)
        for one in (expiring, rotated):
            assert (await refused(keys, text_of(one)))[0] == 401


@pytest.mark.parametrize(
    ("client", "passes"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("11.1.2.3", False),
        ("::ffff:11.1.2.3", False),
        ("2001:db9::1", False),
        (None, False),
        ("", False),
        ("unix", False),
    ],
)
async def test_networks(sqlite_url: str, client: str | None, passes: bool) -> None:
    """A key with networks works from these, of both versions and mapped ones, and from nowhere else: 403."""
    async with keys_at(sqlite_url) as keys:
        created = made(keys._storage, networks=("10.0.0.0/8", "2001:db8::/32"))
        if passes:
            assert await keys.authenticate(incoming(text_of(created), client))
        else:
            assert (await refused(keys, text_of(created), client))[0] == 403


async def test_a_key_can_be_used_as_soon_as_it_is_made(url: str, storage: Storage) -> None:
    """That a key was unknown a moment ago is forgotten when it is made."""
    from gatewaykit_oauth.keys.secrets import NewSecret

    text = new_key("live")

    class Foreseen(type(SECRETS)):  # type: ignore[misc]
        def new(self) -> NewSecret:
            return NewSecret(text, self.digest(text))

    async with keys_at(url, poll_seconds=30, stale_seconds=60, negative_seconds=60) as keys:
        assert (await refused(keys, text))[0] == 401
        await asyncio.to_thread(made, storage, secrets=Foreseen("canary-pepper-7c1e0f2b9a4d6853c0ff"))
        assert (await refused(keys, text))[0] == 401
        await keys.changed()
        assert await keys.authenticate(incoming(text))


async def test_unknown_keys_are_remembered_briefly(
    url: str, storage: Storage, reads: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same wrong key asks the database once, and again when the time is over."""
    key = new_key("live")
    async with keys_at(url, poll_seconds=60, stale_seconds=600, negative_seconds=60) as keys:
        for _ in range(5):
            await refused(keys, key)
        assert reads() == 1
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 61)
        monkeypatch.setattr(cache, "time", clock)
        await refused(keys, key)
        assert reads() == 1


async def test_strangers_push_out_nobody(sqlite_url: str, reads: Count) -> None:
    """However many unknown keys are tried, what is remembered is bounded, and a known key stays."""
    async with keys_at(sqlite_url, cache_size=3) as keys:
        created = made(keys._storage)
        assert await keys.authenticate(incoming(text_of(created)))
        for _ in range(10):
            await refused(keys, new_key("live"))
        reads()
        assert await keys.authenticate(incoming(text_of(created)))
        assert reads() == 0
        cache = keys._running()[0].cache
        assert len(cache._unknown) == 3


async def test_the_least_used_key_is_forgotten(sqlite_url: str, reads: Count) -> None:
    """At most as many keys are remembered as the setting says, those used last."""
    async with keys_at(sqlite_url, cache_size=2) as keys:
        first, second, third = (text_of(made(keys._storage)) for _ in range(3))
        for key in (first, second, first, third):
            await keys.authenticate(incoming(key))
        assert reads() == 3
        await keys.authenticate(incoming(first))
        assert reads() == 0
        await keys.authenticate(incoming(second))
        assert reads() == 1
        cache = keys._running()[0].cache
        assert len(cache) == 2
        assert sum(map(len, cache._digests.values())) == 2


async def test_last_use_is_written_and_never_set_back(url: str, storage: Storage) -> None:
    """At the end of a run the last use and its address are there; an earlier note does not replace a later one."""
    from gatewaykit_oauth.keys.last_used import write_notes

    created, idle = made(storage), made(storage)
    before = datetime.now(UTC)
    async with keys_at(url) as keys:
        await keys.authenticate(incoming(text_of(created), "192.0.2.1"))
        await keys.authenticate(incoming(text_of(created), "192.0.2.2"))
    with storage.transaction() as session:
        write_notes(session, {created.key.id: (NOW.timestamp() - 10**8, "192.0.2.3")})
    with storage.transaction(write=False) as session:
        key, other = store.get(session, created.key.id), store.get(session, idle.key.id)
    assert key.last_used is not None
    assert before <= key.last_used <= datetime.now(UTC)
    assert (key.last_used_from, key.version) == ("192.0.2.2", created.key.version)
    assert (other.last_used, other.last_used_from) == (None, None)


async def test_what_cannot_be_written_of_last_use_is_kept(
    url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database does not take it, the last use waits in memory, and is written the next time."""
    created = made(storage)

    async def down(work: Any) -> None:
        raise Unavailable(detail="database: down")

    async with keys_at(url) as keys:
        await keys.authenticate(incoming(text_of(created)))
        last_used = keys._running()[1]
        with monkeypatch.context() as patch:
            patch.setattr(keys._storage, "write", down)
            await last_used.flush()
        await last_used.flush()
        with storage.transaction(write=False) as session:
            assert store.get(session, created.key.id).last_used_from == "192.0.2.1"


async def test_a_remembered_key_needs_no_wait(sqlite_url: str) -> None:
    """Its authentication never suspends: no thread, no store and no lock stands between."""
    async with keys_at(sqlite_url) as keys:
        asked = incoming(text_of(made(keys._storage)))
        first = await keys.authenticate(asked)
        with pytest.raises(StopIteration) as done:
            keys.authenticate(asked).send(None)
        assert done.value.value is first


async def test_callers_share_one_load(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty requests with a key that is not remembered load it once, also when the first of them goes away."""
    from threading import Event

    from gatewaykit_oauth.keys import lookup

    created, go, loads = made(storage), Event(), []
    real = lookup.recognise

    def held(*arguments: Any) -> Any:
        loads.append(None)
        assert go.wait(60)
        return real(*arguments)

    monkeypatch.setattr(lookup, "recognise", held)
    async with keys_at(url) as keys:
        callers = [asyncio.create_task(keys.authenticate(incoming(text_of(created)))) for _ in range(20)]
        await until(lambda: loads)
        callers[0].cancel()
        await asyncio.wait([callers[0]])
        go.set()
        found = await asyncio.gather(*callers[1:])
    assert callers[0].cancelled()
    assert {principal.id for principal in found if principal} == {created.key.id}
    assert len(loads) == 1
