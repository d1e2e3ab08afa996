"""The token that is always there: one fetch for all, renewal in time, failures told and forgotten."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import ProviderAuthFailed, ProviderBadAnswer, ProviderUnavailable
from gatewaykit_gigachat.token import Token, TokenKeeper, read_token

HOUR = 3600.0


class Endpoint:
    """Gives tokens that live for an hour, numbered; waits for ``gate`` and raises ``failure`` if there is one."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.fetched = 0
        self.life = HOUR
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: ProviderAuthFailed | ProviderUnavailable | None = None

    async def fetch(self) -> Token:
        self.fetched += 1
        number = self.fetched
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Token(f"token-{number}", self.now + self.life)

    def keeper(self, buffer: float = 60.0) -> TokenKeeper:
        return TokenKeeper(self.fetch, buffer, lambda: self.now)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_fetch() -> None:
    """Fifty callers without a token cause one fetch."""
    endpoint = Endpoint()
    keeper = endpoint.keeper()
    assert set(await asyncio.gather(*(keeper.authorization() for _ in range(50)))) == {"Bearer token-1"}
    assert endpoint.fetched == 1


async def test_waiters_survive_the_one_who_began() -> None:
    """When the caller that started the fetch is cancelled, the others still get the token of that fetch."""
    endpoint = Endpoint()
    endpoint.gate.clear()
    keeper = endpoint.keeper()
    first, second = (asyncio.create_task(keeper.authorization()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    endpoint.gate.set()
    assert await second == "Bearer token-1"
    assert first.cancelled()
    assert endpoint.fetched == 1


async def test_a_token_is_renewed_early_without_a_wait() -> None:
    """In its last minute a token is still used, while one new token is fetched beside."""
    endpoint = Endpoint()
    keeper = endpoint.keeper(buffer=60)
    await keeper.authorization()
    endpoint.now += HOUR - 61
    assert await keeper.authorization() == "Bearer token-1"
    await settle()
    assert endpoint.fetched == 1
    endpoint.now += 2
    endpoint.gate.clear()
    assert {await keeper.authorization() for _ in range(5)} == {"Bearer token-1"}
    endpoint.gate.set()
    await settle()
    assert await keeper.authorization() == "Bearer token-2"
    assert endpoint.fetched == 2


async def test_an_ended_token_is_waited_for() -> None:
    """A token past its end is never used, if another can be had."""
    endpoint = Endpoint()
    keeper = endpoint.keeper()
    await keeper.authorization()
    endpoint.now += HOUR + 1
    assert await keeper.authorization() == "Bearer token-2"


async def test_a_failed_early_renewal_harms_nobody() -> None:
    """While the old token is valid, a failing token endpoint goes unnoticed and is not stormed."""
    endpoint = Endpoint()
    keeper = endpoint.keeper(buffer=60)
    await keeper.authorization()
    endpoint.now += HOUR - 30
    endpoint.failure = ProviderUnavailable()
    for _ in range(20):
        assert await keeper.authorization() == "Bearer token-1"
        await settle()
    assert endpoint.fetched == 2


async def test_only_the_rejected_token_is_dropped() -> None:
    """A late 401 for an old token does not cost the new one."""
    endpoint = Endpoint()
    keeper = endpoint.keeper()
    old = await keeper.authorization()
    assert keeper.rejected(old)
    new = await keeper.authorization()
    assert new != old
    assert keeper.rejected(old)
    assert await keeper.authorization() == new
    assert endpoint.fetched == 2


async def test_a_refused_credential_is_not_stormed_and_not_remembered() -> None:
    """For two seconds all get the same error without a new request; then it is tried again."""
    endpoint = Endpoint()
    endpoint.failure = ProviderAuthFailed(detail="wrong key")
    keeper = endpoint.keeper()
    for _ in range(20):
        with pytest.raises(ProviderAuthFailed, match="wrong key"):
            await keeper.authorization()
    assert endpoint.fetched == 1
    endpoint.now += 2.1
    endpoint.failure = None
    assert await keeper.authorization() == "Bearer token-2"


async def test_a_server_that_refuses_every_token_causes_no_storm() -> None:
    """After five tokens that took a refused one's place in vain none is replaced for two seconds; then they are."""
    endpoint = Endpoint()
    keeper = endpoint.keeper()
    for _ in range(5):
        assert keeper.rejected(await keeper.authorization())
        assert not keeper.rejected(await keeper.authorization(), again=True)
    assert [keeper.rejected(await keeper.authorization()) for _ in range(20)] == [False] * 20
    assert endpoint.fetched == 6
    endpoint.now += 2.1
    assert keeper.rejected(await keeper.authorization())
    assert await keeper.authorization() == "Bearer token-7"
    assert keeper.rejected("Bearer token-7")


async def test_a_clock_that_is_set_back_prolongs_no_refusal() -> None:
    """A refused credential is tried again at once when the clock is an hour earlier than when it was refused."""
    endpoint = Endpoint()
    endpoint.failure = ProviderAuthFailed(detail="wrong key")
    keeper = endpoint.keeper()
    with pytest.raises(ProviderAuthFailed):
        await keeper.authorization()
    endpoint.now -= HOUR
    endpoint.failure = None
    assert await keeper.authorization() == "Bearer token-2"


async def test_a_passing_failure_is_told_to_all_who_wait_and_forgotten() -> None:
    """Those who wait get an error of their own each; the next caller asks again at once."""
    endpoint = Endpoint()
    endpoint.failure = ProviderUnavailable(retry_after=7)
    keeper = endpoint.keeper()
    errors = await asyncio.gather(*(keeper.authorization() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in errors} == {ProviderUnavailable}
    assert len({id(error) for error in errors}) == 5
    assert [getattr(error, "retry_after", None) for error in errors] == [7] * 5
    assert endpoint.fetched == 1
    endpoint.failure = None
    assert await keeper.authorization() == "Bearer token-2"


async def test_tokens_that_seem_old_are_used_all_the_same() -> None:
    """A server whose clock lags, so that every token looks ended, is not asked before every call."""
    endpoint = Endpoint()
    endpoint.life = -300.0
    keeper = endpoint.keeper()
    assert {await keeper.authorization() for _ in range(20)} == {"Bearer token-1"}
    assert endpoint.fetched == 1


async def test_closing_ends_the_fetch() -> None:
    """``aclose`` stops a running fetch, and its waiters are told instead of left."""
    endpoint = Endpoint()
    endpoint.gate.clear()
    keeper = endpoint.keeper()
    waiting = asyncio.create_task(keeper.authorization())
    await settle()
    await keeper.aclose()
    with pytest.raises(ProviderUnavailable):
        await waiting


async def test_each_loop_has_its_own_fetch() -> None:
    """A second event loop neither waits for the first one's fetch nor fails on it; the token is shared."""
    endpoint = Endpoint()
    keeper = endpoint.keeper()
    await keeper.authorization()
    assert await asyncio.to_thread(lambda: asyncio.run(keeper.authorization())) == "Bearer token-1"
    endpoint.now += HOUR + 1
    assert await asyncio.to_thread(lambda: asyncio.run(keeper.authorization())) == "Bearer token-2"
    assert await keeper.authorization() == "Bearer token-2"


@pytest.mark.parametrize(
    ("document", "expires"),
    [
        ({"access_token": "t", "expires_at": 1739784663483}, 1739784663.483),
        ({"access_token": "t", "expires_at": 1679471442}, 1679471442),
        ({"tok": "t", "exp": 1679471442}, 1679471442),
        ({"tok": "t", "exp": 1679471442000}, 1679471442),
        ({"tok": "t", "exp": 99_999_999_999}, 99_999_999_999),
        ({"tok": "t", "exp": 100_000_000_000}, 100_000_000),
    ],
)
def test_both_shapes_and_both_units(document: dict[str, Any], expires: float) -> None:
    """The two answer shapes are read, and the end's unit is told by its size."""
    assert read_token(msgspec.json.encode(document)) == Token("t", expires)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["access_token", "expires_at", "tok", "exp"]), inner, max_size=4)
            ),
            max_leaves=8,
        ).map(lambda value: msgspec.json.encode(value)),
    )
)
def test_any_answer_is_a_token_or_a_bad_answer(body: bytes) -> None:
    """Whatever the endpoint sends is a usable token or ProviderBadAnswer."""
    try:
        token = read_token(body)
    except ProviderBadAnswer:
        return
    assert token.value.isascii()
    assert token.value.isprintable()
    assert math.isfinite(token.expires)


def test_a_token_is_not_in_its_repr() -> None:
    """Neither a token nor its keeper shows the secret."""
    assert "canary" not in repr(Token("canary", 1.0))
    assert "canary" not in repr(TokenKeeper(Endpoint().fetch, 1.0))
