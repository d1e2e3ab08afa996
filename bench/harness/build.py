"""Compiles the mock upstream and the load generator."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failures import BenchError

HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Programs:
    """Paths of the two compiled programs."""

    upstream: Path
    load: Path


def compile_programs() -> Programs:
    """Compiles what is older than its source into `bench/build`; BenchError when there is no compiler or it fails."""
    target = HERE / "build"
    target.mkdir(exist_ok=True)
    return Programs(*(_compile(HERE / f"{name}.c", target / name) for name in ("upstream", "load")))


def _compile(source: Path, program: Path) -> Path:
    newest = max(part.stat().st_mtime for part in (source, *HERE.glob("*.h")))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise BenchError("no C compiler found: install gcc or clang, or name one in CC")
    built = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise BenchError(f"{source.name} does not compile:\n{built.stderr}")
    return program
