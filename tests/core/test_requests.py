"""What bad input gets: a clear error in the dialect's shape, never a 500, and nothing that breaks out of its place."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit import Attempt, Call, Event, Finished, Limiter, ProviderBusy, Started, Target, TextDelta, Usage
from gatewaykit.exchange import Exchange, read_incoming
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of, until

CHAT = "/v1/chat/completions"


# Bodies

BAD_BODIES = {
    "nothing": (b"", None),
    "not JSON": (b"{", None),
    "not an object": (b"[]", "body"),
    "not UTF-8": (b'{"model": "\xff"}', None),
    "nested too deep": (b"[" * 100_000, None),
    "no model": (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
    "model is a number": (b'{"model": 1}', "model"),
    "messages are text": (b'{"model": "m", "messages": "hi"}', "messages"),
    "stream is text": (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
}


@pytest.mark.parametrize(("body", "param"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_cannot_be_read_is_a_400(wire: Any, records: Any, body: bytes, param: str | None) -> None:
    """The error names the field where there is one; no provider is asked."""
    provider = FakeProvider()
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]))
    async with gateway:
        request = wire(gateway)
        request.pieces = [body]
        done = await request.run()
    assert done.status == 400
    assert done.error["param"] == param
    assert records.only.outcome == "refused"
    assert provider.opened == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["model", "messages", "stream", "role", "content", "tools", "n", "stop"]) | st.text(max_size=5),
        inner, max_size=5),
).map(lambda document: json.dumps(document).encode())))  # fmt: skip
def test_no_body_at_all_is_a_500(wire: Any, body: bytes) -> None:
    """Whatever bytes come: an answer or a 4xx, as JSON, with one start and one end."""

    async def main() -> Any:
        async with make_gateway(plugin_of(providers=[FakeProvider()])) as gateway:
            request = wire(gateway)
            request.pieces = [body]
            return await request.run()

    done = asyncio.run(main())
    assert done.status in {200, 400}
    assert done.ended
    if done.status == 400:
        assert set(done.error) == {"message", "type", "param", "code"}


async def test_a_body_may_come_in_any_pieces(wire: Any) -> None:
    """Byte by byte, with empty pieces in between."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]))
    async with gateway:
        request = wire(gateway).ask()
        (body,) = request.pieces
        request.pieces = [piece for byte in body for piece in (bytes([byte]), b"")]
        assert (await request.run()).status == 200


async def test_a_body_that_is_too_large_is_not_kept(wire: Any, records: Any) -> None:
    """It is read on for a while, so that a client that writes first hears the 413; then the reading ends."""
    gateway = make_gateway(plugin_of(observers=[records]), server={"max_body_bytes": 100})
    async with gateway:
        small = wire(gateway)
        small.pieces = [b"x" * 60, b"x" * 60]
        endless = wire(gateway)
        endless.pieces = [b"x" * 60] * 1000
        for request in (small, endless):
            await request.run()
            assert (request.status, request.error["code"]) == (413, "body_too_large")
    assert len(endless.pieces) > 900
    assert [record.status for record in records.seen] == [413, 413]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_sends_20_mb_can_read_its_413(chunked: bool) -> None:
    """Over a real socket: the official clients' HTTP library gets the answer, and the connection serves again."""

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 2**20

    async with gateway_client(make_gateway(plugin_of(providers=[FakeProvider()]))) as client:
        answer = await client.post(CHAT, content=pieces() if chunked else b" " * (20 * 2**20))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert (await client.post(CHAT, json=chat())).status_code == 200


async def test_a_client_that_leaves_while_it_sends_is_recorded(wire: Any, records: Any) -> None:
    """Nothing is decoded, nothing is answered, and the record says who left."""
    gateway = make_gateway(plugin_of(observers=[records]))
    async with gateway:
        request = wire(gateway)
        request.pieces, request.more_to_come = [b'{"model":'], True
        task = asyncio.create_task(request.run())
        await until(lambda: not request.pieces)
        request.hang_up()
        await task
    assert request.sent == []
    assert (records.only.outcome, records.only.status, records.only.principal) == ("client_gone", 499, "static:test")


def chat(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


# Methods and paths


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_a_wrong_method_is_told_the_right_ones(wire: Any, records: Any, method: str) -> None:
    """405 with ``Allow``, in the dialect's shape, before anybody is asked who it is."""
    gateway = make_gateway(plugin_of(observers=[records]))
    async with gateway:
        request = wire(gateway, CHAT, method)
        request.scope["headers"] = []
        done = await request.run()
    assert (done.status, done.headers["allow"], done.error["code"]) == (405, "POST", "method_not_allowed")
    assert (records.only.status, records.only.method, records.only.dialect) == (405, method, "openai_chat")


async def test_head_gets_headers_alone() -> None:
    """Over a real socket, where a body would be taken for the next answer."""
    async with gateway_client(make_gateway()) as client:
        for _ in range(2):
            answer = await client.head(CHAT)
            assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_plugins_routes_are_refused_in_a_dialect_s_shape(wire: Any, method: str) -> None:
    """What is no dialect's path is answered as the dialects answer, standing alone as well as in a host."""
    gateway = make_gateway()
    async with gateway:
        for inside in (False, True):
            request = wire(gateway, "/livez", method)
            if inside:
                request.scope["app"] = object()
            done = await request.run()
            assert (done.status, done.error["code"]) == (405, "method_not_allowed")
            assert "GET" in done.headers["allow"]
            assert done.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/models/", "/v1/chat/completions/", "//v1/models", "/v1/\x00", "/é", "/v1/../v1"]
)
async def test_a_path_that_nobody_has_is_a_404(wire: Any, path: str) -> None:
    """In a dialect's shape; a path is never tidied up into another."""
    gateway = make_gateway()
    async with gateway:
        done = await wire(gateway, path, "GET").run()
    assert (done.status, done.error["code"]) == (404, "not_found")


async def test_the_longest_path_wins(wire: Any) -> None:
    """Of two dialects that own everything below a path, the nearer one answers, whichever was there first."""

    class Below(FakeDialect):
        def __init__(self, name: str, path: str) -> None:
            self.name = name
            self.routes = (("GET", path),)

    for dialects in ([Below("far", "/x/*"), Below("near", "/x/y/*")], [Below("near", "/x/y/*"), Below("far", "/x/*")]):
        gateway = make_gateway(plugin_of(dialects=dialects))
        async with gateway:
            assert (await wire(gateway, "/x/y/z", "GET").run()).text == "near"
            assert (await wire(gateway, "/x/z", "GET").run()).text == "far"


class FakeDialect:
    """Answers every request with an error that is its own name."""

    name = ""
    routes: tuple[tuple[str, str], ...] = ()

    def decode(self, incoming: Any, body: bytes) -> Any:
        from gatewaykit import BadRequest

        raise BadRequest

    def encoder(self, call: Any) -> Any:
        raise AssertionError

    def encode_reply(self, call: Any, reply: Any) -> bytes:
        raise AssertionError

    def encode_error(self, error: Any, request_id: str) -> bytes:
        return self.name.encode()


async def test_a_websocket_is_closed() -> None:
    """There is nothing behind it."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await make_gateway()({"type": "websocket", "path": CHAT}, None, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# Headers


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        ("req-1.a_B", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ("a\r\nset-cookie: x", False),
        ("é", False),
        ("a,b", False),
    ],
)
async def test_a_request_s_id_is_kept_if_it_is_harmless(wire: Any, records: Any, given_id: str, kept: bool) -> None:
    """It comes back in the answer and stands in the record; any other is replaced."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], observers=[records]))
    async with gateway:
        request = wire(gateway).ask()
        request.scope["headers"].append((b"x-request-id", given_id.encode("latin-1")))
        done = await request.run()
    answered = done.headers["x-request-id"]
    assert (answered == given_id) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answered)
    assert records.only.request_id == answered


async def test_ids_differ(wire: Any) -> None:
    """Also those of two clients that sent the same bad one, and that of a repeated header."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]))
    seen = set()
    async with gateway:
        for _ in range(50):
            request = wire(gateway).ask()
            request.scope["headers"] += [(b"x-request-id", b"one"), (b"x-request-id", b"two")]
            seen.add((await request.run()).headers["x-request-id"])
    assert len(seen) == 50


@pytest.mark.parametrize("stream", [False, True])
async def test_the_server_timing_adds_up(wire: Any, records: Any, stream: bool) -> None:
    """Stages in milliseconds, none negative; provider and overhead together are no more than the whole call."""
    gate = asyncio.Event()
    gateway = make_gateway(plugin_of(providers=[FakeProvider(gate, TextDelta("x"), Finished())], observers=[records]))
    async with gateway:
        task = asyncio.create_task(wire(gateway).ask(stream=stream).run())
        asyncio.get_running_loop().call_later(0.06, gate.set)
        done = await task
    stages = dict(stage.split(";dur=") for stage in done.headers["server-timing"].split(", "))
    assert list(stages) == ["auth", "decode", "route", "limit", "provider", "overhead"]
    spent = {stage: float(value) / 1000 for stage, value in stages.items()}
    assert min(spent.values()) >= 0
    assert 0.05 <= spent["provider"] <= records.only.seconds + 0.001
    assert spent["provider"] + spent["overhead"] <= records.only.seconds + 0.001
    assert spent["overhead"] < 0.05
    assert records.only.timings["provider"] == pytest.approx(spent["provider"], abs=0.0001)
    assert records.only.first_event_seconds is not None
    assert 0.05 <= records.only.first_event_seconds <= records.only.seconds


def sane(value: bytes) -> bool:
    return re.fullmatch(rb"[\x20-\x7e]*", value) is not None and len(value) <= 1100


@settings(max_examples=200, deadline=None)
@given(model=st.text(max_size=40), ignored=st.lists(st.text(max_size=20), max_size=3), limit=st.text(max_size=20))
def test_no_name_breaks_out_of_its_header(model: str, ignored: list[str], limit: str) -> None:
    """Whatever models, parameters and limits are called, a header is one line of visible ASCII."""
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    exchange = Exchange(read_incoming(scope, CHAT), None)  # type: ignore[arg-type]
    exchange.meter.see(Started(ignored=tuple(ignored)))
    exchange.permit_headers.append(("x-limit", limit))
    exchange.call = Call(exchange.incoming, None, "d", None)  # type: ignore[arg-type]
    exchange.call.attempts.append(Attempt(Target("p", model), 0.1))
    assert all(sane(name) and sane(value) for name, value in exchange.stream_headers())


def test_ids_of_requests_are_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later requests have larger ids, all of one length, and those of one moment differ."""
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    ids = []
    for now in (0.0, 0.001, 1_790_000_000.0, 1_790_000_000.001, 1_790_000_000.001, 4_000_000_000.0):
        monkeypatch.setattr("gatewaykit.exchange.time.time", lambda now=now: now)
        ids.append(read_incoming(scope, CHAT).request_id)
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {32}
    moments = [one[:12] for one in ids]
    assert moments == sorted(moments)
    assert len(set(moments)) == len(ids) - 1


HOSTILE = [
    "a\r\nset-cookie: x=1",
    "a\x00b",
    "a\x01\x7fb",
    "a\tb",
    "модель",
    "\U0001f600",
    "a" * 256,
    "\\",
    '"',
    "a/b//c",
]


@pytest.mark.parametrize("model", HOSTILE)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hostile_model_name_is_just_a_name(model: str, stream: bool) -> None:
    """Over a real socket: an answer, no header of the client's making, and no 500."""
    async with gateway_client(make_gateway(plugin_of(providers=[FakeProvider()]))) as client:
        answer = await client.post(CHAT, json=chat(model, stream=stream))
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-gatewaykit-target"].startswith("fake/")


async def test_many_ignored_parameters_do_not_make_a_huge_header() -> None:
    """Their names are the client's: HTTP libraries refuse heads of many kilobytes."""

    class Picky(FakeProvider):
        async def stream(self, call: Call, target: Target) -> Any:
            yield Started(ignored=tuple(call.chat.extra))
            yield Finished()

    fields = {f"field-{number:05}": 1 for number in range(20_000)}
    async with gateway_client(make_gateway(plugin_of(providers=[Picky()]))) as client:
        answer = await client.post(CHAT, json=chat(**fields))
    assert answer.status_code == 200
    assert answer.headers["x-gatewaykit-ignored"].startswith("field-00000, field-00001, ")
    assert len(answer.headers["x-gatewaykit-ignored"]) < 2000


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.2, "1"), (2.5, "3"), (-1, "1"), (float("inf"), "31536000"), (float("nan"), None), (1e300, "31536000")],
)
async def test_retry_after_is_a_number_of_seconds(wire: Any, seconds: float, header: str | None) -> None:
    """Rounded up, at least one; what an upstream made up is left out."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider(ProviderBusy(retry_after=seconds))]))
    async with gateway:
        done = await wire(gateway).ask().run()
    assert done.status == 429
    assert done.headers.get("retry-after") == header


async def test_a_permit_s_headers_are_in_every_answer(wire: Any) -> None:
    """A client sees how much is left, in good answers, streams and errors."""

    class Counting(Limiter):
        name = "counting"

        async def acquire(self, call: Call) -> Any:
            return Left()

    class Left:
        headers = (("X-RateLimit-Remaining-Requests", "7"),)

        async def settle(self, usage: Usage | None) -> None: ...

        async def release(self) -> None: ...

    for script in ([TextDelta("x"), Finished()], [ProviderBusy()]):
        gateway = make_gateway(plugin_of(providers=[FakeProvider(*script)], limiters=[Counting()]))
        async with gateway:
            for stream in (False, True):
                done = await wire(gateway).ask(stream=stream).run()
                assert done.headers["x-ratelimit-remaining-requests"] == "7"


def test_repeated_headers_are_joined() -> None:
    """As RFC 9110 has it, in the order in which they came, with names in lower case as the server gives them."""
    headers = [(b"accept", b"a"), (b"x-one", b"1"), (b"accept", b"b"), (b"accept", b"\xff")]
    incoming = read_incoming({"method": "GET", "headers": headers, "client": None}, "/")
    assert incoming.headers == {"accept": "a, b, ÿ", "x-one": "1"}
    assert incoming.client is None


async def test_an_event_of_an_unknown_kind_is_no_crash(wire: Any) -> None:
    """A provider of a newer kind may say what this dialect has no words for."""

    class Novel(Event):
        pass

    gateway = make_gateway(plugin_of(providers=[FakeProvider(TextDelta("x"), Novel(), Finished())]))
    async with gateway:
        for stream in (False, True):
            assert (await wire(gateway).ask(stream=stream).run()).status == 200


async def test_httpx_reads_every_error(wire: Any) -> None:
    """Each error answer has a length that is right, on one connection that serves them all."""
    async with gateway_client(make_gateway(plugin_of(providers=[FakeProvider(ProviderBusy())]))) as client:
        for request in (
            client.build_request("POST", CHAT, content=b"{"),
            client.build_request("POST", CHAT, json=chat()),
            client.build_request("GET", "/nope"),
            client.build_request("GET", "/v1/models/none"),
            client.build_request("GET", "/v1/models", headers={"Authorization": "Bearer no"}),
        ):
            answer: httpx.Response = await client.send(request)
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert answer.json()["error"]["message"]


async def test_a_body_that_does_not_come_is_a_408(wire: Any, records: Any) -> None:
    """A client that begins a body and never ends it is told so, and the connection is closed."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], observers=[records]), timeouts={"request_body": 0.02})
    async with gateway:
        request = wire(gateway).ask()
        request.more_to_come = True
        await request.run()
    assert (request.status, request.error["code"]) == (408, "request_timeout")
    assert request.headers["connection"] == "close"
    assert (records.only.status, records.only.outcome) == (408, "refused")
