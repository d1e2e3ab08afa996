"""The scriptable upstream does over a real socket what it is told."""

from __future__ import annotations

import asyncio

import pytest

from gatewaykit.errors import ProviderBadAnswer, ProviderBusy, ProviderUnavailable
from gatewaykit.http import HttpClient
from gatewaykit.sse import payloads
from gatewaykit.testing import Step, Upstream, UpstreamAnswer, refusing_address, until


async def test_answer_and_request_are_exact() -> None:
    """Status, headers and body arrive; method, path, headers and body are known, for small and chunked bodies alike."""
    answer = UpstreamAnswer.of_json({"ok": True}, 429, retry_after="7")
    async with Upstream(lambda request: answer.script()) as upstream, HttpClient(upstream.url) as client:
        for body in (b"question", b"q" * 2_000_000):
            got = await client.request("POST", "/v1/ask", body=body, headers={"X-Word": "w"})
            assert (got.status, got.headers["retry-after"], got.body) == (429, "7", b'{"ok":true}')
            request = upstream.requests[-1]
            assert (request.method, request.path, request.body) == ("POST", "/v1/ask", body)
            assert request.headers["x-word"] == "w"
        assert upstream.live == 1, "the connection is used again"


async def test_events_and_lines_come_in_pieces() -> None:
    """Server-sent events end with DONE, lines are one document each."""
    answers = {
        "/events": UpstreamAnswer.of_events([{"a": 1}, {"a": 2}]),
        "/lines": UpstreamAnswer.of_lines([{"a": 1}, {"a": 2}]),
    }
    async with (
        Upstream(lambda request: answers[request.path].script()) as upstream,
        HttpClient(upstream.url) as client,
    ):
        async with client.stream("GET", "/events") as stream:
            assert stream.is_event_stream
            data = [data async for block in stream.frames() for data in payloads(block)]
        assert data == [b'{"a":1}', b'{"a":2}', b"[DONE]"]
        async with client.stream("GET", "/lines") as stream:
            assert [document async for document in stream.json_lines(dict[str, int])] == [{"a": 1}, {"a": 2}]


async def test_held_answer_waits_for_release() -> None:
    """Nothing comes until the test lets it."""
    script = [Step.HOLD, *UpstreamAnswer.of_json({}).script()]
    async with Upstream(lambda request: script) as upstream, HttpClient(upstream.url) as client:
        task = asyncio.create_task(client.request("GET", "/"))
        await until(lambda: upstream.held == 1)
        assert not task.done()
        upstream.release()
        assert (await task).status == 200


async def test_a_connection_lives_on_after_a_held_answer() -> None:
    """Whoever waited for the client to leave has stopped reading before the next request is read."""
    (head, *body) = UpstreamAnswer.of_json({}).script()
    async with Upstream(lambda request: [Step.HOLD, head, *body]) as upstream:
        reader, writer = await asyncio.open_connection(*upstream.url.removeprefix("http://").split(":"))
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: upstream.held == 1 or len(upstream.requests) == 2)
            upstream.release()
            assert (await reader.readuntil(b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


async def test_held_answer_sees_the_client_leave() -> None:
    """A client that goes away is noticed at once."""
    async with Upstream(lambda request: [Step.HOLD]) as upstream, HttpClient(upstream.url) as client:
        task = asyncio.create_task(client.request("GET", "/"))
        await until(lambda: upstream.held == 1)
        task.cancel()
        await until(lambda: upstream.held == 0 and upstream.live == 0)


@pytest.mark.parametrize("sent", [0, 2])
@pytest.mark.parametrize("how", [Step.CLOSE, Step.RESET])
async def test_broken_connections_are_broken(how: Step, sent: int) -> None:
    """Before the first byte and behind the first piece, by end and by reset."""
    script = [*UpstreamAnswer.of_json({}).script()[:sent], how]
    async with Upstream(lambda request: script) as upstream, HttpClient(upstream.url) as client:
        with pytest.raises(ProviderUnavailable):
            await client.request("POST", "/", body=b"{}")


async def test_same_port_serves_again_in_another_loop() -> None:
    """The address outlives one time of serving."""
    upstream = Upstream(lambda request: UpstreamAnswer.of_json({}).script())
    try:
        for _ in range(2):
            async with upstream.serving(), HttpClient(upstream.url) as client:
                assert (await client.request("GET", "/")).status == 200
    finally:
        upstream.close()


async def test_failing_handler_fails_the_test() -> None:
    """An error of the test's own handler is not taken for the upstream's mood."""

    async def ask() -> None:
        async with Upstream(lambda request: [b"x" * (1 // 0)]) as upstream, HttpClient(upstream.url) as client:
            with pytest.raises(ProviderUnavailable):
                await client.request("GET", "/")

    with pytest.raises(ZeroDivisionError):
        await ask()


async def test_refusing_address_refuses() -> None:
    """Nothing listens there."""
    with refusing_address() as url:
        async with HttpClient(url) as client:
            with pytest.raises(ProviderUnavailable):
                await client.request("GET", "/")


async def test_success_is_no_refusal() -> None:
    """raise_for_status lets 200 pass and raises what any other status means, for whole answers and streams."""
    answers = {"/good": UpstreamAnswer.of_json({}), "/busy": UpstreamAnswer.of_json({}, 429, retry_after="3")}
    async with (
        Upstream(lambda request: answers[request.path].script()) as upstream,
        HttpClient(upstream.url) as client,
    ):
        (await client.request("GET", "/good")).raise_for_status()
        with pytest.raises(ProviderBusy) as caught:
            (await client.request("GET", "/busy")).raise_for_status()
        assert caught.value.retry_after == 3
        async with client.stream("GET", "/busy") as stream:
            with pytest.raises(ProviderBusy):
                stream.raise_for_status()


async def test_lines_are_whole_however_they_arrive() -> None:
    """Lines are put together from any pieces, without empty ones; the last needs no end, a huge one is refused."""
    pieces = (b'{"a"', b":1}\r\n\n{", b'"a":2}\n{"a":3}\n{"a"', b":4}")
    huge = (b"x" * (1024 * 1024),) * 9
    answers = {"/good": UpstreamAnswer(pieces), "/huge": UpstreamAnswer(huge)}
    async with (
        Upstream(lambda request: answers[request.path].script()) as upstream,
        HttpClient(upstream.url) as client,
    ):
        async with client.stream("GET", "/good") as stream:
            assert [line async for line in stream.lines()] == [b'{"a":1}', b'{"a":2}', b'{"a":3}', b'{"a":4}']
        async with client.stream("GET", "/huge") as stream:
            with pytest.raises(ProviderBadAnswer):
                await anext(stream.lines())
