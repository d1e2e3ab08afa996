"""The examples log in and call the gateway, as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewaykit.testing import machine

from .oauth_served import Served, served
from .test_node_clients import HOW

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/oauth_login"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One gateway for the whole module."""
    with served(f"sqlite:///{tmp_path_factory.mktemp('examples')}/gatewaykit.db") as found:
        yield found


def command(language: str) -> list[str]:
    """How the example is run."""
    if language == "python":
        return [sys.executable, str(EXAMPLES / "python/login.py")]
    return [machine.program("node", HOW), str(EXAMPLES / "javascript/login.mjs")]


@pytest.mark.parametrize("language", ["python", "javascript"])
@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_an_example_logs_in(there: Served, language: str, decision: str) -> None:
    """It prints an address; when somebody has agreed there it lists the models, and when not it says so."""
    made = there.client(language, redirect_uris=["http://127.0.0.1/callback"])
    environ = {"PATH": os.environ["PATH"], "BROWSER": "true", "NO_PROXY": "*"}
    process = subprocess.Popen(
        [*command(language), there.address, made["id"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    patience = threading.Timer(60, process.kill)
    patience.start()
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if line.startswith("http")).strip()
        assert "close this page" in there.agree(url, decision=decision).text
        said, errors = process.communicate()
    finally:
        patience.cancel()
        process.kill()
        process.wait()
    if decision == "allow":
        assert process.returncode == 0, errors
        assert "Logged in for 3600 s." in said
    else:
        assert process.returncode == 1
        assert "access_denied" in errors
