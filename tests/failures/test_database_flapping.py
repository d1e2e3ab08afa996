"""The database comes and goes while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .conftest import Opener, Wired, recorded
from .page import Row
from .proxy import Wire

TURNS = 8


@asynccontextmanager
async def flapping(wire: Wire) -> AsyncIterator[asyncio.Task[None]]:
    """The database goes, by a cut or by silence, and comes back, some times; the task ends when it is over."""

    async def flap() -> None:
        for turn in range(TURNS):
            (wire.shut if turn % 2 else wire.silence)()
            await asyncio.sleep(0.1)
            wire.mend()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(flap())
    try:
        yield task
    finally:
        await task
        wire.mend()


async def test_db_flapping_key_in_use(world: Opener, wired: Wired, row: Row) -> None:
    """Calls with a known key notice nothing, and each has one record in the end."""
    async with world(wired.url) as it:
        key = await it.key()
        await it.ask(key)
        async with flapping(wired.wire) as flaps:
            while not flaps.done():
                row.holds(*await asyncio.gather(*(it.ask(key) for _ in range(4))))
                await asyncio.sleep(0.01)
    assert recorded(wired.direct) == sorted(it.calls)


async def test_db_flapping_new_key(world: Opener, wired: Wired, row: Row) -> None:
    """Keys that are new here are let in or told to come back, and never called invalid."""
    async with world(wired.url, keys={"poll_seconds": 0.05}) as it:
        keys = [await it.key() for _ in range(60)]
        fresh = iter(keys)
        async with flapping(wired.wire) as flaps:
            while not flaps.done() and (key := next(fresh, None)):
                row.holds(await it.ask(key))
                await asyncio.sleep(0.01)
        await it.until_answered(200, lambda: it.ask(keys[-1]))


async def test_db_flapping_key_management(world: Opener, wired: Wired, row: Row) -> None:
    """A key that was shown exists."""
    async with world(wired.url) as it:
        made: set[str] = set()
        async with flapping(wired.wire) as flaps:
            while not flaps.done() or not made:
                answer = await it.new_key()
                row.holds(answer)
                if answer.status_code == 201:
                    made.add(answer.json()["id"])
                await asyncio.sleep(0.01)
        listed = await it.until_answered(200, lambda: it.http.get("/api/admin/keys?limit=200"))
        assert made
        assert made <= {key["id"] for key in listed.json()["items"]}


async def test_db_flapping_limits_local(world: Opener, wired: Wired, row: Row) -> None:
    """The limits hold in either store: no more passes than the database and this process allow together."""
    async with world(wired.url, limits={"store": "database", "each_key": {"rpd": 10}}) as it:
        passed = 0
        async with flapping(wired.wire) as flaps:
            while not flaps.done() or passed < 10:
                answer = await it.ask()
                row.holds(answer)
                passed += answer.status_code == 200
        assert 10 <= passed <= 20
        await it.until_answered(429, it.ask)
