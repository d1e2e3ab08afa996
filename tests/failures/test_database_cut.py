"""One gateway is cut off from the database that another one still reaches, and both have Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gatewaykit.testing.servers import RedisServer

from .conftest import Opener, Wired, World
from .page import SLACK, Row
from .tokens import ISSUER, Office, office

STALE = 4.0
HOOK = 5.0
"""Seconds for which a look-up waits for a silent database."""

RARELY = {"poll_seconds": 60, "stale_seconds": 600}
CUTS = ["shut", "silence"]


@asynccontextmanager
async def both(world: Opener, wired: Wired, redis: RedisServer, **keys: Any) -> AsyncIterator[tuple[Office, World]]:
    """The gateway that goes on reaching the database, and the one whose wire to it can be cut; whole in the end."""
    async with (
        office(world, wired.direct, redis.url, keys=keys) as here,
        world(wired.url, redis.url, keys=keys, oauth={"issuer": ISSUER}, timeouts={"hook": HOOK}) as there,
    ):
        try:
            yield here, there
        finally:
            wired.wire.mend()


async def asked_for(seconds: float, row: Row, there: World, credential: str) -> None:
    """Ask all the time, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        row.holds(await there.ask(credential))
        await asyncio.sleep(0.02)


async def until_refused(row: Row, there: World, credential: str) -> None:
    """It is good for the promised second at most, and refused from then on; asking a silent database takes its time."""
    began = time.monotonic()
    while (await there.ask(credential)).status_code == 200:
        assert time.monotonic() - began < 1.0 * SLACK
        await asyncio.sleep(0.02)
    row.holds(*await there.ask_times(3, credential))


async def knows_again(here: Office, there: World, credential: str) -> None:
    """The database can be read again: who hardly ever asks is told to by the next change."""

    async def ask() -> httpx.Response:
        assert (await here.it.new_key()).status_code == 201
        return await there.ask(credential)

    await there.until_answered(401, ask)


async def test_db_cut_token_in_use(world: Opener, wired: Wired, redis: RedisServer, row: Row) -> None:
    """Known tokens work on for as long as anybody reads the database, and not when nobody does."""
    async with both(world, wired, redis, poll_seconds=0.1, stale_seconds=STALE) as (here, there):
        token = await here.token()
        await asked_for(0.5, row, there, token)
        wired.wire.shut()
        await asked_for(2 * STALE, row, there, token)


async def test_db_cut_stale_token(world: Opener, wired: Wired, redis: RedisServer, row: Row) -> None:
    """What is left in Redis by a gateway that has ended confirms nothing for longer than the database would have."""
    async with world(
        wired.url, redis.url, keys={"poll_seconds": 0.1, "stale_seconds": 0.5}, oauth={"issuer": ISSUER}
    ) as there:
        async with office(world, wired.direct, redis.url, keys={"poll_seconds": 0.1, "stale_seconds": 0.5}) as here:
            token = await here.token()
            await there.until_answered(200, lambda: there.ask(token))
            wired.wire.shut()
        row.holds(await there.until_answered(503, lambda: there.ask(token)), *await there.ask_times(3, token))
        wired.wire.mend()
        await there.until_answered(200, lambda: there.ask(token))


@pytest.mark.parametrize("cut", CUTS)
async def test_db_cut_token_revocation(world: Opener, wired: Wired, redis: RedisServer, row: Row, cut: str) -> None:
    """The word comes by Redis, whether the database refuses or hangs; nobody had to ask it."""
    async with both(world, wired, redis, **RARELY) as (here, there):
        token = await here.token()
        assert (await there.ask(token)).status_code == 200
        getattr(wired.wire, cut)()
        assert (await here.revoke(token)).status_code == 200
        await until_refused(row, there, token)
        wired.wire.mend()
        await knows_again(here, there, token)


@pytest.mark.parametrize("cut", CUTS)
async def test_db_cut_key_revocation(world: Opener, wired: Wired, redis: RedisServer, row: Row, cut: str) -> None:
    """The same with API keys."""
    async with both(world, wired, redis, **RARELY) as (here, there):
        made = (await here.it.new_key()).json()
        assert (await there.ask(made["secret"])).status_code == 200
        getattr(wired.wire, cut)()
        revoked = await here.it.http.post(f"/api/admin/keys/{made['id']}/revoke")
        assert revoked.status_code == 200, revoked.text
        await until_refused(row, there, made["secret"])
        wired.wire.mend()
        await knows_again(here, there, made["secret"])
