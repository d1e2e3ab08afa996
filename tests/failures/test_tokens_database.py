"""Access tokens and signing in, while the database is down, slow, or comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gatewaykit.testing.servers import PostgresServer
from gatewaykit.testing.waiting import within

from .conftest import Log, Opener, Wired, World
from .page import Row
from .test_database_flapping import flapping
from .tokens import ISSUER, Office, office

SOON = {"poll_seconds": 0.05, "stale_seconds": 60}


async def test_db_down_token_in_use(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A token that this process knows goes on working."""
    async with office(world, postgres_url) as here:
        token = await here.used_token()
        await asyncio.to_thread(postgres.kill)
        row.holds(*await here.ask(token, 5))


@asynccontextmanager
async def two(world: Opener, url: str, **config: Any) -> AsyncIterator[tuple[Office, World]]:
    """A gateway that issues tokens, and another one to which they are new: it reads none ahead."""
    async with (
        office(world, url, keys=SOON, **config) as here,
        world(url, keys=SOON, oauth={"issuer": ISSUER, "read_ahead": 0}, **config) as there,
    ):
        yield here, there


async def token_ahead(world: Opener, url: str, row: Row, fail: Callable[[], None], mend: Callable[[], None]) -> None:
    """A token that was read ahead comes for the first time meanwhile."""
    async with (
        office(world, url, keys=SOON) as here,
        world(url, keys=SOON, oauth={"issuer": ISSUER}) as there,
    ):
        token = await here.token()
        async with within(60, "the token was read ahead"):
            while await held_ahead(there) == 0:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(fail)
        row.holds(*await there.ask_times(5, token))
        await asyncio.to_thread(mend)


async def held_ahead(there: World) -> float:
    """How many tokens it has read ahead, by the metrics."""
    return await reading(there, "gatewaykit_cache_entries{", "tokens_ahead")


async def new_token(
    world: Opener, url: str, row: Row, fail: Callable[[], None], mend: Callable[[], None], **config: Any
) -> None:
    """A token that is new here comes meanwhile, some times, and once more when it is over."""
    async with two(world, url, **config) as (here, there):
        token = await here.token()
        await asyncio.to_thread(fail)
        row.holds(*await there.ask_times(3, token))
        assert await unconfirmed(there) >= 3
        await asyncio.to_thread(mend)
        await there.until_answered(200, lambda: there.ask(token))


async def unconfirmed(there: World) -> float:
    """How many tokens nobody could confirm, by the metrics."""
    return await reading(there, "gatewaykit_credentials_unconfirmed_total{", "tokens")


async def reading(there: World, metric: str, cache: str) -> float:
    """What a metric says of a cache."""
    scrape = (await there.http.get("/metrics")).text
    counted = [line for line in scrape.splitlines() if line.startswith(metric)]
    return sum(float(line.rpartition(" ")[2]) for line in counted if f'"{cache}"' in line)


async def test_db_down_new_token(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A token that this process has not seen is neither let in nor called invalid, and good when the database is."""
    await new_token(world, postgres_url, row, postgres.kill, postgres.start)


async def test_db_down_token_ahead(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A token that this process has read ahead works, though it was never used here."""
    await token_ahead(world, postgres_url, row, postgres.kill, postgres.start)


async def test_db_down_stale_token(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """A token that may have been revoked for ``keys.stale_seconds`` is trusted no longer; log and metrics say so."""
    async with office(world, postgres_url, keys={"poll_seconds": 0.1, "stale_seconds": 0.3}) as here:
        token = await here.used_token()
        await asyncio.to_thread(postgres.kill)
        row.holds(await here.it.until_answered(503, lambda: here.it.ask(token)), *await here.ask(token, 3))
        await log.until("nobody can confirm credentials for 0.3 s")
        assert await unconfirmed(here.it) >= 4
        await asyncio.to_thread(postgres.start)
        await here.it.until_answered(200, lambda: here.it.ask(token))
    assert len(log.lines("nobody can confirm credentials")) == 1


async def test_db_down_token_revocation(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Nobody is told that a token was revoked which was not: it is good afterwards, and can be revoked then."""
    async with office(world, postgres_url, keys=SOON) as here:
        token = await here.used_token()
        await asyncio.to_thread(postgres.kill)
        everything = await here.it.http.post("/api/admin/tokens/revoke", json={"client": here.client})
        row.holds(await here.revoke(token), everything)
        await asyncio.to_thread(postgres.start)
        await here.it.until_answered(200, lambda: here.it.ask(token))
        assert (await here.revoke(token)).status_code == 200
        assert (await here.it.ask(token)).status_code == 401


async def test_db_down_token_issuing(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A client gets no token, and one when the database is back."""
    async with office(world, postgres_url) as here:
        await asyncio.to_thread(postgres.kill)
        row.holds(await here.issue(), await here.issue())
        await asyncio.to_thread(postgres.start)
        await here.it.until_answered(200, here.issue)


async def test_db_down_login(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Nobody gets in, with the right password or a wrong one; guesses that are not counted are not made."""
    async with office(world, postgres_url) as here:
        await asyncio.to_thread(postgres.kill)
        row.holds(await here.sign_in(), await here.sign_in("a wrong password"))
        await asyncio.to_thread(postgres.start)
        await here.it.until_answered(303, here.sign_in)


async def test_db_slow_token_in_use(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A token that this process knows is not held up."""
    async with office(world, postgres_url) as here:
        token = await here.used_token()
        await asyncio.to_thread(postgres.freeze)
        row.holds(*await here.ask(token, 5))
        await asyncio.to_thread(postgres.thaw)


async def test_db_slow_new_token(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Whoever brings a token that this process has not seen is told to come back before long."""
    await new_token(world, postgres_url, row, postgres.freeze, postgres.thaw, timeouts={"hook": 1})


async def test_db_slow_token_ahead(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A token that this process has read ahead is not held up, though it was never used here."""
    await token_ahead(world, postgres_url, row, postgres.freeze, postgres.thaw)


async def test_db_slow_token_revocation(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """It waits for ``database.timeout``; what was refused has not happened."""
    async with office(world, postgres_url, keys=SOON, database={"timeout": 2}) as here:
        token = await here.used_token()
        await asyncio.to_thread(postgres.freeze)
        row.holds(await here.revoke(token))
        await asyncio.to_thread(postgres.thaw)
        await here.it.until_answered(200, lambda: here.it.ask(token))
        assert (await here.it.until_answered(200, lambda: here.revoke(token))).status_code == 200
        assert (await here.it.ask(token)).status_code == 401


async def test_db_slow_token_issuing(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """It waits for ``database.timeout``."""
    async with office(world, postgres_url, database={"timeout": 2}) as here:
        await asyncio.to_thread(postgres.freeze)
        row.holds(await here.issue(), await here.issue())
        await asyncio.to_thread(postgres.thaw)
        await here.it.until_answered(200, here.issue)


async def test_db_slow_login(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """It waits for ``database.timeout``."""
    async with office(world, postgres_url, database={"timeout": 2}) as here:
        await asyncio.to_thread(postgres.freeze)
        row.holds(await here.sign_in())
        await asyncio.to_thread(postgres.thaw)
        await here.it.until_answered(303, here.sign_in)


async def test_db_flapping_token_in_use(world: Opener, wired: Wired, row: Row) -> None:
    """Calls with a known token notice nothing."""
    async with office(world, wired.url) as here:
        token = await here.used_token()
        async with flapping(wired.wire) as flaps:
            while not flaps.done():
                row.holds(*await here.ask(token, 4))
                await asyncio.sleep(0.01)


async def test_db_flapping_new_token(world: Opener, wired: Wired, row: Row) -> None:
    """Tokens that are new here are let in or told to come back, and never called invalid."""
    async with two(world, wired.url) as (here, there):
        tokens = [await here.token() for _ in range(30)]
        fresh = iter(tokens)
        async with flapping(wired.wire) as flaps:
            while not flaps.done() and (token := next(fresh, None)):
                row.holds(await there.ask(token))
                await asyncio.sleep(0.03)
        await there.until_answered(200, lambda: there.ask(tokens[-1]))


async def test_db_flapping_token_revocation(world: Opener, wired: Wired, row: Row) -> None:
    """A token whose revocation was answered with 200 is refused from then on, whatever the database does."""
    async with office(world, wired.url, keys=SOON) as here:
        tokens = [await here.used_token() for _ in range(30)]
        revoked, fresh = [], iter(tokens)
        async with flapping(wired.wire) as flaps:
            while (not flaps.done() or not revoked) and (token := next(fresh, None)):
                answer = await here.revoke(token)
                row.holds(answer)
                if answer.status_code == 200:
                    revoked.append(token)
                    assert (await here.it.ask(token)).status_code in {401, 503}
                await asyncio.sleep(0.03)
        assert revoked
        for token in revoked:
            await here.it.until_answered(401, lambda token=token: here.it.ask(token))


async def test_db_flapping_token_issuing(world: Opener, wired: Wired, row: Row) -> None:
    """A token that was given is good."""
    async with office(world, wired.url, keys=SOON) as here:
        given = []
        async with flapping(wired.wire) as flaps:
            while not flaps.done() or not given:
                answer = await here.issue()
                row.holds(answer)
                if answer.status_code == 200:
                    given.append(answer.json()["access_token"])
                await asyncio.sleep(0.03)
        assert given
        for token in given:
            await here.it.until_answered(200, lambda token=token: here.it.ask(token))


async def test_db_flapping_login(world: Opener, wired: Wired, row: Row) -> None:
    """Somebody gets in or is told to come back; nobody is told that the password is wrong."""
    async with office(world, wired.url) as here:
        async with flapping(wired.wire) as flaps:
            while not flaps.done():
                row.holds(await here.sign_in())
                await asyncio.sleep(0.03)
        await here.it.until_answered(303, here.sign_in)
