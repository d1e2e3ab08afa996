"""Every scripted fault does what the grammar says, at the socket."""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit_gigachat.sandbox import Fault, FaultSyntaxError, SandboxServer, SandboxSettings, running_sandbox

TEXT = "word1 word2 word3 word4 word5 word6 word7 word8 word9"


def received(api, fault: str, content: str = "say 9 words") -> tuple[bytes, bool]:
    """What a streaming client gets before the end, and whether the end was a clean one."""
    body = {"model": "GigaChat-2-Max", "messages": [{"role": "user", "content": content}], "stream": True}
    got = bytearray()
    try:
        with api.http.stream("POST", "/chat/completions", json=body, headers={"x-sandbox-fault": fault}) as answer:
            assert answer.status_code == 200
            for part in answer.iter_raw():
                got += part
    except httpx.RemoteProtocolError:
        return bytes(got), False
    return bytes(got), True


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 504])
def test_status(api, status):
    """``status`` answers with the API's error body of that status."""
    answer = api.fault(f"status={status}")
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.json()["message"]


def test_message_and_retry_after(api):
    """``message`` and ``retry-after`` go into the answer."""
    answer = api.fault("status=429; retry-after=2; message=Slow down")
    assert answer.json() == {"status": 429, "message": "Slow down"}
    assert answer.headers["retry-after"] == "2"
    assert api.fault("html=503; retry-after=2").headers["retry-after"] == "2"


def test_html_and_empty(api):
    """``html`` answers with a front-end page, even with status 200, and ``empty`` with nothing."""
    for status in (502, 200):
        answer = api.fault(f"html={status}")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html")
        assert answer.text.startswith("<html>")
    assert (api.fault("empty=500").status_code, api.fault("empty=500").content) == (500, b"")


def test_delay(api):
    """``delay`` waits before the answer, which is then the usual one."""
    began = monotonic()
    answer = api.fault("delay=0.2")
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    assert monotonic() - began >= 0.2


@pytest.mark.parametrize("stream", [True, False])
def test_drop_before(api, stream):
    """``drop=before`` closes the connection without an answer."""
    with pytest.raises(httpx.TransportError):
        api.fault("drop=before", stream=stream)


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_drop_in_stream(api, number):
    """``drop=after:N`` delivers N events whole and closes the connection without an end mark."""
    got, clean = received(api, f"drop=after:{number}")
    assert not clean
    assert got.count(b"\n\n") == number
    assert got.endswith(b"\n\n" if number else b"")
    assert b"[DONE]" not in got


def test_drop_in_json(api):
    """``drop=after`` closes the connection in the middle of a JSON body."""
    with pytest.raises(httpx.RemoteProtocolError):
        api.fault("drop=after:1")


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
def test_drops_under_each_protocol(protocol, open_api, monkeypatch, caplog):
    """Drops work under both HTTP implementations and the plain event loop, and nothing is logged."""
    plain = SandboxServer.__init__

    def with_protocol(self, *args):
        plain(self, *args)
        self.config = uvicorn.Config(
            self.config.app, http=protocol, loop="asyncio", lifespan="off", ws="none", log_config=None
        )

    monkeypatch.setattr(SandboxServer, "__init__", with_protocol)
    with caplog.at_level(logging.WARNING), running_sandbox() as running:
        api = open_api(running)
        with pytest.raises(httpx.TransportError):
            api.fault("drop=before")
        got, clean = received(api, "drop=after:2")
        assert (got.count(b"\n\n"), clean) == (2, False)
        with pytest.raises(httpx.RemoteProtocolError):
            api.fault("drop=after:1")
    assert caplog.records == []


def test_drops_are_not_cancellations(api):
    """A connection that the sandbox itself cut does not count as a client that left; its place is free."""
    before = replace(api.running.stats)
    received(api, "drop=after:1")
    with pytest.raises(httpx.TransportError):
        api.fault("drop=before")
    after = api.running.stats
    assert after.cancelled_streams == before.cancelled_streams
    assert after.cancelled_requests == before.cancelled_requests
    assert (after.live_streams, after.parallel) == (0, 0)


def test_garbage(api):
    """``garbage`` puts something that is no JSON in place of one event, or of the document."""
    got, clean = received(api, "garbage=2")
    lines = got.decode().split("\n\n")
    assert clean
    assert [line.startswith("data: {") for line in lines[:4]] == [True, False, True, True]
    assert got.endswith(b"data: [DONE]\n\n")
    with pytest.raises(ValueError, match="Expecting value"):
        api.fault("garbage").json()


def test_half_line(api):
    """``half-line`` cuts one event in its middle and ends the answer there, cleanly as HTTP goes."""
    got, clean = received(api, "half-line=2")
    whole, half = got.decode().split("\n\n")
    assert clean
    assert whole.endswith("}")
    assert half.startswith("data: {")
    assert not half.endswith("}")
    answer = api.fault("half-line")
    assert answer.status_code == 200
    assert answer.text.startswith('{"choices"')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()


def test_slow(api):
    """``slow`` waits between the events of a stream and between eight pieces of a document."""
    began = monotonic()
    got, clean = received(api, "slow=0.05")
    assert (clean, got.count(b"data: ")) == (True, 5)
    assert monotonic() - began >= 4 * 0.05
    began = monotonic()
    assert api.fault("slow=0.02").json()["choices"][0]["message"]["content"] == TEXT
    assert monotonic() - began >= 7 * 0.02


def test_split(api):
    """``split`` writes the body in small pieces that make up the same body."""
    got, clean = received(api, "split=7")
    assert clean
    assert got.count(b"\n\n") == 5
    assert got.endswith(b"data: [DONE]\n\n")
    assert api.fault("split=1").json()["choices"][0]["message"]["content"] == TEXT


def test_no_done(api):
    """``no-done`` leaves out the end mark alone."""
    got, clean = received(api, "no-done")
    assert clean
    assert b'"finish_reason":"stop"' in got
    assert b"[DONE]" not in got


@pytest.mark.parametrize(
    ("finish", "text"), [("blacklist", "На эту тему"), ("length", "word1"), ("error", ""), ("stop", "word1")]
)
def test_finish(api, finish, text):
    """``finish`` gives that reason with a fitting text, in both formats."""
    choice = api.fault(f"finish={finish}").json()["choices"][0]
    assert choice["finish_reason"] == finish
    assert choice["message"]["content"].startswith(text)
    assert choice["message"]["content"] != TEXT or finish == "stop"
    last = api.stream("hi", {"x-sandbox-fault": f"finish={finish}"})[-2]
    assert last["choices"][0]["finish_reason"] == finish


def test_revoke_token(api):
    """``revoke-token`` makes the token count as expired until a new one is fetched."""
    expired = {"status": 401, "message": "Token has expired"}
    assert api.fault("revoke-token").json() == expired
    assert api.chat("hi").json() == expired
    api.login()
    assert api.chat("hi").status_code == 200
    api.running.sandbox.tokens.revoke_all()
    assert api.chat("hi").json() == expired


@pytest.mark.parametrize(("number", "stream"), [(2, True), (0, True), (0, False)])
def test_stall(api, until, number, stream):
    """``stall`` falls silent after so many events; the client's leaving is noticed and frees its place."""
    stats = api.running.stats
    before = stats.cancelled_streams + stats.cancelled_requests
    body = {"model": "GigaChat-2-Max", "messages": [{"role": "user", "content": "say 9 words"}], "stream": stream}
    headers = {"x-sandbox-fault": f"stall={number}"}
    with api.http.stream("POST", "/chat/completions", json=body, headers=headers) as answer:
        if number:
            parts = answer.iter_raw()
            got = b""
            while got.count(b"\n\n") < number:
                got += next(parts)
        assert stats.parallel == 1
        assert stats.live_streams == int(stream)
    until(lambda: stats.parallel == 0)
    assert stats.live_streams == 0
    assert stats.cancelled_streams + stats.cancelled_requests == before + 1


def test_leaving_during_delay(api, until):
    """A client that leaves while the answer is delayed frees its place at once."""
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(
            "/chat/completions",
            json={"model": "GigaChat", "messages": [{"role": "user", "content": "hi"}]},
            headers={"x-sandbox-fault": "delay=3000"},
            timeout=0.2,
        )
    until(lambda: api.running.stats.parallel == 0)


def test_directives_in_text_and_model(api):
    """A fault in the last user message or behind the model's name acts, and is not answered to."""
    assert api.chat("hello [[fault: status=503]]").status_code == 503
    assert api.chat("hello", model="GigaChat-2-Max[[fault: status=504]]").status_code == 504
    assert api.message("repeat: x [[fault: slow=0]]")["content"] == "x"
    joined = api.chat("hello [[fault: status=429]] [[fault: retry-after=9]]")
    assert (joined.status_code, joined.headers["retry-after"]) == (429, "9")
    earlier = [{"role": "user", "content": "[[fault: status=503]]"}, {"role": "user", "content": "hello"}]
    assert api.chat(messages=earlier).status_code == 200


def test_order_of_faults(api):
    """A header goes before the queue, and the queue before the message."""
    api.running.faults.push("status=502")
    assert api.chat("[[fault: status=503]]", {"x-sandbox-fault": "status=501"}).status_code == 501
    assert api.chat("[[fault: status=503]]").status_code == 502
    assert api.chat("[[fault: status=503]]").status_code == 503
    assert api.chat("hello").status_code == 200


def test_queue(api):
    """Planned faults hit the next so many matching requests in their order, or all until they are cleared."""
    faults = api.running.faults
    faults.push("status=500", times=2, path="/chat/completions")
    faults.push("status=502", path="/oauth")
    assert api.http.get("/models").status_code == 200
    assert [api.chat("hi").status_code for _ in range(3)] == [500, 500, 200]
    assert api.authorize({"scope": "GIGACHAT_API_B2B"}, None).status_code == 502
    faults.push(Fault(status=503), times=None)
    assert [api.http.get("/models").status_code for _ in range(3)] == [503] * 3
    faults.clear()
    assert api.http.get("/models").status_code == 200
    with pytest.raises(ValueError, match="at least 1"):
        faults.push("status=500", times=0)


def test_control_over_http(api):
    """Faults can be planned, counted and cleared over HTTP, and the counters read."""
    url = f"{api.running.url}/_sandbox/faults"
    planned = {"fault": "status=500", "times": 2, "path": "/models"}
    assert api.http.post(url, json=planned).json() == {"planned": 1}
    assert api.http.get("/models").status_code == 500
    assert api.http.get(url).json() == {"planned": 1}
    assert api.http.delete(url).json() == {"planned": 0}
    assert api.http.get("/models").status_code == 200
    stats = api.http.get(f"{api.running.url}/_sandbox/stats").json()
    assert stats["requests"]["/models"] >= 2
    assert stats["statuses"]["500"] >= 1
    assert {"tokens_issued", "live_streams", "peak_parallel", "cancelled_streams", "uploads"} <= stats.keys()


@pytest.mark.parametrize(
    "body",
    [{"fault": "boom"}, {"fault": "status=99"}, {"fault": "status=500", "times": 0}, {"times": 1}, [], {"fault": 1}],
)
def test_control_refuses_nonsense(api, body):
    """A fault that cannot be read is refused with 400."""
    assert api.http.post(f"{api.running.url}/_sandbox/faults", json=body).status_code == 400


def test_control_may_be_off(open_api):
    """``control_api`` off removes the control endpoints."""
    with running_sandbox(SandboxSettings(control_api=False)) as running:
        assert open_api(running).http.get(f"{running.url}/_sandbox/stats").status_code == 404


@pytest.mark.parametrize(
    "text",
    ["boom", "status", "status=abc", "status=999", "drop", "drop=later", "drop=after:-1", "delay=-1", "delay=nan",
     "delay=1e9", "finish=never", "garbage=0", "split=0", "no-done=1", "retry-after=\x01", "half-line=x"],
)  # fmt: skip
def test_grammar_refuses(api, text):
    """What the grammar does not know is named in an error, in code and in a header."""
    with pytest.raises(FaultSyntaxError, match=text.partition("=")[0]):
        Fault.parse(text)
    if text.isprintable():
        assert "Sandbox fault" in api.fault(text).json()["message"]


def test_grammar_reads():
    """Words are joined by semicolons, with free spacing; nothing is the fault that does nothing."""
    assert Fault.parse("") == Fault()
    parsed = Fault.parse(" status = 429 ;retry-after=2;; drop=after:3 ; stall ; revoke-token")
    assert parsed == Fault(status=429, retry_after="2", drop_after=3, stall=0, revoke_token=True)


@settings(deadline=None)
@given(st.text())
def test_grammar_never_fails_otherwise(text):
    """Any text is a fault or a syntax error."""
    try:
        Fault.parse(text)
    except FaultSyntaxError:
        return
