"""The tools that judge what is in ``deploy/``: Debian's packages prometheus and prometheus-alertmanager."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from gatewaykit.testing import machine

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
    return machine.program("prometheus", f"{name} is not installed: apt-get install {PROGRAMS[name]}", name)


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
