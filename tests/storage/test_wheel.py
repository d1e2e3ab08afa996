"""The built wheel carries its migrations: installed elsewhere, it can make a database."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, gatewaykit
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage

assert gatewaykit.__file__.startswith(sys.argv[1]), gatewaykit.__file__
storage = Storage(DatabaseSettings(url=sys.argv[2]))
print(storage.migrate())
assert all(state.ok for state in storage.check())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the project's own build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_every_migration_and_nothing_else_of_them(wheel: Path) -> None:
    """Each file of `migrations/` is there, without leftovers of the interpreter."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gatewaykit/migrations/")}
    ours = [path for path in (ROOT / "migrations").rglob("*") if path.suffix in {".py", ".mako"}]
    assert names == {f"gatewaykit/migrations/{path.relative_to(ROOT / 'migrations').as_posix()}" for path in ours}


def test_the_wheel_installed_elsewhere_can_migrate(wheel: Path, tmp_path: Path) -> None:
    """Without the checkout the migrations are found in the package."""
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-cache-dir"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(target), f"sqlite:///{tmp_path}/x.db"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "after='core_0005'" in done.stdout
