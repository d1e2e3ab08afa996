"""``gatewaykit serve`` over real sockets: who may come in, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from gatewaykit.testing.processes import children_of
from gatewaykit_gigachat.sandbox import RunningSandbox, SandboxSettings, running_sandbox

from .conftest import PATIENCE, Place, Running

KEY = "gk_0123456789abcdefghij"
BEARER = {"Authorization": f"Bearer {KEY}"}
WITH_KEY = f'[static_keys.keys]\nteam = "{KEY}"\n'
STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A GigaChat whose streams take a while: each event comes a twentieth of a second after the last."""
    with running_sandbox(SandboxSettings(event_interval=0.05)) as running:
        yield running


@pytest.fixture
def gigachat(sandbox: RunningSandbox) -> dict[str, str]:
    """What users of GigaChat have in their environment."""
    return {
        "GIGACHAT_BASE_URL": sandbox.base_url,
        "GIGACHAT_AUTH_URL": sandbox.auth_url,
        "GIGACHAT_CREDENTIALS": sandbox.credentials,
    }


@contextlib.contextmanager
def client(address: str, **options: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False, **options) as opened:
        yield opened


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def chat(words: int, *, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"say {words} words"}]
    return {"model": "GigaChat-2", "messages": messages, "stream": stream}


def documents(running: Running) -> list[dict[str, Any]]:
    """All of standard output, which is JSON line by line."""
    return [json.loads(line) for line in running.out.splitlines()]


# Keys


def test_no_keys_no_service_for_others(place: Place) -> None:
    """On an address that other machines reach, `serve` refuses to start without keys, and says what to do."""
    done = place.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("✗ command line: server.host: 0.0.0.0 can be reached from other machines")


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_a_key_is_made_for_one_run(place: Place, more: tuple[str, ...]) -> None:
    """On loopback without keys one is made, printed once, and opens every worker; no key, no answer."""
    with place.start("serve", "--port", "0", *more) as gateway:
        key = gateway.wait_for(r"(gk_local_\S+)")
        for _ in range(8):
            with client(gateway.address) as http:
                assert http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
                assert http.get("/v1/models").status_code == 401
        assert gateway.end() == 0
    assert (gateway.out + gateway.err).count(key) == 1
    assert f"{key}" not in json.dumps(documents(gateway))


def test_own_keys_are_not_printed(place: Place) -> None:
    """With keys in the configuration none is made and none is shown."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0") as gateway, client(gateway.address, headers=BEARER) as http:
        assert http.get("/v1/models").status_code == 200
        assert gateway.end() == 0
    assert "gk_" not in gateway.out + gateway.err


def test_no_key_is_made_that_opens_nothing(place: Place) -> None:
    """With the plugin of static keys blocked a key would be of no use: the fault is told instead."""
    place.configure('[plugins]\nblocked = ["static-keys"]\n')
    done = place.run("serve", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "static-keys is blocked" in done.stderr


def test_the_environment_alone_suffices(place: Place, gigachat: dict[str, str]) -> None:
    """With the variables that GigaChat's users have already, `serve` needs no file and no option."""
    with place.start("serve", environ=gigachat | {"GATEWAYKIT_SERVER__PORT": "0"}) as gateway:
        key = gateway.wait_for(r"(gk_local_\S+)")
        with client(gateway.address, headers={"Authorization": f"Bearer {key}"}) as http:
            answer = http.post("/v1/chat/completions", json=chat(2, stream=False))
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == "word1 word2"
        assert gateway.end() == 0
    assert "providers  gigachat" in gateway.err


# Sockets


def test_a_port_in_use_is_one_line(place: Place) -> None:
    """A port that another program has is named, and `serve` ends."""
    place.configure(WITH_KEY)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.run("serve", "--port", str(port))
    expected = f"✗ command line: server.port: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


@pytest.mark.parametrize("host", ["no.host.invalid", "localhost:8080", "192.0.2.1", "a\\u0000b", "ä..b"])
def test_a_host_that_is_none_is_one_line(place: Place, host: str) -> None:
    """The host is named, not the port, at the line that sets it."""
    place.configure(WITH_KEY + f'[server]\nhost = "{host}"\n')
    done = place.run("serve", "--port", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("✗ gatewaykit.toml:4: server.host: cannot listen on ")


def test_an_ipv6_address_is_written_as_one(place: Place) -> None:
    """On ::1 the address that is printed can be used as it is."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--host", "::1") as gateway, client(gateway.address) as http:
        assert gateway.address.startswith("http://[::1]:")
        assert http.get("/livez").status_code == 200
        assert gateway.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_tls_files_are_used(place: Place, workers: int) -> None:
    """With a certificate the gateway speaks HTTPS, and clients that trust its authority can verify it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(place.folder / "all.pem"))
    place.configure(WITH_KEY + f'[server]\ntls_certfile = "{place.folder}/all.pem"\n')
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with place.start("serve", "--port", "0", "--workers", str(workers)) as gateway:
        assert gateway.address.startswith("https://127.0.0.1:")
        with client(gateway.address, verify=trust, headers=BEARER) as http:
            assert http.get("/v1/models").status_code == 200
        assert gateway.end() == 0


# What it says


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", STOPS)
def test_logs_for_machines_are_json(place: Place, gigachat: dict[str, str], workers: int, stop: signal.Signals) -> None:
    """Into a pipe every line of standard output is a JSON object, from start to end and from every process."""
    place.configure(WITH_KEY + '[log]\nlevel = "debug"\n')
    with place.start("serve", "--port", "0", "--workers", str(workers), environ=gigachat) as gateway:
        with client(gateway.address, headers=BEARER) as http:
            ids = [http.post("/v1/chat/completions", json=chat(1, stream=False)).headers["x-request-id"]] * 3
        with socket.create_connection(("127.0.0.1", httpx.URL(gateway.address).port or 0)) as garbage:
            garbage.sendall(b"\x00\x01 not HTTP\r\n\r\n")
            assert garbage.recv(100).startswith(b"HTTP/1.1 400")
        assert gateway.end(stop) == 0
    told = documents(gateway)
    assert {"time", "level", "event"} <= set.intersection(*(set(line) for line in told))
    messages = [line.get("message", "") for line in told]
    assert f"serves at {gateway.address}" in messages
    assert messages[-1] == "has stopped"
    assert "Invalid HTTP request received." in messages
    assert ids[0] in [line.get("request_id") for line in told]


def test_a_failing_start_is_json_too(place: Place) -> None:
    """When a plugin's lifespan fails, the reason is in the log, and the exit code says so, with one worker or two."""
    place.configure(WITH_KEY)
    source = """
        from contextlib import asynccontextmanager
        from gatewaykit import hookimpl

        @asynccontextmanager
        async def failing():
            raise RuntimeError("no fuel")
            yield

        @hookimpl
        def gateway_lifespan(gateway):
            return [failing()]
    """
    place.install("tank-plugin", "tank", source)
    for workers in ("1", "2"):
        with place.start("serve", "--port", "0", "--workers", workers) as gateway:
            assert gateway.end(None) == 1
        assert any("no fuel" in line.get("exception", "") for line in documents(gateway))
        assert gateway.err == ""


def test_a_broken_plugin_is_one_line_of_the_log(place: Place) -> None:
    """A plugin that does not load and that nobody asked for is reported once, in the log."""
    place.configure(WITH_KEY)
    place.install("shaky-plugin", "shaky", "import not_there")
    with place.start("serve", "--port", "0") as gateway:
        gateway.wait_for("serves at")
        assert gateway.end() == 0
    assert gateway.out.count("not_there") == 1
    assert "not_there" not in gateway.err


def test_a_terminal_gets_text(place: Place, gigachat: dict[str, str]) -> None:
    """On a terminal people read lines, with colours."""
    place.configure(WITH_KEY)
    with place.on_terminal("serve", "--port", "0", environ=gigachat) as gateway:
        address = re.sub(r"\x1b\[[0-9;]*m", "", gateway.wait_for(r"serves at \S*?(http\S+)", stream="out"))
        with client(address, headers=BEARER) as http:
            assert http.post("/v1/chat/completions", json=chat(1, stream=False)).status_code == 200
        gateway.wait_for("POST /v1/chat/completions", stream="out")
        assert gateway.end(signal.SIGINT) == 0
    assert "{" not in gateway.out
    assert "\x1b[" in gateway.out
    assert "has stopped" in gateway.out


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_left_out_on_request(place: Place, environ: dict[str, str]) -> None:
    """`NO_COLOR`, and terminals that have none, get plain text."""
    place.configure(WITH_KEY)
    with place.on_terminal("serve", "--port", "0", environ=environ) as gateway:
        gateway.wait_for("serves at http", stream="out")
        assert gateway.end() == 0
    assert "has stopped" in gateway.out
    assert "\x1b" not in gateway.out


# The end


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", STOPS)
def test_running_streams_are_finished(
    place: Place, gigachat: dict[str, str], workers: int, stop: signal.Signals
) -> None:
    """A stop signal in the middle of a stream: the client gets all of it, nobody else gets in, the exit code is 0."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", str(workers), environ=gigachat) as gateway:
        address = gateway.address
        with (
            client(address, headers=BEARER) as http,
            http.stream("POST", "/v1/chat/completions", json=chat(30, stream=True)) as answer,
        ):
            lines = answer.iter_lines()
            assert next(lines).startswith("data: {")
            gateway.send(stop)
            until(lambda: refuses(address))
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert "word30" in rest[-4] + rest[-3] + rest[-2]
        assert gateway.end(None) == 0
    assert gateway.err.count("\n") == 2
    assert "Traceback" not in gateway.out


def refuses(address: str) -> bool:
    url = httpx.URL(address)
    try:
        socket.create_connection((url.host, url.port or 0), timeout=PATIENCE).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_patience_has_an_end(place: Place, gigachat: dict[str, str], workers: str) -> None:
    """After `server.graceful_shutdown` what still runs is cut: its clients are told, the log does not say that they had
    left, and the exit code is 0.
    """
    mute = socket.create_server(("127.0.0.1", 0))
    upstream = f'[openai.upstreams.mute]\nbase_url = "http://127.0.0.1:{mute.getsockname()[1]}"\nmodels = ["m"]\n'
    place.configure(WITH_KEY + "[server]\ngraceful_shutdown = 0.2\n" + upstream)
    with mute, place.start("serve", "--port", "0", "--workers", workers, environ=gigachat) as gateway:
        with (
            client(gateway.address, headers=BEARER) as http,
            ThreadPoolExecutor(1) as beside,
            http.stream("POST", "/v1/chat/completions", json=chat(9000, stream=True)) as answer,
        ):
            lines = answer.iter_lines()
            assert next(lines).startswith("data: {")
            whole = beside.submit(http.post, "/v1/chat/completions", json={**chat(1, stream=False), "model": "mute/m"})
            asked, _ = mute.accept()
            gateway.send(signal.SIGTERM)
            last = [line for line in lines if line][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"
            assert (whole.result().status_code, whole.result().headers["retry-after"]) == (503, "1")
            asked.close()
        assert gateway.end(None) == 0
    assert documents(gateway)[-1]["message"] == "has stopped"
    assert all("exception" not in line for line in documents(gateway))
    assert {line["error"] for line in documents(gateway) if line["event"] == "request"} == {"unavailable"}


HANGING = """
    import asyncio, os, sys
    from contextlib import asynccontextmanager
    from gatewaykit import hookimpl

    async def hang(when):
        if os.environ["HANGS"] == when:
            print("hangs", file=sys.stderr, flush=True)
            await asyncio.Event().wait()

    @asynccontextmanager
    async def live():
        await hang("start")
        yield
        await hang("stop")

    @hookimpl
    def gateway_lifespan(gateway):
        return [live()]
"""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_start_that_hangs_can_be_stopped(place: Place, workers: str, stop: signal.Signals) -> None:
    """Whatever a plugin waits for when it starts, one signal ends the program as ever."""
    place.configure(WITH_KEY)
    place.install("hanging", "hanging", HANGING)
    with place.start("serve", "--port", "0", "--workers", workers, environ={"HANGS": "start"}) as gateway:
        gateway.wait_for("hangs", times=int(workers))
        gateway.send(signal.SIGHUP)  # a reload that comes too early is no death
        assert gateway.end(stop) == 0
    assert "Traceback" not in gateway.out + gateway.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_that_hangs_ends_at_a_second_word(place: Place, workers: str) -> None:
    """Whatever a plugin waits for when it stops, a second Ctrl-C ends the program."""
    place.configure(WITH_KEY)
    place.install("hanging", "hanging", HANGING)
    with place.start("serve", "--port", "0", "--workers", workers, environ={"HANGS": "stop"}) as gateway:
        assert gateway.address
        gateway.send(signal.SIGINT)
        gateway.wait_for("hangs", times=int(workers))
        assert gateway.end(signal.SIGINT) == 0
    assert "Traceback" not in gateway.out + gateway.err


# Workers


def lives(process: int) -> bool:
    """Whether it runs; one that has ended may wait for its new parent to take note."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see child processes")
def test_a_worker_that_dies_is_replaced(place: Place) -> None:
    """When one of two workers is killed, another takes its place and is told of in the log; the gateway serves on."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway:
        address = gateway.address
        before = children_of(gateway.process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        gateway.wait_for(f"worker {before[0]} ended", stream="out")
        until(lambda: len(set(children_of(gateway.process.pid)) - {before[0]}) == 2)
        with client(address, headers=BEARER) as http:
            assert http.get("/v1/models").status_code == 200
        assert gateway.end() == 0
    assert "signal 9" in "".join(line.get("message", "") for line in documents(gateway))


FRAGILE = """
    from contextlib import asynccontextmanager
    from pathlib import Path
    from gatewaykit import hookimpl

    @asynccontextmanager
    async def live():
        if Path("away").exists():
            raise RuntimeError("what it needs is away")
        yield

    @hookimpl
    def gateway_lifespan(gateway):
        return [live()]
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see child processes")
def test_a_worker_that_cannot_start_ends_no_other(place: Place) -> None:
    """When what a worker needs is away, the one that takes a dead one's place is tried until it is there again; those
    that serve go on.
    """
    place.configure(WITH_KEY)
    place.install("fragile", "fragile", FRAGILE)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway:
        address = gateway.address
        before = children_of(gateway.process.pid)
        (away := place.folder / "away").touch()
        os.kill(before[0], signal.SIGKILL)
        gateway.wait_for("could not start .*; another will try", stream="out")
        assert before[1] in children_of(gateway.process.pid)
        with client(address, headers=BEARER) as http:
            assert http.get("/v1/models").status_code == 200
        away.unlink()
        until(lambda: len({*children_of(gateway.process.pid)} - {*before}) == 1)
        os.kill(before[1], signal.SIGKILL)
        gateway.wait_for(f"worker {before[1]} ended", stream="out")
        with client(address, headers=BEARER) as http:
            assert http.get("/v1/models").status_code == 200
        assert gateway.end() == 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see child processes")
def test_no_worker_outlives_its_parent(place: Place) -> None:
    """When the parent is killed, its workers end too: nobody would stop them."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway:
        address = gateway.address
        workers = children_of(gateway.process.pid)
        gateway.send(signal.SIGKILL)
        until(lambda: refuses(address))
        until(lambda: not any(lives(worker) for worker in workers))
        assert gateway.end(None) == -signal.SIGKILL


# Behind a proxy


@pytest.mark.parametrize(
    ("trusted", "host", "seen"),
    [
        ('["127.0.0.1"]', "127.0.0.1", "203.0.113.9"),
        ('["127.0.0.0/8"]', "::", "203.0.113.9"),
        ('["*"]', "127.0.0.1", "203.0.113.9"),
        ("[]", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_speak_for_clients(place: Place, trusted: str, host: str, seen: str) -> None:
    """`X-Forwarded-For` counts when it comes from an address of `server.trusted_proxies`, and else not; IPv4 addresses
    count also where both kinds are served on one socket.
    """
    place.configure(WITH_KEY + f'[server]\nhost = "{host}"\ntrusted_proxies = {trusted}\n')
    with place.start("serve", "--port", "0") as gateway:
        address = f"http://127.0.0.1:{httpx.URL(gateway.address).port}"
        with client(address, headers=BEARER | {"X-Forwarded-For": "203.0.113.9"}) as http:
            assert http.get("/v1/models").status_code == 200
        assert gateway.end() == 0
    (line,) = [line for line in documents(gateway) if line["event"] == "request"]
    assert line["client"].startswith(seen)


def test_a_root_path_is_not_part_of_routes(place: Place) -> None:
    """Behind a proxy that strips `server.root_path`, paths are found as ever."""
    place.configure(WITH_KEY + '[server]\nroot_path = "/llm"\n')
    with place.start("serve", "--port", "0") as gateway, client(gateway.address, headers=BEARER) as http:
        assert http.get("/v1/models").status_code == 200
        assert http.get("/livez").status_code == 200
        assert gateway.end() == 0
