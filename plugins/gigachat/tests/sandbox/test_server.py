"""Running a sandbox: in a program, from the shell, with certificates, and several at a time."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import threading

import httpx
import pytest
import trustme
from click.testing import CliRunner

from gatewaykit_gigachat.cli import main
from gatewaykit_gigachat.sandbox import B2B, SandboxSettings, TlsFiles, bound_socket, create_sandbox, running_sandbox


def test_sandboxes_share_nothing(running, api, open_api):
    """A token, a file, a fault and the counters of one sandbox are unknown to another."""
    with running_sandbox() as second:
        other = open_api(second)
        assert second.stats.requests["/chat/completions"] == 0
        own, foreign = other.http.headers["authorization"], api.http.headers["authorization"]
        assert other.http.get("/models", headers={"authorization": foreign}).status_code == 401
        second.faults.push("status=500", times=None)
        assert api.http.get("/models").status_code == 200
        assert other.http.get("/models", headers={"authorization": own}).status_code == 500


def test_stop_cuts_what_is_open(open_api):
    """Leaving the block ends a silent stream, the thread and the socket."""
    before = set(threading.enumerate())
    with running_sandbox() as running:
        api = open_api(running)
        body = {"model": "GigaChat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        request = api.http.build_request("POST", "/chat/completions", json=body, headers={"x-sandbox-fault": "stall=1"})
        answer = api.http.send(request, stream=True)
        assert answer.status_code == 200
    with pytest.raises(httpx.TransportError):
        answer.read()
    answer.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        api.http.get("/models")


async def test_without_a_socket():
    """The application runs in process too; only a cut of the connection needs a socket, and fails without."""
    app = create_sandbox(SandboxSettings(anonymous_scope=B2B))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox/v1") as client:
        assert (await client.get("/models")).status_code == 200
        with pytest.raises(ConnectionError):
            await client.get("/models", headers={"x-sandbox-fault": "drop=before"})


def test_client_certificates(tmp_path):
    """With a client authority, only a client with its certificate is served, and needs no token."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.org")
    paths = {name: tmp_path / name for name in ("ca.pem", "server.pem", "server.key", "client.pem")}
    authority.cert_pem.write_to_path(str(paths["ca.pem"]))
    server.cert_chain_pems[0].write_to_path(str(paths["server.pem"]))
    server.private_key_pem.write_to_path(str(paths["server.key"]))
    client.private_key_and_cert_chain_pem.write_to_path(str(paths["client.pem"]))
    tls = TlsFiles(paths["server.pem"], paths["server.key"], client_ca=paths["ca.pem"])
    trusting = ssl.create_default_context(cafile=str(paths["ca.pem"]))
    with running_sandbox(SandboxSettings(anonymous_scope=B2B), tls=tls) as running:
        assert running.url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=trusting) as stranger, pytest.raises(httpx.TransportError):
            stranger.get(f"{running.base_url}/models")
        trusting.load_cert_chain(str(paths["client.pem"]))
        with httpx.Client(verify=trusting) as known:
            assert known.get(f"{running.base_url}/models").status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                known.get(f"{running.base_url}/models", headers={"x-sandbox-fault": "drop=after:1"})


def test_runs_alone():
    """The sandbox needs nothing of the gateway."""
    code = "import sys, gatewaykit_gigachat.sandbox; print([m for m in sys.modules if m.split('.')[0] == 'gatewaykit'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_command():
    """The command prints address and key, serves, and ends quietly on an interrupt even with a stream open."""
    command = [sys.executable, "-m", "gatewaykit_gigachat.cli", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed = dict(process.stdout.readline().strip().split("=", 1) for _ in range(4))
            errors = use_command(process, printed)
        finally:
            process.kill()
    assert errors == ""
    assert process.returncode == 0


def use_command(process: subprocess.Popen[str], printed: dict[str, str]) -> str:
    """Drive the served sandbox by what it printed, interrupt it, and give what it wrote to its error output."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/v1", printed["GIGACHAT_BASE_URL"])
    basic = {
        "authorization": f"Basic {printed['GIGACHAT_CREDENTIALS']}",
        "rquid": "736ba29f-7e21-495b-a0a6-ab5003dffc84",
    }
    with httpx.Client(base_url=printed["GIGACHAT_BASE_URL"], timeout=20) as client:
        form = {"scope": printed["GIGACHAT_SCOPE"]}
        token = client.post(printed["GIGACHAT_AUTH_URL"], data=form, headers=basic).json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        body = {"model": "GigaChat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        for drop in ("drop=before", "drop=after:1"):
            with pytest.raises(httpx.TransportError):
                client.post("/chat/completions", json=body, headers={"x-sandbox-fault": drop})
        request = client.build_request("POST", "/chat/completions", json=body, headers={"x-sandbox-fault": "stall"})
        answer = client.send(request, stream=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        answer.close()
    return errors


def test_command_on_a_taken_port():
    """A port that is taken is told in one sentence, with exit code 1."""
    with bound_socket("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["sandbox", "--port", port])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: cannot listen on 127.0.0.1:{port}")
    assert CliRunner().invoke(main, ["sandbox", "--port", "70000"]).exit_code == 2
