"""``gatewaykit serve --workers 2`` as a user runs it: one key for all workers, and a stop that finishes what runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest

from gatewaykit.testing.processes import children_of, connections_of
from gatewaykit_gigachat.sandbox import B2B, RunningSandbox, running_sandbox

from .talking import blocking, text_of, user
from .world import GIGACHAT, PROMPT, eventually

PATIENCE = 30.0


class Served:
    """The program, and what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder
        eventually(lambda: "gk_local_" in self.errors, PATIENCE)
        self.key = re.findall(r"gk_local_[A-Za-z0-9_-]+", self.errors)[0]
        self.url = re.findall(r"http://127\.0\.0\.1:\d+", self.errors)[0]

    @property
    def output(self) -> str:
        """Standard output."""
        return (self._folder / "output").read_text()

    @property
    def errors(self) -> str:
        """Standard error, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", (self._folder / "errors").read_text())

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return children_of(self.process.pid)

    def connections(self, pid: int) -> int:
        """How many connections of clients one worker has."""
        return connections_of(pid, int(self.url.rpartition(":")[2]))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """A GigaChat."""
    with running_sandbox() as running:
        yield running


@pytest.fixture
def served(sandbox: RunningSandbox, tmp_path: Path) -> Iterator[Served]:
    """Two workers, configured by the names that users of GigaChat's own library have in their environment."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIGACHAT_BASE_URL": sandbox.base_url,
        "GIGACHAT_AUTH_URL": sandbox.auth_url,
        "GIGACHAT_CREDENTIALS": sandbox.key(B2B),
        "GIGACHAT_SCOPE": B2B,
    }
    others = [entry.name for entry in entry_points(group="gatewaykit") if entry.name != "gigachat"]
    (tmp_path / "gatewaykit.toml").write_text(f"[plugins]\nblocked = {others}\n[log]\nlevel = 'debug'\n")
    program = str(Path(sysconfig.get_path("scripts")) / "gatewaykit")
    with (tmp_path / "output").open("wb") as output, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [program, "serve", "--workers", "2", "--port", "0"],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            yield Served(process, tmp_path)
        finally:
            process.kill()
            process.wait()


def test_two_workers(served: Served, sandbox: RunningSandbox) -> None:
    """Both workers take the one key, a running stream ends well after SIGTERM, and nothing secret was written."""
    with ExitStack() as stack:

        def all_serve() -> bool:
            client = stack.enter_context(httpx.Client(base_url=served.url, trust_env=False))
            answer = client.get("/v1/models", headers={"authorization": f"Bearer {served.key}"})
            assert answer.status_code == 200
            return len(served.workers) == 2 and all(served.connections(pid) for pid in served.workers)

        eventually(all_serve, PATIENCE)
        assert httpx.get(f"{served.url}/v1/models", trust_env=False).status_code == 401

    with blocking(f"{served.url}/v1", served.key) as client:
        asked = user(f"say 60 words {PROMPT} [[fault: slow=0.05]]")
        with client.chat.completions.create(model=GIGACHAT, messages=asked, stream=True) as stream:
            chunks = [next(stream), next(stream)]
            served.process.send_signal(signal.SIGTERM)
            chunks += stream
    assert text_of(chunks).split() == [f"word{number}" for number in range(1, 61)]
    assert served.process.wait(10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/livez", trust_env=False)
    assert sandbox.stats.live_streams == 0
    assert "word1" not in served.output + served.errors
    for secret in (served.key, sandbox.key(B2B), PROMPT):
        assert secret not in served.output
    for secret in (sandbox.key(B2B), PROMPT):
        assert secret not in served.errors
