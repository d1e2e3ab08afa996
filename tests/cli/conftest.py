"""The program as a user has it: a process of its own, in an empty folder, with an environment that is spelled out.

What only runs to its end is forked from a process that has loaded the program; what serves is started anew.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sysconfig
import termios
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from gatewaykit.testing import program

GATEWAYKIT = str(Path(sysconfig.get_path("scripts")) / "gatewaykit")
PATIENCE = 60.0


class Place:
    """A folder to run ``gatewaykit`` in, with its ``gatewaykit.toml`` and with packages that look installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._packages = folder / "packages"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "error",
        }

    def configure(self, text: str, name: str = "gatewaykit.toml") -> Path:
        """Write the configuration file."""
        file = self.folder / name
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def install(self, distribution: str, plugin: str, source: str) -> None:
        """A package with one plugin; its module is called after the package."""
        module = distribution.replace("-", "_")
        folder = self._packages / distribution
        metadata = folder / f"{module}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[gatewaykit]\n{plugin} = {module}\n")
        (folder / f"{module}.py").write_text(textwrap.dedent(source))

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the program sees of the environment."""
        packages = sorted(str(path) for path in self._packages.glob("*"))
        inherited = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        path = {"PYTHONPATH": os.pathsep.join([*packages, *inherited])} if packages or inherited else {}
        return {**self._environ, **path, **(more or {})}

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return program.run(*arguments, folder=self.folder, environ=self.environ(environ), timeout=PATIENCE)

    @contextmanager
    def start(
        self, *arguments: str, environ: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> Iterator[Running]:
        """Run beside the test; killed at the end if it still runs. ``stdout`` is where its output goes instead."""
        process = subprocess.Popen(
            [GATEWAYKIT, *arguments],
            cwd=self.folder,
            env=self.environ(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        streams = {"out": process.stdout, "err": process.stderr}
        with Running(process, {name: stream for name, stream in streams.items() if stream}).kept() as running:
            yield running

    @contextmanager
    def on_terminal(
        self, *arguments: str, environ: Mapping[str, str] | None = None, columns: int = 100
    ) -> Iterator[Running]:
        """Run with a terminal for input and output; what it shows is ``out``."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = program.start(
            arguments,
            folder=self.folder,
            environ=self.environ({"TERM": "xterm-256color", **(environ or {})}),
            streams=(theirs, theirs, theirs),
        )
        os.close(theirs)
        with Running(process, {"out": os.fdopen(ours, encoding="utf-8", newline="")}).kept() as running:
            yield running


class Running:
    """A process whose output is collected while it runs."""

    def __init__(self, process: subprocess.Popen[str] | program.Forked, streams: Mapping[str, IO[str]]) -> None:
        self.process = process
        self._said: dict[str, str] = dict.fromkeys(streams, "")
        self._news = threading.Condition()
        self._open = len(streams)
        self._streams = streams
        self._threads = [threading.Thread(target=self._read, args=item, daemon=True) for item in streams.items()]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with suppress(OSError):  # a terminal ends so
            while text := stream.readline():
                with self._news:
                    self._said[name] += text
                    self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    @property
    def out(self) -> str:
        return self._said.get("out", "")

    @property
    def err(self) -> str:
        return self._said["err"]

    def wait_for(self, pattern: str, *, stream: str = "err", times: int = 1) -> str:
        """The first group of the match, once ``pattern`` was seen ``times`` times."""

        def seen() -> Sequence[re.Match[str]]:
            return list(re.finditer(pattern, self._said[stream], re.MULTILINE))

        with self._news:
            self._news.wait_for(lambda: len(seen()) >= times or self._open == 0, PATIENCE)
        found = seen()
        assert len(found) >= times, (pattern, self._said)
        return found[-1][1] if found[-1].re.groups else found[-1][0]

    @property
    def address(self) -> str:
        """Where it serves, once it does."""
        return self.wait_for(r"serves at (http\S+)")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and all output; the exit code."""
        if number is not None:
            self.send(number)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    @contextmanager
    def kept(self) -> Iterator[Running]:
        try:
            yield self
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(PATIENCE)
            for thread in self._threads:
                thread.join(PATIENCE)
            for stream in self._streams.values():
                stream.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
