"""The end of the feed, as it goes through Redis: it tells all or says so, and is not believed too long."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewaykit.errors import Unavailable
from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings
from gatewaykit.storage import Storage
from gatewaykit.testing.servers import RedisServer
from gatewaykit.testing.waiting import until
from gatewaykit_oauth.changes.feed import Feed
from gatewaykit_oauth.changes.tail import LONGEST, Copy, Tail, decoded, encoded

from .conftest import keys_at, made, text_of
from .test_revocation import NEVER, Switch, is_valid, revoke

numbers = st.lists(st.integers(1, 400), unique=True, max_size=300).map(sorted)


class Remembers:
    """Somebody who remembers, and says what was forgotten."""

    def __init__(self) -> None:
        self.forgot: list[str | None] = []

    def evict(self, subject: str, _seq: int | None) -> None:
        """One."""
        self.forgot.append(subject)

    def clear(self) -> None:
        """All."""
        self.forgot.append(None)


class Gone:
    """A database that does not answer."""

    async def read(self, work: Any) -> Any:
        """Not now."""
        raise Unavailable(retry_after=1.0, detail="database: down")


class Left:
    """What somebody left in Redis."""

    def __init__(self, tail: Tail | None) -> None:
        self.tail = tail

    async def get(self) -> Tail | None:
        """It."""
        return self.tail


def feed_at(cursor: int, left: Any) -> tuple[Feed, Remembers]:
    """A feed that has read up to ``cursor``, and whose database is gone."""
    feed: Any = Feed(Gone(), 60, 600, left)  # type: ignore[arg-type]
    feed.cursor, feed.confirmed = cursor, time.monotonic() - 100
    follower = Remembers()
    feed.followers.append(follower)
    return feed, follower


def tail_of(numbers: list[int], *, begin: int = 0, at: float | None = None, step: int = 7) -> Tail:
    """The tail of who has read these changes, a few at a time."""
    tail = Tail(begin, begin, (), 0.0)
    for index in range(0, len(numbers), step):
        some = tuple((number, f"key:{number}") for number in numbers[index : index + step])
        tail = tail.followed_by(some, some[-1][0], time.time() if at is None else at)
    return tail


@given(numbers, st.integers(0, 400), st.integers(1, 150))
def test_a_tail_tells_every_later_change_or_that_it_does_not(numbers: list[int], cursor: int, step: int) -> None:
    """Whatever was read and in what pieces; and it does not grow without bound."""
    tail = tail_of(numbers, step=step)
    told = tail.since(cursor)
    assert len(tail.changes) <= LONGEST
    if told is None:
        assert len(numbers) > LONGEST
    else:
        assert [number for number, _ in told] == [number for number in numbers if number > cursor]
    assert decoded(encoded(tail)) == tail


@given(st.binary(max_size=200))
@example(b'[1,2,[[3,"\xff"]],0.1]')
@example(b"[" * 100_000)
@example(b'[1,2,[[3,"x"]],1e999]')
def test_whatever_comes_instead_of_a_tail_is_none(text: bytes) -> None:
    """A message of another program, or of another release, is no failure."""
    found = decoded(text)
    assert found is None or isinstance(found, Tail)


@pytest.mark.parametrize(
    ("cursor", "forgot", "then"),
    [(3, ["key:4", "key:9"], 9), (9, [], 9), (2, ["key:3", "key:4", "key:9"], 9), (1, [None], 9)],
)
async def test_who_cannot_read_the_database_goes_on_by_the_copy(
    cursor: int, forgot: list[str | None], then: int
) -> None:
    """It forgets what changed since; all, if it cannot know what; and is as sure as whoever left the copy was."""
    feed, follower = feed_at(cursor, Left(tail_of([3, 4, 9], begin=2, at=time.time() - 5)))
    assert await feed.poll() is False
    assert follower.forgot == forgot
    assert feed.cursor == then
    assert 5 <= time.monotonic() - feed.confirmed < 60


async def test_a_late_copy_changes_nothing() -> None:
    """One that was left before what is known here neither takes that back nor confirms it."""
    feed, follower = feed_at(12, Left(tail_of([3, 4, 9])))
    assert await feed.poll() is False
    assert (follower.forgot, feed.cursor) == ([], 12)
    assert time.monotonic() - feed.confirmed >= 100


async def test_a_clock_that_is_ahead_does_not_make_a_copy_newer_than_now() -> None:
    """The moment of reading it is the newest that it can speak of."""
    feed, _ = feed_at(9, Left(tail_of([9], at=time.time() + 3600)))
    await feed.poll()
    assert feed.confirmed <= time.monotonic()


async def test_a_copy_is_believed_no_longer_than_the_database_would_be(redis_store: RedisServer) -> None:
    """It is gone from Redis by then; one that a frozen Redis wrote late is not taken."""
    link = RedisLink(RedisSettings(url=redis_store.url, prefix="test_tail"))
    async with link.lifespan():
        copy = Copy(link, 2)
        await copy.put(tail_of([1], at=time.time()))
        assert await copy.get() is not None
        async with asyncio.timeout(30):
            while await link.get("changes") is not None:
                await asyncio.sleep(0.01)
        await copy.put(tail_of([1], at=time.time() - 3))
        assert await copy.get() is None


async def test_only_what_was_told_is_forgotten(
    url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    """A process that cannot read the database hears of a revoked key: that one gets 503, the other one works on."""
    revoked, other = made(storage), made(storage)
    one, two = (RedisLink(RedisSettings(url=redis_url, prefix="test_told")) for _ in range(2))
    async with (
        one.lifespan(),
        two.lifespan(),
        keys_at(url, redis=one, **NEVER) as here,
        keys_at(url, redis=two, **NEVER) as there,
    ):
        assert await is_valid(there, text_of(revoked))
        assert await is_valid(there, text_of(other))
        feed, switch = there._running()[0].feed, Switch(there._storage)
        monkeypatch.setattr(there._storage, "read", switch.read)
        switch.down = True
        await asyncio.to_thread(revoke, storage, revoked.key.id)
        await here.changed()
        await until(lambda: feed.down)
        with pytest.raises(Unavailable):
            await is_valid(there, text_of(revoked))
        assert await is_valid(there, text_of(other))
