"""The database is down: Postgres is killed. What still works, what does not, and how it comes back."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gatewaykit.testing import KEY
from gatewaykit.testing.servers import PostgresServer

from .conftest import Log, Opener, recorded
from .page import Row

PRICES = {"models": [{"model": "*", "input": 1, "output": 1}]}


async def test_db_down_key_in_use(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A key that this process knows goes on working."""
    async with world(postgres_url) as it:
        key = await it.key()
        await it.ask(key)
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(5, key))


async def test_db_down_new_key(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log) -> None:
    """A key that this process has not seen is neither let in nor called invalid, and works when the database does."""
    async with world(postgres_url) as it:
        key = await it.key()
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(5, key))
        await log.until("changes of credentials cannot be read")
        await asyncio.to_thread(postgres.start)
        await it.until_answered(200, lambda: it.ask(key))
        await log.until("changes of credentials can be read again")
    assert len(log.lines("changes of credentials cannot be read")) == 1
    assert len(log.lines("changes of credentials can be read again")) == 1


async def test_db_down_wrong_key(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A text whose checksum is wrong is refused as ever: nobody has to be asked."""
    async with world(postgres_url) as it:
        key = await it.key()
        await asyncio.to_thread(postgres.kill)
        row.holds(await it.ask(key[:-1] + ("1" if key[-1] == "0" else "0")))


async def test_db_down_configured_key(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Keys of the configuration need no database."""
    async with world(postgres_url) as it:
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(5, KEY))


async def test_db_down_stale_key(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A key that may have been revoked for ``keys.stale_seconds`` is trusted no longer, until the database answers."""
    async with world(postgres_url, keys={"poll_seconds": 0.1, "stale_seconds": 0.3}) as it:
        key = await it.key()
        await it.until_answered(200, lambda: it.ask(key))
        await asyncio.to_thread(postgres.kill)
        row.holds(await it.until_answered(503, lambda: it.ask(key)), *await it.ask_times(3, key))
        await asyncio.to_thread(postgres.start)
        await it.until_answered(200, lambda: it.ask(key))


async def test_db_down_key_management(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Nothing can be listed or changed, and what was refused has not happened."""
    async with world(postgres_url) as it:
        await it.key(name="before")
        await asyncio.to_thread(postgres.kill)
        row.holds(await it.new_key(name="during"), await it.http.get("/api/admin/keys"))
        await asyncio.to_thread(postgres.start)
        listed = await it.http.get("/api/admin/keys")
    assert [key["name"] for key in listed.json()["items"]] == ["before"]


async def test_db_down_usage(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Figures are not shown rather than shown wrong."""
    async with world(postgres_url) as it:
        await asyncio.to_thread(postgres.kill)
        row.holds(await it.http.get("/v1/usage"), await it.http.get("/api/admin/usage"))
        await asyncio.to_thread(postgres.start)
        assert (await it.http.get("/v1/usage")).status_code == 200


async def test_db_down_ledger(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log) -> None:
    """Records wait in the outbox; when the database is back each call has one."""
    async with world(postgres_url) as it:
        await it.ask_times(3)
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(20))
        await log.until("records of calls are not written yet")
        await asyncio.to_thread(postgres.start)
        await it.ask_times(3)
    assert recorded(postgres_url) == sorted(it.calls)
    assert len(log.lines("records of calls are not written yet")) == 1


async def test_db_down_ledger_at_the_end(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, tmp_path: object
) -> None:
    """A gateway that stops while the database is down leaves its records to the next one that starts."""
    outbox = {"outbox": f"{tmp_path}/shared"}
    async with world(postgres_url, ledger=outbox) as it:
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(5))
    await asyncio.to_thread(postgres.start)
    async with world(postgres_url, ledger=outbox):
        async with asyncio.timeout(60):
            while recorded(postgres_url) != sorted(it.calls):
                await asyncio.sleep(0.02)


async def limits_down(world: Opener, postgres: PostgresServer, url: str, policy: str, log: Log) -> list[httpx.Response]:
    """Seven calls under a limit of four, with the database down after the first; then it is back and counts again."""
    limits = {"store": "database", "on_failure": policy, "each_key": {"rpd": 4}}
    async with world(url, limits=limits) as it:
        assert (await it.ask()).headers["x-ratelimit-remaining-requests"] == "3"
        await asyncio.to_thread(postgres.kill)
        answers = await it.ask_times(7)
        await asyncio.to_thread(postgres.start)
        assert await it.remaining_when(log, "counts limits again") == "2"
    assert len(log.lines("does not count limits")) == 1
    return answers


async def test_db_down_limits_local(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``local``: each process counts for itself, from nothing; so its limits hold."""
    answers = await limits_down(world, postgres, postgres_url, "local", log)
    row.holds(*answers)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 3


async def test_db_down_limits_deny(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``deny``: no call under a limit passes."""
    row.holds(*await limits_down(world, postgres, postgres_url, "deny", log))


async def test_db_down_limits_allow(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``allow``: every call passes."""
    row.holds(*await limits_down(world, postgres, postgres_url, "allow", log))


async def test_db_down_budget_in_use(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A budget whose period this process has begun to count goes on being counted."""
    async with world(postgres_url, limits={"each_key": {"budget": 100}}, prices=PRICES) as it:
        await it.ask()
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(5))


async def test_db_down_budget_new(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """What a budget has left cannot be known before the books were read: nothing is spent on a guess."""
    async with world(postgres_url, limits={"each_key": {"budget": 100}}, prices=PRICES) as it:
        await asyncio.to_thread(postgres.kill)
        row.holds(*await it.ask_times(3))
        await asyncio.to_thread(postgres.start)
        await it.until_answered(200, it.ask)


async def test_db_down_readyz(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """The gateway stays in service: taking all of them out would make an outage of a hitch."""
    async with world(postgres_url) as it:
        await asyncio.to_thread(postgres.kill)
        row.holds(await it.http.get("/readyz"), await it.http.get("/livez"))


async def test_db_down_start(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log) -> None:
    """It does not start, and says why; nothing listens meanwhile."""
    assert not row.statuses
    await asyncio.to_thread(postgres.kill)
    with pytest.raises(RuntimeError, match="did not start"):
        async with world(postgres_url):
            pass
    assert log.lines("cannot be used: nothing listens there")
    await asyncio.to_thread(postgres.start)
    async with world(postgres_url) as it:
        assert (await it.ask()).status_code == 200
