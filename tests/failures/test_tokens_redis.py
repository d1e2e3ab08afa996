"""Access tokens and signing in, while Redis is down, slow, or comes and goes: none of it needs Redis but the word of a
revocation, which the database brings as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest

from gatewaykit.testing.servers import RedisServer, redis_program, redis_server

from .conftest import Opener
from .page import SLACK, Row
from .test_redis_flapping import flapping
from .tokens import Office, office

POLL = 0.5
KEYS = {"poll_seconds": POLL}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own; nothing here depends on who made it."""
    with redis_server(redis_program()) as server:
        yield server


async def tokens_without(here: Office) -> list[httpx.Response]:
    """What calls with tokens get that were just issued."""
    return [answer for _ in range(3) for answer in await here.ask(await here.token())]


async def revoked_elsewhere(
    world: Opener, redis: RedisServer, url: str, fail: Callable[[], None]
) -> tuple[httpx.Response, httpx.Response]:
    """What two gateways answer to a token that was revoked at the first one, as soon as each refuses it."""
    async with (
        office(world, url, redis.url, keys=KEYS) as here,
        world(url, redis.url, keys=KEYS, oauth={"issuer": "http://127.0.0.1:9"}) as there,
    ):
        token = await here.token()
        await here.ask(token)
        assert (await there.ask(token)).status_code == 200
        fail()
        assert (await here.revoke(token)).status_code == 200
        began = time.monotonic()
        first = await here.it.ask(token)
        second = await there.until_answered(401, lambda: there.ask(token))
        assert time.monotonic() - began < (POLL + 0.5) * SLACK
        return first, second


async def meanwhile(redis: RedisServer, row: Row, ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    """Ask again and again while Redis comes and goes."""
    async with flapping(redis) as flaps:
        while not flaps.done():
            row.holds(await ask())
            await asyncio.sleep(0.05)


async def test_redis_down_new_token(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Tokens are in the database."""
    async with office(world, postgres_url, redis.url) as here:
        redis.kill()
        row.holds(*await tokens_without(here))


async def test_redis_down_token_revocation(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Refused where it was revoked at once, elsewhere within ``keys.poll_seconds``, here 0.5."""
    row.holds(*await revoked_elsewhere(world, redis, postgres_url, redis.kill))


async def test_redis_down_token_issuing(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Signing keys are in the database."""
    async with office(world, postgres_url, redis.url) as here:
        redis.kill()
        row.holds(*[await here.issue() for _ in range(3)])


async def test_redis_down_login(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Sessions and the count of guesses are in the database."""
    async with office(world, postgres_url, redis.url) as here:
        redis.kill()
        guesses = [(await here.sign_in("a wrong password")).status_code for _ in range(9)]
        assert guesses[:5] == [400] * 5
        assert 429 in guesses
        await here.it.gateway.storage.write(_forget_guesses)  # type: ignore[union-attr]
        row.holds(await here.sign_in())


async def test_redis_slow_new_token(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Nobody waits for it."""
    async with office(world, postgres_url, redis.url) as here:
        redis.freeze()
        row.holds(*await tokens_without(here))
        redis.thaw()


async def test_redis_slow_token_revocation(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """As when it is down; telling the others waits for ``redis.timeout``."""
    row.holds(*await revoked_elsewhere(world, redis, postgres_url, redis.freeze))
    redis.thaw()


async def test_redis_slow_token_issuing(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Nobody waits for it."""
    async with office(world, postgres_url, redis.url) as here:
        redis.freeze()
        row.holds(*[await here.issue() for _ in range(3)])
        redis.thaw()


async def test_redis_slow_login(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Nobody waits for it."""
    async with office(world, postgres_url, redis.url) as here:
        redis.freeze()
        row.holds(await here.sign_in())
        redis.thaw()


async def test_redis_flapping_token_in_use(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Calls with tokens, known and new, do not notice."""
    async with office(world, postgres_url, redis.url) as here:
        known = await here.token()

        async def ask() -> httpx.Response:
            row.holds(*await here.ask(await here.token()))
            return await here.it.ask(known)

        await meanwhile(redis, row, ask)


async def test_redis_flapping_token_revocation(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """A token that was revoked is refused at once where that was done."""
    async with office(world, postgres_url, redis.url) as here:

        async def ask() -> httpx.Response:
            token = await here.token()
            assert (await here.it.ask(token)).status_code == 200
            assert (await here.revoke(token)).status_code == 200
            return await here.it.ask(token)

        await meanwhile(redis, row, ask)


async def test_redis_flapping_token_issuing(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Nobody notices."""
    async with office(world, postgres_url, redis.url) as here:
        await meanwhile(redis, row, here.issue)


async def test_redis_flapping_login(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Nobody notices."""
    async with office(world, postgres_url, redis.url) as here:
        await meanwhile(redis, row, here.sign_in)


def _forget_guesses(session: object) -> None:
    from sqlalchemy import delete

    from gatewaykit_oauth.tables import AttemptsRow

    session.execute(delete(AttemptsRow))  # type: ignore[attr-defined]
