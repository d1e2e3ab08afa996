"""Messages: what arrives, what is lost, and how a listener gets to know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewaykit.redislink import RedisLink
from gatewaykit.testing.servers import RedisServer

from .conftest import PATIENT, Signpost, babbler, eventually, link_to


class Heard:
    """What a listener was told, in order; ``None`` for a connect."""

    def __init__(self) -> None:
        self.all: list[bytes | None] = []

    def message(self, message: bytes) -> None:
        self.all.append(message)

    def connect(self) -> None:
        self.all.append(None)

    @property
    def connects(self) -> int:
        return self.all.count(None)


@asynccontextmanager
async def listening(link: RedisLink) -> AsyncIterator[Heard]:
    """A listener on ``news`` that is connected."""
    heard = Heard()
    async with link.listen("news", heard.message, heard.connect):
        await eventually(lambda: heard.connects)
        yield heard


async def test_messages_arrive_soon(link: RedisLink) -> None:
    """Every listener gets every message of its channel, in order, without a wait for each."""
    async with listening(link) as one, listening(link) as other:
        begun = time.perf_counter()
        for number in range(50):
            await link.publish("news", b"%d" % number)
        await link.publish("gossip", b"not for them")
        await eventually(lambda: len(one.all) == len(other.all) == 51)
        assert time.perf_counter() - begun < 10
    assert one.all == other.all == [None, *(b"%d" % number for number in range(50))]


async def test_channels_are_the_gateways_own(server: RedisServer, link: RedisLink) -> None:
    """Messages go over channels with the gateway's prefix, so that two gateways can share a Redis."""
    stranger = link_to(server.url, prefix="other", timeout=PATIENT)
    async with stranger.lifespan(), listening(link) as heard:
        await stranger.publish("news", b"of others")
        await link.publish("news", b"mine")
        await eventually(lambda: len(heard.all) == 2)
    assert heard.all == [None, b"mine"]


async def test_listening_begins_before_redis_is_there(tmp_path: Path) -> None:
    """To listen waits for nothing: a gateway starts without Redis, and ends without it."""
    heard = Heard()
    async with link_to(f"unix://{tmp_path}/nothing").listen("news", heard.message, heard.connect):
        await asyncio.sleep(0.1)
    assert heard.all == []


async def test_something_else_answers_first(server: RedisServer, signpost: Signpost, tmp_path: Path) -> None:
    """What is no answer of Redis does not end the listening: messages arrive when Redis is there."""
    link, heard = link_to(signpost.url, timeout=PATIENT), Heard()
    async with babbler(tmp_path / "babbler", b"$abc\r\n") as asked, link.lifespan():
        signpost.lead_to(str(tmp_path / "babbler"))
        async with link.listen("news", heard.message, heard.connect):
            await eventually(lambda: len(asked) >= 2)
            signpost.lead_to(server.socket)
            await eventually(lambda: heard.connects)
            await link.publish("news", b"at last")
            await eventually(lambda: heard.all[-1] == b"at last")


async def test_a_lost_connection_is_announced(fragile: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """After an outage, in which messages were lost, the listener is told to read anew, and hears what comes then."""
    link = link_to(fragile.url, timeout=PATIENT)
    async with link.lifespan(), listening(link) as heard:
        await asyncio.to_thread(fragile.kill)
        await asyncio.to_thread(fragile.start)
        with fragile.client() as client:
            client.publish(f"{link.prefix}news", "missed by all who are not there yet")
        await eventually(lambda: heard.connects == 2)
        await link.publish("news", b"after")
        await eventually(lambda: heard.all[-1] == b"after")
    texts = [record.getMessage() for record in caplog.records]
    assert [text.rpartition(": ")[0].endswith("do not arrive") for text in texts] == [True, False]


async def test_a_silent_connection_is_found_out(fragile: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that neither answers nor hangs up is noticed within some seconds, and its return announced."""
    link = link_to(fragile.url, timeout=PATIENT)
    async with link.lifespan(), listening(link) as heard:
        fragile.freeze()
        await eventually(lambda: "messages do not arrive: no answer in time" in caplog.text, 5)
        fragile.thaw()
        await eventually(lambda: heard.connects == 2)


async def test_silence_alone_is_no_loss(link: RedisLink) -> None:
    """A connection on which nothing is said for a while stays, for its question is answered."""
    async with listening(link) as heard:
        await asyncio.sleep(2.5)
        assert heard.all == [None]


async def test_a_listener_that_fails_hears_on(link: RedisLink, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a listener is logged and ends nothing."""
    heard = Heard()

    def fail(message: bytes) -> None:
        heard.message(message)
        raise ValueError("no")

    async with link.listen("news", fail, heard.connect):
        await eventually(lambda: heard.connects)
        for number in range(3):
            await link.publish("news", b"%d" % number)
        await eventually(lambda: len(heard.all) == 4)
    assert heard.all == [None, b"0", b"1", b"2"]
    assert len([record for record in caplog.records if record.exc_info]) == 3
