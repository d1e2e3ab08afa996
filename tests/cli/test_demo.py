"""``gatewaykit demo``: what it prints works when it is pasted."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess

import httpx
import pytest

from .conftest import PATIENCE, Place, Running

STOPS = [signal.SIGTERM, signal.SIGINT]


def printed(demo: Running) -> tuple[str, str, str]:
    """Address, key and curl line, once they are there."""
    line = demo.wait_for(r"^(curl .*)$", stream="out")
    return demo.wait_for(r"address\s+(\S+)", stream="out"), demo.wait_for(r"key\s+(gk_\S+)", stream="out"), line


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("stop", STOPS)
def test_the_curl_line_answers(place: Place, stop: signal.Signals) -> None:
    """A shell runs the printed line and gets OpenAI's answer with status 200; the demo ends and leaves nothing."""
    with place.start("demo") as demo:
        _, _, line = printed(demo)
        done = subprocess.run(
            ["sh", "-c", f"{line} -w '\\n%{{http_code}}'"],
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            env=place.environ(),
        )
        body, _, status = done.stdout.rpartition("\n")
        assert status == "200"
        answer = json.loads(body)
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["role"] == "assistant"
        assert "Привет! Как дела?" in answer["choices"][0]["message"]["content"]
        assert answer["usage"]["total_tokens"] > 0
        assert demo.end(stop) == 0
    assert demo.err == ""
    assert list(place.temporary.iterdir()) == []
    assert list(place.folder.iterdir()) == []


def test_the_configuration_of_the_machine_is_left_alone(place: Place) -> None:
    """A file and variables that would break a real gateway do not touch the demo."""
    place.configure("[nonsense]\n")
    environ = {"GATEWAYKIT_SERVER__HOST": "0.0.0.0", "GIGACHAT_CREDENTIALS": "real", "GIGACHAT_BASE_URL": "http://x"}
    with place.start("demo", environ=environ) as demo:
        address, key, _ = printed(demo)
        assert address.startswith("http://127.0.0.1:")
        answer = httpx.get(f"{address}/v1/models", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
        assert "GigaChat-2" in [model["id"] for model in answer.json()["data"]]
        assert httpx.get(f"{address}/v1/models", trust_env=False).status_code == 401
        assert demo.end() == 0


def test_a_taken_port_is_one_line(place: Place) -> None:
    """`--port` with a port in use ends with a line that says so."""
    with place.start("demo") as demo:
        port = printed(demo)[0].rpartition(":")[2]
        done = place.run("demo", "--port", port)
        assert demo.end() == 0
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"✗ .*cannot listen on 127\.0\.0\.1:{port}: Address already in use\n", done.stderr)


def test_on_a_terminal_the_line_can_be_copied(place: Place) -> None:
    """With colours elsewhere, the curl line itself is plain text in one piece."""
    with place.on_terminal("demo", columns=60) as demo:
        demo.wait_for(r"^curl -s http\S+ -H '[^']+' -H '[^']+' -d '\{[^\x1b']+\}'\r?$", stream="out")
        assert demo.end(signal.SIGINT) == 0
    assert "\x1b[1mgatewaykit demo" in demo.out
    assert "Aborted" not in demo.out
