"""The example does what it says, run as its author would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/provider_in_40_lines"


def test_example_passes_its_own_tests() -> None:
    """The tests of the provider in 40 lines pass, and the contract among them is not skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed, 5 skipped" in done.stdout
