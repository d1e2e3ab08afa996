"""The pytest plugin does not get in anybody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("httptools", "httpx", "pydantic", "starlette", "uvicorn", "loguru", "gatewaykit.app")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def python(code: str, cwd: Path) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_the_plugin_loads_nothing_heavy(tmp_path: Path) -> None:
    """pytest loads the plugin in every project of an environment; no library of the gateway comes with it."""
    code = f"import sys, gatewaykit.testing.plugin; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert python(code, tmp_path).strip() == "[]"


def test_kit_works_without_pytest(tmp_path: Path) -> None:
    """All but the contract and the fixtures can be imported where pytest is not installed."""
    code = """
import sys
sys.modules["pytest"] = None
import gatewaykit.testing as kit
print([name for name in kit.__all__ if name != "ProviderContract" and getattr(kit, name) is None])
"""
    assert python(code, tmp_path).strip() == "[]"


def test_every_public_name_is_there() -> None:
    """Names that come with their first use do come, and others are said to be missing."""
    import gatewaykit.testing as kit

    assert all(getattr(kit, name) is not None for name in kit.__all__)
    assert not hasattr(kit, "no_such_name")


def test_failed_assertions_of_the_contract_are_explained(tmp_path: Path) -> None:
    """An author reads the two sides of a comparison inside the contract, not a bare AssertionError."""
    (tmp_path / "test_mine.py").write_text(
        """
from gatewaykit.testing import FakeProvider, ProviderContract
from gatewaykit.types import Model

class TestMine(ProviderContract):
    without_upstream = without_tools = "none"

    def provider(self, base_url):
        return FakeProvider(models=["same", "same"])
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "models", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "assert 1 == 2" in done.stdout
