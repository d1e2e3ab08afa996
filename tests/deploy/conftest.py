"""The tools that judge what is in ``deploy/``: Debian's packages prometheus and prometheus-alertmanager."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROGRAMS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
Run = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str) -> str:
    """The program's path. Without it the test is skipped, or fails where the environment requires it."""
    found = shutil.which(name)
    if found is None:
        message = f"{name} is not installed: apt-get install {PROGRAMS[name]}"
        if "prometheus" in os.environ.get("TESTS_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return found


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
