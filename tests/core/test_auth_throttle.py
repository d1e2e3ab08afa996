"""Guessing keys: how many guesses an address has, whom its block holds up, and what Redis has to do with it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network
from types import SimpleNamespace
from typing import Any

import httpx
import limits.storage.memory
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from gatewaykit import Authenticator, AuthFailed, ConfigError, Gateway, Incoming, Principal, Unavailable
from gatewaykit.builtin import auth_throttle
from gatewaykit.builtin.auth_throttle import (
    CAPACITY,
    UNKNOWN,
    AuthThrottle,
    AuthThrottleSettings,
    Blocks,
    Tallies,
    origin,
)
from gatewaykit.guarding import answer, guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.settings import RedisSettings
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of
from gatewaykit.testing.servers import RedisServer, redis_program, redis_server, valkey_program
from gatewaykit.testing.waiting import within
from gatewaykit.types import USAGE

PATH = "/v1/models"
OTHER = "gk_test_abcdefghij0123456789"


class Clock:
    """The time of blocks and of the counts in this process."""

    def __init__(self) -> None:
        self.now = 1_792_670_400.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(auth_throttle, "monotonic", made)
    monkeypatch.setattr(limits.storage.memory, "time", SimpleNamespace(time=made))
    return made


class Guarded:
    """A plugin with one route outside the request's way."""

    name = "guarded-route"

    @hookimpl
    def gateway_routes(self, gateway: Any) -> Any:
        async def show(request: Any, principal: Principal) -> Any:
            return answer({"id": principal.id})

        return [Route("/api/me", guarded(gateway, USAGE, show))]


def make(*plugins: object, failures: int = 3, **config: Any) -> Gateway:
    """A gateway that knows two keys and lets three guesses a minute pass."""
    throttle = {"failures": failures, **config.pop("throttle", {})}
    keys = {"static_keys": {"keys": {"test": KEY, "other": OTHER}}}
    return make_gateway(plugin_of(providers=[FakeProvider()]), *plugins, auth_throttle=throttle, **{**keys, **config})


class Door:
    """The gateway as an address sees it: the status of one call, made as an ASGI server makes it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.headers: dict[str, str] = {}

    async def ask(
        self, client: str | None, key: str | None = "wrong", path: str = PATH, header: str = "authorization"
    ) -> int:
        given = {} if key is None else {header: f"Bearer {key}" if header == "authorization" else key}
        transport = httpx.ASGITransport(_From(self._gateway, client))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            response = await http.get(path, headers=given)
        self.headers = dict(response.headers)
        return response.status_code

    async def until_refused(self, client: str | None, **how: Any) -> None:
        """The guesses have been counted, in a thread, and now there is a block."""
        async with asyncio.timeout(60):
            while await self.ask(client, **how) != 429:
                await asyncio.sleep(0.002)

    async def until_blocked(self, client: str | None, guesses: int = 3, **how: Any) -> None:
        """Guess until there is no guess left; each of them was answered with 401."""
        for _ in range(guesses + 1):
            assert await self.ask(client, **how) == 401
        await self.until_refused(client, **how)


class _From:
    """The gateway, with all requests coming from one address."""

    def __init__(self, gateway: Gateway, client: str | None) -> None:
        self._gateway = gateway
        self._client = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._gateway({**scope, "client": self._client and (self._client, 4711)}, receive, send)


@asynccontextmanager
async def opened(gateway: Gateway) -> AsyncIterator[Door]:
    async with gateway:
        yield Door(gateway)


async def test_over_a_socket_a_guesser_is_told_to_wait() -> None:
    """After the guesses that are free the answer is 429 in OpenAI's shape, with the whole seconds that are left."""
    async with gateway_client(make()) as http:
        statuses = [(await http.get(PATH, headers={"Authorization": f"Bearer {n}"})).status_code for n in range(4)]
        assert statuses == [401] * 4
        async with asyncio.timeout(60):
            while (response := await http.get(PATH, headers={"Authorization": "Bearer x"})).status_code == 401:
                await asyncio.sleep(0.002)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert "x-request-id" in response.headers


async def test_another_address_is_not_concerned() -> None:
    """The block of one address holds up neither keys nor guesses of another."""
    async with opened(make()) as door:
        await door.until_blocked("192.0.2.1")
        assert await door.ask("192.0.2.1", KEY) == 429
        assert await door.ask("192.0.2.2", KEY) == 200
        assert await door.ask("192.0.2.2") == 401


async def test_a_stranger_at_the_same_address_locks_nobody_out() -> None:
    """A key that was good here passes the block of its address, and so does its next call; one that is new waits."""
    async with opened(make()) as door:
        assert await door.ask("192.0.2.1", KEY) == 200
        await door.until_blocked("192.0.2.1")
        assert [await door.ask("192.0.2.1", KEY) for _ in range(3)] == [200] * 3
        assert await door.ask("192.0.2.1", OTHER) == 429
        assert await door.ask("192.0.2.9", OTHER) == 200
        assert await door.ask("192.0.2.1", OTHER) == 200


async def test_a_key_that_is_no_longer_good_is_a_guess_like_any_other() -> None:
    """Once it was refused, nothing of its past helps it through a block."""
    doors = Revoking()
    async with opened(make(plugin_of(authenticators=[doors]))) as door:
        assert await door.ask("192.0.2.1", "revocable") == 200
        doors.revoked = True
        assert await door.ask("192.0.2.1", "revocable") == 401
        await door.until_blocked("192.0.2.1", guesses=2)
        assert await door.ask("192.0.2.1", "revocable") == 429


class Revoking(Authenticator):
    """Knows one key until it is revoked."""

    name = "revoking"
    revoked = False

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        known = incoming.headers.get("authorization") == "Bearer revocable"
        return Principal("one") if known and not self.revoked else None


async def test_calls_without_credentials_neither_count_nor_wait() -> None:
    """Who brings no key guesses none: always 401, before a block and during it."""
    async with opened(make()) as door:
        assert {await door.ask("192.0.2.1", None) for _ in range(20)} == {401}
        await door.until_blocked("192.0.2.1")
        assert await door.ask("192.0.2.1", None) == 401


async def test_guesses_at_routes_that_leave_no_record_count_too() -> None:
    """A plugin's guarded route and the API of models have one count, and one block."""
    async with opened(make(Guarded())) as door:
        await door.until_blocked("192.0.2.1", path="/api/me")
        assert await door.ask("192.0.2.1", path=PATH) == 429
        assert await door.ask("192.0.2.2", KEY, path="/api/me") == 200


async def test_either_header_is_a_credential() -> None:
    """``x-api-key`` guesses as well as ``Authorization`` does."""
    async with opened(make()) as door:
        await door.until_blocked("192.0.2.1", header="x-api-key")


async def test_refusals_of_any_authenticator_count() -> None:
    """It is one whether an authenticator refuses, or none knows the key."""
    async with opened(make(plugin_of(authenticators=[Strict()]))) as door:
        await door.until_blocked("192.0.2.1")


class Strict(Authenticator):
    """Refuses every key."""

    name = "strict"

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        raise AuthFailed


async def test_a_store_that_is_down_is_no_guess() -> None:
    """What an authenticator cannot tell is answered with 503 and counts for nothing."""
    async with opened(make(plugin_of(authenticators=[Down()]))) as door:
        assert {await door.ask("192.0.2.1") for _ in range(20)} == {503}


class Down(Authenticator):
    """Cannot tell."""

    name = "down"

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        raise Unavailable(retry_after=3)


async def test_the_block_ends_and_the_guesses_are_forgotten(clock: Clock) -> None:
    """``Retry-After`` says when, a second before it is too early, and two windows later all guesses are free again."""
    async with opened(make(throttle={"seconds": 100})) as door:
        await door.until_blocked("192.0.2.1")
        assert door.headers["retry-after"] == "100"
        clock.now += 99
        assert await door.ask("192.0.2.1", KEY) == 429
        assert door.headers["retry-after"] == "1"
        clock.now += 1
        assert await door.ask("192.0.2.1", KEY) == 200
        clock.now += 200
        await door.until_blocked("192.0.2.1")


def test_slow_guesses_are_never_blocked(clock: Clock) -> None:
    """Half as many as are free in a window may go on for ever; then there is no room for all four at once."""
    tallies = Tallies(AuthThrottleSettings(failures=4, seconds=100), RedisSettings())
    for _ in range(20):
        assert tallies.allow("192.0.2.1", 1)
        clock.now += 50
    assert [tallies.allow("192.0.2.1", 1) for _ in range(4)].count(True) == 2


async def test_ipv6_is_counted_by_its_first_half() -> None:
    """Guesses from four addresses of one /64 are those of one client; the next /64 is another."""
    async with opened(make()) as door:
        for host in ("1", "2:3:4:5", "ffff:ffff:ffff:ffff", "1"):
            assert await door.ask(f"2001:db8:0:7:{host}" if ":" in host else f"2001:db8:0:7::{host}") == 401
        await door.until_refused("2001:db8:0:7::9")
        assert await door.ask("2001:db8:0:8::1") == 401


async def test_clients_without_an_address_count_as_one() -> None:
    """A Unix socket, or a proxy that names no address, gives nobody guesses without end."""
    async with opened(make()) as door:
        for client in (None, "", "not an address", "192.0.2.1, 192.0.2.2"):
            assert await door.ask(client) == 401
        await door.until_refused("another\nline")
        assert await door.ask("192.0.2.1", KEY) == 200


async def test_exempt_networks_are_never_held_up() -> None:
    """Neither by an address nor by a network, of either kind, given in any spelling."""
    exempt = {"exempt": ["192.0.2.1/24", "2001:db8::5"]}
    async with opened(make(failures=1, throttle=exempt)) as door:
        await door.until_blocked("198.51.100.1", guesses=1)
        for client in ("192.0.2.77", "::ffff:192.0.2.77", "2001:db8::5"):
            assert {await door.ask(client) for _ in range(5)} == {401}


@pytest.mark.parametrize("exempt", ["localhost", "192.0.2.1/33", "", "2001:db8::/129"])
def test_what_is_not_a_network_is_a_fault(exempt: str) -> None:
    """The gateway does not start, and says which setting it was."""
    with pytest.raises(ConfigError, match=r"auth_throttle\.exempt"):
        make(throttle={"exempt": [exempt]})


@pytest.mark.parametrize("value", [{"failures": 0}, {"seconds": 0}, {"seconds": 1.5}, {"unknown": 1}])
def test_settings_that_make_no_sense_are_faults(value: dict[str, Any]) -> None:
    """No guess at all, or a window without length, would lock everybody out."""
    with pytest.raises(ConfigError, match="auth_throttle"):
        make(throttle=value)


@given(st.one_of(st.none(), st.text(), st.ip_addresses().map(str)))
def test_whatever_the_client_is_its_origin_is_one_of_three_kinds(client: str | None) -> None:
    """An IPv4 address, a /64 or ``unknown``: short, and safe in a log or a key."""
    found = origin(client)
    assert (
        found == UNKNOWN or ("." in found and IPv4Network(found).prefixlen == 32) or IPv6Network(found).prefixlen == 64
    )


@given(st.ip_addresses(v=6))
def test_a_client_is_in_its_origin(client: Any) -> None:
    """The /64 is that of the address, but for IPv4 in IPv6's clothes, and a zone changes nothing."""
    if client.ipv4_mapped is None:
        assert client in IPv6Network(origin(str(client)))
        assert origin(f"{client}%eth0") == origin(str(client))
    else:
        assert origin(str(client)) == str(client.ipv4_mapped)


def test_blocks_are_bounded_and_the_oldest_goes_first(clock: Clock) -> None:
    """A flood of addresses takes no more room than :data:`CAPACITY` of them."""
    blocks = Blocks(60)
    for number in range(CAPACITY + 5):
        assert blocks.add(str(number))
    assert len(blocks) == CAPACITY
    assert blocks.seconds_left("4") == 0
    assert blocks.seconds_left("5") == 60
    clock.now += 60
    assert blocks.seconds_left("5") == 0
    assert len(blocks) == 0


def test_counts_and_good_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many addresses nor many good keys make it grow: the counts begin again, the oldest key goes."""
    monkeypatch.setattr(auth_throttle, "CAPACITY", 10)
    tallies = Tallies(AuthThrottleSettings(failures=3), RedisSettings())
    for number in range(100):
        assert tallies.allow(f"192.0.2.{number}", 1)
        assert len(tallies._memory.storage) <= 21
    throttle = AuthThrottle(AuthThrottleSettings(), RedisSettings())
    for number in range(100):
        throttle._remember(number)
    assert list(throttle._good) == list(range(90, 100))


async def test_every_guess_of_a_crowd_is_counted() -> None:
    """Guesses at the same time are counted one by one: with a limit of 200, 201 of them block and 200 do not."""
    async with opened(make(failures=200)) as door:
        assert set(await asyncio.gather(*(door.ask("192.0.2.1") for _ in range(200)))) == {401}
        assert await door.ask("192.0.2.1") == 401
        await door.until_refused("192.0.2.1")
    async with opened(make(failures=200)) as door:
        assert set(await asyncio.gather(*(door.ask("192.0.2.1") for _ in range(200)))) == {401}
        await door.until_blocked("192.0.2.2", guesses=200)
        assert await door.ask("192.0.2.1", KEY) == 200


async def test_a_block_is_one_line_in_the_log_without_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Who, how many, for how long; what was guessed appears nowhere."""
    async with opened(make()) as door:
        await door.until_blocked("192.0.2.1", key="gk_live_nobody_should_read_this")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == "192.0.2.1 sent more than 3 invalid keys in 60 s: it is refused for as long"


def test_alone_it_guards_nothing() -> None:
    """A gateway without keys still counts as one without an authenticator."""
    assert not make(static_keys={}).guarded
    assert make().guarded


PROGRAM = """
import asyncio, sys
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of
async def main():
    async with gateway_client(make_gateway(plugin_of(providers=[FakeProvider()]))) as http:
        assert (await http.get("/v1/models")).status_code == 200
        print(sorted({"limits", "redis"} & sys.modules.keys()))
        assert (await http.get("/v1/models", headers={"Authorization": "Bearer x"})).status_code == 401
    print(sorted({"limits", "redis"} & sys.modules.keys()))
asyncio.run(main())
"""


def test_nothing_is_imported_before_there_is_something_to_count() -> None:
    """Where nobody guesses the library's memory is not spent."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n['limits']\n", done.stderr


# With Redis


@pytest.fixture(params=[redis_program, valkey_program])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of either kind."""
    with redis_server(request.param()) as server:
        yield server


def sharing(redis: RedisServer, timeout: float = 30.0) -> Gateway:
    """A gateway that counts in this Redis, and tries again at once when it was down.

    It waits for Redis longer than a busy machine makes it wait: what timed out would be counted by each for itself.
    """
    link = {"url": redis.url, "cooldown": 0.001, "timeout": timeout}
    return make(redis=link, limits={"store": "memory"})


async def test_two_gateways_share_their_counts(redis: RedisServer) -> None:
    """Three guesses are free at both together; each takes one more of its own before it blocks."""
    async with opened(sharing(redis)) as one, opened(sharing(redis)) as two:
        for door in (one, two, one):
            assert await door.ask("192.0.2.1") == 401
        assert [await one.ask("192.0.2.1"), await two.ask("192.0.2.1")] == [401, 401]
        await one.until_refused("192.0.2.1")
        await two.until_refused("192.0.2.1")
    with redis.client() as client:
        keys = list(client.scan_iter())
        assert keys
        assert all(key.startswith("{gatewaykit}:auth-throttle:") and client.ttl(key) > 0 for key in keys)


async def test_without_redis_each_counts_for_itself_and_goes_on(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Guesses are blocked as before while it is down, one line says so, and one when it answers again."""
    caplog.set_level(logging.INFO, "gatewaykit")
    async with opened(sharing(redis)) as door, opened(sharing(redis)) as other:
        redis.kill()
        await door.until_blocked("192.0.2.1")
        assert await other.ask("192.0.2.1", KEY) == 200
        redis.start()
        for number in range(3):
            assert await door.ask("192.0.2.2", str(number)) == 401
        assert await other.ask("192.0.2.2") == 401
        await other.until_refused("192.0.2.2")
    lines = [record.getMessage() for record in caplog.records if "Redis" in record.getMessage()]
    assert len([line for line in lines if "failed" in line]) == 1
    assert len([line for line in lines if "answers again" in line]) == 1


async def test_a_redis_that_hangs_holds_up_no_answer(redis: RedisServer) -> None:
    """While it is frozen answers take no longer than else, and guesses are counted here."""
    async with opened(sharing(redis, timeout=8.0)) as door:
        assert await door.ask("192.0.2.1") == 401
        redis.freeze()
        async with within(7, "answers come while Redis is still waited for"):
            assert {await door.ask("192.0.2.1") for _ in range(3)} == {401}
        await door.until_refused("192.0.2.1")
        redis.thaw()
