"""Writes the two lock files, which pip and uv both install from: exact versions with hashes, and no index addresses.

``requirements.lock`` runs the gateway with its plugins; ``requirements-dev.lock`` adds what developers and tests need.
``--check`` fails when a requirement of a ``pyproject.toml`` is not met by them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
GROUPS = {"requirements.lock": ["--no-dev", "--group=build"], "requirements-dev.lock": ["--all-groups"]}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def write() -> None:
    """Resolve anew and export."""
    subprocess.run([str(UV), "lock", "--quiet", "--upgrade"], cwd=ROOT, check=True)
    for name, groups in GROUPS.items():
        options = ["--all-packages", "--no-emit-workspace", "--no-annotate", "--no-header", *groups]
        done = subprocess.run(
            [str(UV), "export", "--quiet", "--frozen", *options], cwd=ROOT, check=True, capture_output=True, text=True
        )
        (ROOT / name).write_text("# Written by `make lock`.\n" + done.stdout)


def unmet() -> Iterator[str]:
    """The requirements that a lock does not meet."""
    projects = [
        tomllib.loads(path.read_text()) for path in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"))
    ]
    own = {project["project"]["name"] for project in projects}
    for name in GROUPS:
        pins = {found[0].lower(): found[1] for found in _PIN.findall((ROOT / name).read_text())}
        for text in requirements(projects, groups={"build"} if name == "requirements.lock" else None):
            wanted = Requirement(text)
            pinned = pins.get(wanted.name.lower())
            if wanted.name not in own and (pinned is None or not wanted.specifier.contains(pinned, prereleases=True)):
                yield f"{name}: {text} (locked: {pinned})"


def requirements(projects: list[dict[str, Any]], groups: set[str] | None) -> Iterator[str]:
    """What the projects ask for, with the dependency groups named, or all of them."""
    for project in projects:
        yield from project["project"].get("dependencies", ())
        for group, members in project.get("dependency-groups", {}).items():
            if groups is None or group in groups:
                yield from members


def main() -> int:
    """Write or check both locks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write()
    problems = list(unmet())
    if problems:
        print("the locks do not fit; run `make lock`:", *problems, sep="\n  ", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
