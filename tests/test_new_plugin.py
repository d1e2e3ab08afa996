"""``gatewaykit new-plugin`` writes a package that works as written, and refuses what would not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatewaykit.cli import main

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["acme-cloud", "x", "abcdefghijklmnopqrstuvwxyz0123"]


def new_plugin(name: str, into: Path) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(main, ["new-plugin", name, "--into", str(into)])
    return result.exit_code, result.output


def run(*command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program in the new package's folder."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new package, as written."""
    into = tmp_path_factory.mktemp("new")
    code, output = new_plugin("acme-cloud", into)
    assert code == 0, output
    return into / "gatewaykit-acme-cloud"


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the package was installed, from its own build."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    done = run("pip", "install", *options, "--target", str(target), str(package), cwd=package)
    assert done.returncode == 0, done.stderr
    return target


def test_tests_of_a_new_package_pass(package: Path, installed: Path) -> None:
    """Installed and untouched, it passes every test of the contract, none skipped."""
    done = run("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", cwd=package, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


def test_gateway_sees_a_new_package(package: Path, installed: Path) -> None:
    """Its entry point is found, and both hooks are there."""
    code = "from gatewaykit.cli import main; main(['plugins', '--json'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    info = next(info for info in json.loads(done.stdout) if info["name"] == "acme-cloud")
    assert (info["distribution"], info["status"]) == ("gatewaykit-acme-cloud", "active")
    assert info["hooks"] == ["gateway_providers", "gateway_settings"]


@pytest.mark.parametrize("name", NAMES)
def test_new_package_is_clean(name: str, tmp_path: Path) -> None:
    """Linter, formatter and strict type checker have nothing to say, whatever the length of the name."""
    assert new_plugin(name, tmp_path)[0] == 0
    folder = tmp_path / f"gatewaykit-{name}"
    ruff = [sys.executable, "-m", "ruff"]
    for command in ([*ruff, "check", "--no-cache"], [*ruff, "format", "--check", "--no-cache"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_new_package_is_typed(package: Path) -> None:
    """mypy --strict, as its own configuration demands, finds no error."""
    done = run("mypy", "src", "tests", cwd=package, MYPYPATH="src")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Acme", "lower-case letters"),
        ("acme_cloud", "lower-case letters"),
        ("-acme", "No such option"),
        ("acme-", "lower-case letters"),
        ("a--b", "lower-case letters"),
        ("1up", "lower-case letters"),
        ("../acme", "lower-case letters"),
        ("", "lower-case letters"),
        ("акме", "lower-case letters"),
        ("acme\n", "lower-case letters"),
        ("a" * 31, "30 at most"),
        ("class", "a word of Python"),
        ("match", "a word of Python"),
        ("gatewaykit-acme", "leave out 'gatewaykit-'"),
        ("static-keys", "is taken"),
        ("server", "is taken"),
        ("router", "is taken"),
        ("gigachat", "is taken"),
    ],
)
def test_bad_name_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    """A name that could not work is refused with the reason, and nothing is written."""
    code, output = new_plugin(name, tmp_path)
    assert code == 2
    assert reason in " ".join(output.split())
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    """What is there already is neither changed nor overwritten, a dangling link included."""
    (tmp_path / "gatewaykit-acme").mkdir()
    (tmp_path / "gatewaykit-other").symlink_to(tmp_path / "nowhere")
    for name in ("acme", "other"):
        code, output = new_plugin(name, tmp_path)
        assert code == 1
        assert f"gatewaykit-{name} exists already" in output
    assert not list((tmp_path / "gatewaykit-acme").iterdir())
    assert not (tmp_path / "nowhere").exists()


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the way of the folder is named, without a traceback."""
    (tmp_path / "file").touch()
    code, output = new_plugin("acme", tmp_path / "file" / "below")
    assert code == 1
    assert "Not a directory" in output


def test_templates_are_in_the_wheel(tmp_path: Path) -> None:
    """What the command writes from is part of the distribution."""
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    listed = run("zipfile", "-l", str(wheel), cwd=tmp_path).stdout
    templates = {path.name for path in (ROOT / "src/gatewaykit/cli/templates").iterdir()}
    assert {name for name in templates if f"gatewaykit/cli/templates/{name}" in listed} == templates
