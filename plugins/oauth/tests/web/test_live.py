"""The live page: its numbers are those of ``/metrics``, of all workers, and its lines those of the last minutes."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gatewaykit import Gateway, Model
from gatewaykit.errors import ProviderUnavailable
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of, running
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import KeyLimits, KeySpec
from gatewaykit_oauth.web.live.samples import LENGTH, SECONDS, WIDTH, Sample, Samples
from gatewaykit_oauth.web.live.sums import quantile
from gatewaykit_oauth.web.live.trends import Trends, line

from ..conftest import start, storage_at
from .browser import Browser
from .seeding import CLI, PEPPER, SECRETS, add_people

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
ROW = re.compile(r'<th scope="row">(.*?)</th>(.*?)</tr>', re.DOTALL)
CELL = re.compile(r'data-label="([^"]+)">(.*?)</td>', re.DOTALL)
FACT = re.compile(r"<dt>(.*?)</dt><dd>(.*?)</dd>", re.DOTALL)
SERVER = """
import sys
from gatewaykit import Gateway, Model
from gatewaykit.serving.server import GatewayServer
config = {"server": {"port": 0, "workers": 2}, "database": {"url": sys.argv[1]}, "keys": {"pepper": sys.argv[2]}}
config["timeouts"] = {"hook": 30}
server = GatewayServer(Gateway({**config, "log": {"access": False}}, environ={}))
server.run(on_ready=lambda: print(server.address, flush=True))
"""


class Scrape:
    """What ``/metrics`` says."""

    def __init__(self, address: str) -> None:
        found = httpx.get(f"{address}/metrics", trust_env=False).text
        self._samples = [
            (name, dict(LABEL.findall(labels or "")), float(value)) for name, labels, value in SAMPLE.findall(found)
        ]

    def sum(self, wanted: str, **labels: str) -> int:
        """The sum of the samples of this name whose labels match these patterns."""
        return int(
            sum(
                value
                for name, given, value in self._samples
                if name == wanted
                and all(re.fullmatch(pattern, given.get(label, "")) for label, pattern in labels.items())
            )
        )


def plain(html: str) -> str:
    """Without marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def rows(html: str) -> dict[str, dict[str, str]]:
    """The lines of all tables by their heads."""
    return {
        plain(head): {label: plain(cell) for label, cell in CELL.findall(cells)} for head, cells in ROW.findall(html)
    }


def facts(html: str) -> dict[str, str]:
    """All pairs of a word and what is said of it."""
    return {plain(name): plain(value) for name, value in FACT.findall(html)}


# Numbers


class Down(FakeProvider):
    """A provider that does not even list its models: nothing gives hope that it is well."""

    async def models(self) -> Sequence[Model]:
        raise ProviderUnavailable


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway that has answered, failed and refused."""
    providers = plugin_of(
        providers=[
            FakeProvider(name="good", models=["swift", "wise"]),
            Down(ProviderUnavailable(), name="bad"),
        ]
    )
    folder = tmp_path_factory.mktemp("live")
    gateway = make_gateway(
        plugin,
        providers,
        database={"url": f"sqlite:///{folder}/gatewaykit.db"},
        keys={"pepper": PEPPER},
        timeouts={"hook": 30},
        prices={"models": [{"model": "*", "input": 1_000_000, "output": 2_000_000}]},
        breaker={"calls": 3, "cooldown": 600},
        router={"aliases": {"spare": ["bad/broken"]}},
    )
    with running(gateway) as address:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
            free = store.create(session, CLI, KeySpec(name="free"), secrets=SECRETS).secret
            slow = store.create(session, CLI, KeySpec(name="slow", limits=KeyLimits(rpm=1)), secrets=SECRETS).secret
        calls = [(free, "swift")] * 5 + [(free, "wise")] * 2 + [(free, "bad/broken")] * 3 + [(slow, "swift")] * 3
        for number, (key, model) in enumerate([*calls, ("gk_live_nobody", "swift")]):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": number % 2 == 0}
            headers = {"authorization": f"Bearer {key}"}
            httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=120)
        yield gateway, address


def test_the_page_says_what_a_scrape_says(busy: tuple[Gateway, str]) -> None:
    """Calls by how they ended, attempts of models, tokens, refusals, the outbox: each number is that of /metrics."""
    _, address = busy
    deadline = time.monotonic() + 120
    while Scrape(address).sum("gatewaykit_ledger_outbox_depth"):  # records leave it by themselves
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with Browser(address) as browser:
        browser.sign_in("anna")
        page = browser.get("/admin/live").text
    scrape, table, said = Scrape(address), rows(page), facts(page)
    ended = {name: table[name]["Since the start"] for name in table if "Since the start" in table[name]}
    calls = "gatewaykit_calls_total"
    assert ended == {
        "answered": str(scrape.sum(calls, gatewaykit_outcome="done")),
        "refused: the key, a limit or the request itself": str(scrape.sum(calls, gatewaykit_outcome="refused")),
        "the provider failed": str(scrape.sum(calls, gatewaykit_outcome="provider_error")),
        "the gateway could not take it": str(scrape.sum(calls, gatewaykit_outcome="unavailable")),
    }
    assert list(ended.values()) == ["8", "3", "3", "0"]
    for provider, model in (("good", "swift"), ("good", "wise"), ("bad", "broken")):
        labels = {"gen_ai_provider_name": provider, "gen_ai_response_model": model}
        shown = table[f"{model} {provider}"]
        attempts = scrape.sum("gatewaykit_attempts_total", **labels)
        failed = scrape.sum("gatewaykit_attempts_total", error_type=".+", **labels)
        assert (shown["Attempts"], shown["Failed, most often by"].split()[0]) == (str(attempts), str(failed))
        assert attempts
    tokens = scrape.sum("gatewaykit_tokens_total", gen_ai_token_type="input|output")
    assert (said["Tokens a minute"], tokens) == (str(tokens), 40)
    assert said["Requests a minute"] == str(scrape.sum(calls))
    assert said["Failed a minute"] == "3"
    assert said["Requests, of a key"] == f"{scrape.sum('gatewaykit_limiter_refusals_total')} calls refused"
    assert said["provider_unavailable"] == str(scrape.sum(calls, error_type="provider_unavailable"))
    assert said["Processes that serve"] == str(scrape.sum("gatewaykit_workers"))
    assert said["Records on their way to the database"] == str(scrape.sum("gatewaykit_ledger_outbox_depth"))
    assert said["Spent a minute"].startswith(f"{scrape.sum('gatewaykit_spend_total')}.00")
    assert re.fullmatch(r"[\d.]+ ms", said["Time for an answer"])
    assert re.fullmatch(r"[\d.]+ ms", said["Time to the first token"])


def test_a_model_that_is_left_alone(busy: tuple[Gateway, str]) -> None:
    """The circuit that its failures have opened is shown with the time until it is tried again."""
    with Browser(busy[1]) as browser:
        browser.sign_in("anna")
        page, scrape = browser.get("/admin/live").text, Scrape(busy[1])
    assert 0 < scrape.sum("gatewaykit_breaker_cooldown_seconds", gen_ai_response_model="broken") <= 600
    assert re.fullmatch(r"left alone for (10|9\.\d+|9) min.*", rows(page)["broken bad"]["Circuit"])
    assert rows(page)["swift good"]["Circuit"] == "in use"


def test_models_of_a_provider_are_told_the_same(busy: tuple[Gateway, str]) -> None:
    """The page of providers has the numbers of the live page for each model."""
    with Browser(busy[1]) as browser:
        browser.sign_in("anna")
        live, offers = rows(browser.get("/admin/live").text), rows(browser.get("/admin/providers").text)
    for name in ("swift", "wise", "broken"):
        provider = "bad" if name == "broken" else "good"
        assert offers[name] == live[f"{name} {provider}"]


def test_numbers_that_renew_themselves(busy: tuple[Gateway, str]) -> None:
    """A script gets the numbers alone; without scripts a page that was told to renews itself, and others do not."""
    with Browser(busy[1]) as browser:
        browser.sign_in("anna")
        page = browser.get("/admin/live").text
        part = browser.get("/admin/live?every=5", **{"hx-request": "true"}).text
        assert "<html" not in part
        assert rows(part).keys() == rows(page).keys()
        assert 'hx-trigger="every 5s' in page
        assert "http-equiv" not in page
        assert (
            '<noscript><meta http-equiv="refresh" content="30"></noscript>' in browser.get("/admin/live?every=30").text
        )
        still = browser.get("/admin/live?every=0").text
        assert not re.search("hx-trigger|http-equiv", still)


def test_renewing_keeps_no_session_alive(busy: tuple[Gateway, str]) -> None:
    """What a script asks by itself is no sign of somebody who is there; opening the page is."""
    gateway, address = busy
    storage: Any = gateway.storage
    with Browser(address) as browser:
        browser.sign_in("anna")

        def seen_after(**headers: str) -> bool:
            long_ago = datetime.now(UTC) - timedelta(minutes=50)
            with storage.transaction() as session:
                session.execute(text("UPDATE sessions SET seen = :at"), {"at": long_ago})
            browser.get("/admin/live", **headers)
            with storage.transaction() as session:
                seen = session.scalars(text("SELECT max(seen) FROM sessions")).one()
            return str(seen) > str(long_ago)

        assert not seen_after(**{"hx-request": "true"})
        assert seen_after()


def test_metrics_that_are_switched_off(tmp_path: Path) -> None:
    """The page says so, and the page of providers works without numbers."""
    gateway = make_gateway(
        plugin,
        database={"url": f"sqlite:///{tmp_path}/gatewaykit.db"},
        keys={"pepper": PEPPER},
        metrics={"enabled": False},
    )
    with running(gateway) as address, Browser(address) as browser:
        with gateway.storage.transaction() as session:  # type: ignore[union-attr]
            add_people(session)
        browser.sign_in("anna")
        assert "Metrics are switched off" in browser.get("/admin/live").words
        assert browser.get("/admin/providers").status == 200


def test_every_worker_tells_the_whole(url: str) -> None:
    """With two workers whichever answers knows the calls of both, and has the same past."""
    with storage_at(url).opened() as storage, storage.transaction() as session:
        add_people(session)
    process = start(SERVER, url, PEPPER)
    try:
        address = process.stdout.readline().strip()  # type: ignore[union-attr]
        assert address, process.communicate()[1]
        for _ in range(30):
            headers = {"authorization": "Bearer nobody's"}
            httpx.post(f"{address}/v1/chat/completions", json={}, headers=headers, trust_env=False)
        with Browser(address) as browser:
            browser.sign_in("anna")
            cookies = dict(browser.client.cookies)
        pages = [httpx.get(f"{address}/admin/live", cookies=cookies, trust_env=False).text for _ in range(8)]
        told = [rows(page)["refused: the key, a limit or the request itself"] for page in pages]
        assert [line["Since the start"] for line in told] == ["30"] * 8
        assert [facts(page)["Processes that serve"] for page in pages] == ["2"] * 8
        (lately,) = {line["In 15 minutes"] for line in told}
        assert int(lately) <= 30  # those that were counted before the first sample do not count
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


# The past


def sample(number: float) -> Sample:
    """Any sample."""
    return Sample.unpacked([number + place for place in range(WIDTH)])


def test_samples_are_packed_and_unpacked() -> None:
    """Nothing is lost or swapped."""
    assert len(sample(3).packed()) == WIDTH
    assert Sample.unpacked(sample(3).packed()) == sample(3)


@settings(max_examples=30, deadline=None)
@given(turns=st.lists(st.integers(1, 300), min_size=1, max_size=250, unique=True).map(sorted))
def test_a_ring_keeps_the_last_quarter_of_an_hour(turns: list[int]) -> None:
    """Whatever turns were taken or missed: those of the last ones are there in their order, and no others."""
    ring = Samples()
    for turn in turns:
        assert ring.take_turn(turn * SECONDS)
        assert not ring.take_turn(turn * SECONDS + 1)
        ring.keep(sample(turn), turn * SECONDS + 1)
    last = turns[-1]
    expected = [(last - turn, sample(turn)) for turn in turns if turn > last - LENGTH]
    assert ring.all(last * SECONDS) == expected
    assert ring.all((last + LENGTH) * SECONDS) == []


def test_a_forked_process_shares_the_ring() -> None:
    """What one process has taken, another one sees, and does not take again."""
    ring, (ours, theirs) = Samples(), socket.socketpair()
    child = os.fork()
    if child == 0:
        ring.take_turn(5 * SECONDS)
        ring.keep(sample(7), 5 * SECONDS)
        theirs.send(b"x")
        os._exit(0)
    assert ours.recv(1) == b"x"
    os.waitpid(child, 0)
    ours.close()
    theirs.close()
    assert ring.all(5 * SECONDS) == [(0, sample(7))]
    assert not ring.take_turn(5 * SECONDS)


def test_a_turn_that_was_taken_and_not_written_is_no_sample() -> None:
    """Neither one that never was written, nor the row's former content."""
    ring = Samples()
    ring.keep(sample(1), 3 * SECONDS)
    assert ring.take_turn((3 + LENGTH) * SECONDS)
    assert ring.all((3 + LENGTH) * SECONDS) == []


def test_a_minute_and_a_quarter_of_an_hour() -> None:
    """What is new since a minute ago; before there is a sample of then, since the oldest one."""
    past = [(age, sample(100 - age)) for age in range(30, -1, -1)]
    trends = Trends(past, sample(101), since=0.0)
    assert trends.minute(lambda one: one.given) == 7
    assert trends.all(lambda one: one.given) == 31
    young = Trends(past[-2:], sample(101), since=4.0)
    assert young.minute(lambda one: one.given) == 2
    assert Trends([], sample(0), since=0.0).minute(lambda one: one.given) == sample(0).given


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.none() | st.floats(0, 1e9), min_size=2, max_size=LENGTH))
@example(values=[0.0, 2.2e-311])
def test_a_line_stays_in_its_box(values: list[float | None]) -> None:
    """Points lie within, from left to right; a gap is one."""
    drawn = line(values)
    pieces = [piece for piece in drawn.path.split("M") if piece]
    points = [tuple(map(float, point.split())) for piece in pieces for point in piece.split("L")]
    assert all(0 <= x <= 180 and 0 <= y <= 36 for x, y in points)
    assert all(a[0] < b[0] for a, b in pairwise(points))
    assert drawn.most == max((value for value in values if value is not None), default=0)


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=5, max_size=5), share=st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_lie_where_the_values_are(counts: list[int], share: float) -> None:
    """In the bucket in which the value of that rank fell; above the last bound, at it."""
    bounds = (1.0, 2.0, 4.0, 8.0)
    found = quantile(share, bounds, counts)
    if not sum(counts):
        assert found is None
        return
    rank, below = share * sum(counts), 0
    place = next(place for place, count in enumerate(counts) if (below := below + count) >= rank)
    low, high = (0.0, *bounds)[min(place, 4)], (*bounds, 8.0)[place]
    assert found is not None
    assert low <= found <= high or place == 4
