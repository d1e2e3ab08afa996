"""What a running gateway logs: every line is JSON, every request is one of them, and no secret is in any."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from gatewaykit.testing import make_gateway, until

from ..cli.conftest import Place
from ..e2e import openai_upstream
from .conftest import KEY, MODEL, Serve, asking, chat, documents, logged

PROMPT = "prompt-canary-zebra"
SECRETS = (KEY, openai_upstream.CREDENTIAL, "typed-canary-0a1b2c3d")
TRACE = "0af7651916cd43dd8448eb211c80319c"
NOISY = """
import logging, warnings
from contextlib import asynccontextmanager
from gatewaykit import AroundCall, hookimpl

class Mute:
    def __str__(self):
        raise RuntimeError("nothing to say")

class Noisy(AroundCall):
    name = "noisy"

    async def around(self, call, proceed):
        secret = call.incoming.headers.get("authorization")
        if "noise" in call.chat.messages[-1].text:
            print("printed", secret)
            log = logging.getLogger("noisy")
            log.warning("argument %s", secret, extra={"api_key": "typed-canary-0a1b2c3d", "deep": {"note": secret}})
            log.info("two\\nlines\\x1b[31m \\udcff")
            itself = [secret]
            itself.append(itself)
            log.info("%d of them", "many", extra={"endless": itself, "mute": Mute()})
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("a warning with " + secret)
            logging.getLogger("sqlalchemy.engine").warning("of sqlalchemy")
            logging.getLogger("alembic.runtime").info("of alembic")
            logging.getLogger("uvicorn.error").warning("of uvicorn")
            __import__("loguru").logger.warning("of loguru")
        if "boom" in call.chat.messages[-1].text:
            local_value = "typed-canary-0a1b2c3d"
            raise RuntimeError("x" * 9000 + f" Authorization: {secret}")
        async for event in proceed(call):
            yield event

@asynccontextmanager
async def leaving():
    yield
    raise RuntimeError("at the end")

@hookimpl
def gateway_around_calls(gateway):
    return [Noisy()]

@hookimpl
def gateway_lifespan(gateway):
    return [leaving()]
"""


ECHO = """
from gatewaykit import AroundCall, hookimpl

class Echo(AroundCall):
    name = "echo"

    async def around(self, call, proceed):
        raise RuntimeError(call.chat.messages[-1].text)
        yield

@hookimpl
def gateway_around_calls(gateway):
    return [Echo()]
"""


FLOOD = """
import logging
from gatewaykit import AroundCall, hookimpl

class Flood(AroundCall):
    name = "flood"

    async def around(self, call, proceed):
        for _ in range(50):
            logging.getLogger("flood").warning("x" * 5000)
        async for event in proceed(call):
            yield event

@hookimpl
def gateway_around_calls(gateway):
    return [Flood()]
"""


async def test_every_line_is_json_and_no_secret_is_in_it(place: Place, serve: Serve) -> None:
    """From start to end, two workers, tracebacks and print() included: standard output is JSON objects without any
    secret, and warnings, uvicorn, sqlalchemy, alembic and loguru are in them with the id of the request they belong to.
    What cannot be put into words harms neither the line nor the request.
    """
    place.install("tank-plugin", "tank", NOISY)
    gateway = serve('[log]\nlevel = "debug"\n', "--workers", "2")
    ids = set()
    async with asking(gateway) as client:
        for text in ("noise", "boom", "say 2 words"):
            answer = await client.post(
                "/v1/chat/completions",
                json=chat(f"{text} {PROMPT}"),
                headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            )
            assert answer.status_code == (500 if text == "boom" else 200)
            ids.add(answer.headers["x-request-id"])
        await client.post("/v1/chat/completions", json=chat("hi", model=KEY))
        await client.get(f"/nothing/{KEY}")
        await client.get("/v1/models", headers={"authorization": "Bearer typed-canary-0a1b2c3d"})
    await asyncio.to_thread(gateway.end)
    told = documents(gateway.out)
    assert {"time", "level", "event"} <= set.intersection(*(set(line) for line in told))
    by_message = {line.get("message"): line for line in told}
    for said in ("of sqlalchemy", "of alembic", "of uvicorn", "of loguru", "argument Bearer ***", "printed Bearer ***"):
        assert by_message[said]["request_id"] in ids
        assert by_message[said]["trace_id"] == TRACE
    argument = by_message["argument Bearer ***"]
    assert (argument["logger"], argument["api_key"], argument["deep"]) == ("noisy", "***", {"note": "Bearer ***"})
    mistaken = by_message["%d of them [without its arguments: TypeError]"]
    assert (mistaken["mute"], mistaken["endless"][0]) == ("<Mute>", "Bearer ***")
    assert any("a warning with Bearer ***" in line.get("message", "") for line in told)
    (boom,) = [line for line in told if "x" * 9000 in line.get("exception", "")]
    assert boom["error_type"] == "RuntimeError"
    assert boom["request_id"] in ids
    assert any("at the end" in line.get("exception", "") for line in told)
    everything = gateway.out + gateway.err
    for secret in (*SECRETS, PROMPT):
        assert secret not in everything


async def test_text_for_people_obeys_nobody(place: Place, serve: Serve) -> None:
    """What a client gets into the text of an exception moves no cursor, and makes no line of the log."""
    place.install("echo-plugin", "tank", ECHO)
    gateway = serve('[log]\nformat = "text"\n')
    async with asking(gateway) as client:
        await client.post("/v1/chat/completions", json=chat("\x1b[2J\n12:00:00  critical  all is lost"))
    await asyncio.to_thread(gateway.end)
    assert "\x1b" not in gateway.out
    (lost,) = [line for line in gateway.out.splitlines() if "all is lost" in line and "\\n" not in line]
    assert lost.startswith("    ")


async def test_a_request_is_one_line(serve: Serve) -> None:
    """It says who, what, where, how long and how it ended, under the ids of the answer's header and the caller's
    trace; requests to plugins' routes and to nowhere have theirs, probes have none.
    """
    gateway = serve()
    async with asking(gateway) as client:
        trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        called = await client.post("/v1/chat/completions", json=chat("say 3 words", stream=True), headers=trace)
        lost = await client.get("/nowhere")
        for probe in ("/livez", "/readyz"):
            assert (await client.get(probe)).status_code == 200
    assert await asyncio.to_thread(gateway.end) == 0
    lines = {line["request_id"]: line for line in documents(gateway.out) if line["event"] == "request"}
    line = lines.pop(called.headers["x-request-id"])
    assert {name: line[name] for name in ("method", "route", "status", "outcome", "key_id", "model", "provider")} == {
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "done",
        "key_id": "static:operator",
        "model": MODEL,
        "provider": "openai",
    }
    assert line["trace_id"] == TRACE
    assert line["stream"] is True
    assert line["output_tokens"] > 0
    assert 0 < line["first_event_ms"] <= line["duration_ms"]
    other = lines.pop(lost.headers["x-request-id"])
    assert (other["status"], other["path"], other["route"], other["outcome"]) == (404, "/nowhere", "", "refused")
    assert not lines


async def test_as_many_lines_as_requests(tmp_path: Path, serve: Serve) -> None:
    """Four workers write one file, which is put aside again and again: every request is in it once, some of them in
    files that were compressed; all of it is JSON.
    """
    file = tmp_path / "gateway.log"
    gateway = serve(f'[log]\nfile = "{file}"\n[log.rotation]\nmax_bytes = 20000\nkeep_files = 0\n', "--workers", "4")
    ids: list[str] = []
    async with asking(gateway) as client:

        async def ask() -> None:
            for _ in range(25):
                answer = await client.get("/v1/models")
                ids.append(answer.headers["x-request-id"])

        await asyncio.gather(*(ask() for _ in range(16)))
    assert await asyncio.to_thread(gateway.end) == 0
    assert gateway.out == ""
    told = documents(*logged(tmp_path))
    assert sorted(line["request_id"] for line in told if line["event"] == "request") == sorted(ids)
    assert len(ids) == 400
    assert len(list(tmp_path.glob("gateway.*.log*"))) >= 5
    assert any(line.get("message") == "has stopped" for line in told)


def test_a_file_that_cannot_be_written_keeps_the_port_shut(place: Place, serve: Serve) -> None:
    """The fault is told with its place, before anything is served."""
    gateway = serve('[log]\nfile = "/proc/nowhere/gateway.log"\n')
    assert gateway.end(None) == 1
    assert re.search(r"gatewaykit\.toml:\d+: log\.file: cannot be written: ", gateway.err)
    assert gateway.out == ""


async def test_a_reader_that_stopped_reading_stops_nobody(place: Place, serve: Serve) -> None:
    """When nobody reads standard output any more and the pipe is full, requests are answered all the same."""
    place.install("tank-plugin", "tank", FLOOD)
    reader, writer = os.pipe()
    gateway = serve(stdout=writer)
    os.close(writer)
    async with asking(gateway) as client:
        for _ in range(5):
            assert (await client.post("/v1/chat/completions", json=chat("say 1 words"))).status_code == 200
    os.close(reader)
    assert await asyncio.to_thread(gateway.end) == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_are_kept_where_that_is_asked_for(tmp_path: Path, serve: Serve, stream: bool) -> None:
    """With ``prompt_log.file`` what was asked and answered is in that file, for its owner alone, with the request's
    id; it is in no other log, and secrets are masked in it too.
    """
    file = tmp_path / "prompts.log"
    gateway = serve(f'[prompt_log]\nfile = "{file}"\n', "--workers", "2")
    async with asking(gateway) as client:
        asked = chat(f"say 4 words {PROMPT} password={KEY}", stream=stream)
        answer = await client.post("/v1/chat/completions", json=asked)
    assert await asyncio.to_thread(gateway.end) == 0
    (line,) = documents(file.read_text())
    assert (line["request_id"], line["key_id"]) == (answer.headers["x-request-id"], "static:operator")
    assert line["request"]["messages"][0]["content"] == f"say 4 words {PROMPT} password=***"
    assert "word4" in line["answer"]["raw"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert PROMPT not in gateway.out


async def test_prompts_are_not_kept_for_longer_than_allowed(tmp_path: Path) -> None:
    """Those of weeks ago are gone soon after the start, though nobody says anything."""
    file = tmp_path / "prompts.log"
    file.write_text("{}\n")
    os.utime(file, (0, 0))
    async with make_gateway(prompt_log={"file": str(file)}):
        await until(lambda: not list(tmp_path.glob("prompts.*")), what="nothing is kept")
