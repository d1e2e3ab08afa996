"""A revoked key is refused everywhere, soon, and stays refused, whatever was under way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import delete, text

from gatewaykit.errors import AuthFailed, Unavailable
from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings
from gatewaykit.storage import Storage
from gatewaykit.testing.waiting import until, within
from gatewaykit.types import ADMIN, Principal
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import lookup, store
from gatewaykit_oauth.keys.audit import record
from gatewaykit_oauth.keys.model import Account, Actor, KeySpec
from gatewaykit_oauth.tables import ChangeRow

from .conftest import OPERATOR, PEPPER, SECRETS, incoming, keys_at, made, storage_at, text_of
from .surfaces import Place
from .test_oauth_cli import done

NEVER = {"poll_seconds": 60, "stale_seconds": 600}
SOONER = 45.0
"""Seconds within which somebody who asks that rarely can only have been told."""


def revoke(storage: Storage, key_id: str) -> None:
    """As another process does it."""
    with storage.transaction() as session:
        store.revoke(session, OPERATOR, key_id)


async def is_valid(keys: Any, secret: str) -> bool:
    """Whether the key opens."""
    try:
        return await keys.authenticate(incoming(secret)) is not None
    except AuthFailed:
        return False


async def until_refused(keys: Any, secret: str) -> None:
    """Wait for it, for less time than it takes until those who ask rarely ask by themselves."""
    async with within(SOONER, "the key is refused"):
        while await is_valid(keys, secret):
            await asyncio.sleep(0.005)


async def test_a_key_revoked_elsewhere_is_refused_after_the_next_poll(url: str, storage: Storage) -> None:
    """Another process's revocation is known here within the poll interval and a query."""
    created = made(storage)
    async with keys_at(url, poll_seconds=0.3) as keys:
        assert await is_valid(keys, text_of(created))
        await asyncio.to_thread(revoke, storage, created.key.id)
        await until_refused(keys, text_of(created))


@pytest.mark.parametrize("change", ["disable", "cut", "account", "rotate"])
async def test_every_change_reaches_remembered_keys(url: str, storage: Storage, change: str) -> None:
    """Disabling, cutting, rotating without grace, and disabling the account end a remembered key; ``changed`` has the
    effect here at once."""
    with storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann"))
    created = made(storage, owner="ann")
    key_id = created.key.id
    with storage.transaction() as session:
        if change == "cut":
            store.rotate(session, OPERATOR, key_id, secrets=SECRETS)
    done = {
        "disable": lambda session: store.set_enabled(session, OPERATOR, key_id, False),
        "cut": lambda session: store.cut(session, OPERATOR, key_id),
        "account": lambda session: put_account(session, OPERATOR, Account(id="ann", enabled=False)),
        "rotate": lambda session: store.rotate(session, OPERATOR, key_id, grace=timedelta(0), secrets=SECRETS),
    }

    def commit() -> None:
        with storage.transaction() as session:
            done[change](session)

    async with keys_at(url, **NEVER) as keys:
        assert await is_valid(keys, text_of(created))
        await asyncio.to_thread(commit)
        assert await is_valid(keys, text_of(created))
        await keys.changed()
        assert not await is_valid(keys, text_of(created))


async def test_a_slow_load_never_revives_a_revoked_key(
    url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that read the key before it was revoked, and ends after the revocation is known, is thrown away: neither
    the request that waited for it nor a later one gets in."""
    created = made(storage)
    read, go = Event(), Event()
    real = lookup.recognise

    def slow(*arguments: Any) -> Any:
        found = real(*arguments)
        if not read.is_set():
            assert found.entry is not None
            read.set()
            assert go.wait(60)
        return found

    monkeypatch.setattr(lookup, "recognise", slow)
    async with keys_at(url, **NEVER) as keys:
        waiting = asyncio.create_task(is_valid(keys, text_of(created)))
        await until(read.is_set)
        await asyncio.to_thread(revoke, storage, created.key.id)
        await keys.changed()
        go.set()
        assert await waiting is False
        assert not await is_valid(keys, text_of(created))
        assert len(keys._running()[0].cache) == 0


async def test_many_races_of_loads_and_revocations(url: str, storage: Storage) -> None:
    """Forty keys are used all the time while they are revoked one by one; after its revocation is known none of them
    ever opens again."""
    created = [made(storage, f"key {number}") for number in range(40)]
    gone: set[str] = set()
    async with keys_at(url, cache_size=10, poll_seconds=0.01, negative_seconds=0.01) as keys:

        async def use() -> None:
            while len(gone) < len(created):
                for one in created:
                    known = one.key.id in gone
                    assert not (await is_valid(keys, text_of(one)) and known)
                await asyncio.sleep(0)

        async def end() -> None:
            for one in created:
                await asyncio.to_thread(revoke, storage, one.key.id)
                await keys.changed()
                gone.add(one.key.id)

        await asyncio.wait_for(asyncio.gather(use(), use(), use(), end()), 300)
        assert not any([await is_valid(keys, text_of(one)) for one in created])


async def test_who_fell_behind_forgets_everything(url: str, storage: Storage) -> None:
    """When the change that was read last is no longer in the feed, others may be missing: nothing remembered is
    believed."""
    created = made(storage)
    async with keys_at(url, **NEVER) as keys:
        assert await is_valid(keys, text_of(created))

        def commit() -> None:
            with storage.transaction() as session:
                store.revoke(session, OPERATOR, created.key.id)
                store.create(session, OPERATOR, created.key.spec, secrets=SECRETS)
                session.execute(delete(ChangeRow).where(ChangeRow.seq < 3))

        await asyncio.to_thread(commit)
        await keys.changed()
        assert not await is_valid(keys, text_of(created))


async def test_a_database_that_was_set_back_is_noticed(url: str, storage: Storage) -> None:
    """A feed whose newest number is lower than before is that of another state of the database."""
    first, second = made(storage), made(storage)
    async with keys_at(url, **NEVER) as keys:
        assert await is_valid(keys, text_of(second))

        def set_back() -> None:
            with storage.transaction() as session:
                session.execute(text("DELETE FROM api_key_secrets WHERE id = 2"))
                session.execute(text("DELETE FROM key_changes WHERE seq = 2"))

        await asyncio.to_thread(set_back)
        await keys.changed()
        assert not await is_valid(keys, text_of(second))
        assert await is_valid(keys, text_of(first))
        assert keys._running()[0].feed.cursor == 1
        assert len(keys._running()[0].cache) == 1


async def test_more_changes_than_one_read_takes(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many changes there were, one poll reads them all."""
    from gatewaykit_oauth.changes import feed

    monkeypatch.setattr(feed, "BATCH", 3)
    async with keys_at(sqlite_url, **NEVER) as keys:
        created = [made(keys._storage) for _ in range(8)]
        await keys.changed()
        for one in created:
            assert await is_valid(keys, text_of(one))
        for one in created:
            await asyncio.to_thread(revoke, keys._storage, one.key.id)
        await keys.changed()
        assert len(keys._running()[0].cache) == 0


@pytest.mark.parametrize("action", ["key.revoke", "account.sessions.end"])
async def test_numbers_grow_in_the_order_of_commits(url: str, storage: Storage, action: str) -> None:
    """A transaction that took its number first is committed first: who reads the feed up to a number misses none
    below it, whatever was changed."""
    from threading import Thread

    keys = [made(storage).key for _ in range(2)]
    with storage_at(url).opened() as other:
        began = Event()

        def second() -> None:
            began.set()
            with other.transaction() as session:
                record(session, OPERATOR, action, f"key:{keys[1].id}", before=None, after=None, now=datetime.now(UTC))

        thread = Thread(target=second)
        with storage.transaction() as session:
            store.revoke(session, OPERATOR, keys[0].id)
            thread.start()
            assert began.wait(5)
            thread.join(0.3)
            assert thread.is_alive()
            with storage.transaction(write=False) as reader:
                assert reader.scalar(text("SELECT max(seq) FROM key_changes")) == 2
        thread.join(10)
    with storage.transaction(write=False) as session:
        feed = session.execute(text("SELECT subject FROM key_changes ORDER BY seq DESC LIMIT 2")).scalars().all()
    assert feed == [f"key:{keys[1].id}", f"key:{keys[0].id}"]


class Switch:
    """A database that can be made to fail, between the storage and who uses it."""

    def __init__(self, storage: Storage) -> None:
        self._read = storage.read
        self.down = False
        self.asked = 0

    async def read(self, work: Any) -> Any:
        """As the storage does, or as it does when it is down."""
        self.asked += 1
        if self.down:
            raise Unavailable(retry_after=1.0, detail="database: down")
        return await self._read(work)


async def test_while_the_database_is_down(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered keys work; others get 503 with Retry-After at once, without asking; wrong checksums still get 401;
    and all is well again when the database is."""
    known, unknown = made(storage), made(storage)
    async with keys_at(url, **NEVER) as keys:
        switch = Switch(keys._storage)
        monkeypatch.setattr(keys._storage, "read", switch.read)
        assert await is_valid(keys, text_of(known))
        switch.down = True
        await keys.changed(["key:of somebody else"])
        asked = switch.asked
        assert await is_valid(keys, text_of(known))
        with pytest.raises(Unavailable) as refused:
            await keys.authenticate(incoming(text_of(unknown)))
        assert refused.value.retry_after
        assert not await is_valid(keys, text_of(unknown)[:-1] + ("0" if text_of(unknown)[-1] != "0" else "1"))
        assert switch.asked == asked
        switch.down = False
        await keys.changed()
        assert await is_valid(keys, text_of(unknown))


async def test_what_nobody_can_confirm_is_refused(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When changes could not be read for ``stale_seconds``, remembered keys too get 503 and never 401, until they
    can."""
    created = made(storage)
    async with keys_at(url, poll_seconds=0.05, stale_seconds=600) as keys:
        switch, feed = Switch(keys._storage), keys._running()[0].feed
        monkeypatch.setattr(keys._storage, "read", switch.read)
        assert await is_valid(keys, text_of(created))
        switch.down = True
        await until(lambda: feed.down)
        assert await is_valid(keys, text_of(created))
        feed.confirmed -= 600  # as if all of that time had passed
        with pytest.raises(Unavailable) as refusal:
            await is_valid(keys, text_of(created))
        assert refusal.value.retry_after
        switch.down = False
        await until(lambda: not feed.down)
        assert await is_valid(keys, text_of(created))


async def test_outside_of_its_lifespan_it_says_so(sqlite_url: str, storage: Storage) -> None:
    """Before the start and after the end it is 503, and not 401."""
    created = made(storage)
    async with keys_at(sqlite_url) as keys:
        pass
    with pytest.raises(Unavailable):
        await keys.authenticate(incoming(text_of(created)))
    with pytest.raises(Unavailable):
        _ = keys.secrets


def test_an_admin_cannot_be_anybody_else(storage: Storage) -> None:
    """An actor with the id of a key that does not exist holds nothing, whatever its scopes say."""
    actor = Actor("key_none", Principal("key_none", scopes=frozenset({ADMIN})))
    with pytest.raises(AuthFailed), storage.transaction() as session:
        store.create(session, actor, KeySpec(name="x"), secrets=SECRETS)


async def test_a_command_tells_gateways_by_redis(tmp_path: Path, redis_url: str) -> None:
    """What it changes counts at once, long before anybody asks the database."""
    place = Place(tmp_path, f'[redis]\nurl = "{redis_url}"\nprefix = "test_command"\n')
    place.config.write_text(place.config.read_text().replace("[keys]\n", f'[keys]\npepper = "{PEPPER}"\n'))
    key = await asyncio.to_thread(done, place, "keys", "create", "x")
    link = RedisLink(RedisSettings(url=redis_url, prefix="test_command"))
    async with link.lifespan(), keys_at(f"sqlite:///{tmp_path}/gatewaykit.db", redis=link, **NEVER) as keys:
        assert await is_valid(keys, key["secret"])
        await asyncio.to_thread(done, place, "keys", "revoke", key["id"], "--yes")
        await until_refused(keys, key["secret"])
