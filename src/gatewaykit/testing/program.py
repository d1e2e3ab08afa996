"""The program ``gatewaykit`` for tests that run it often: a process has loaded it, and each run is forked from there.

Such a run is a process with an environment, a folder, standard streams and an exit code of its own, as if it had been
started anew, and takes a tenth of the time. For POSIX systems.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TextIO

PROGRAM = "from gatewaykit.testing.program import _keep; _keep(); from gatewaykit.cli import main; main()"
_STREAMS = 3
_REPLY = struct.Struct("=i")
_MOST = 1 << 20


def run(
    *arguments: str, folder: Path, environ: Mapping[str, str], timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``gatewaykit`` in ``folder`` to its end, without input. Raises :class:`subprocess.TimeoutExpired`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = nothing.fileno(), out.fileno(), err.fileno()
        code = start(arguments, folder=folder, environ=environ, streams=streams).wait(timeout)
        out.seek(0)
        err.seek(0)
        said = (stream.read().decode(errors="replace") for stream in (out, err))
        return subprocess.CompletedProcess(arguments, code, *said)


def start(
    arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str], streams: tuple[int, int, int]
) -> Forked:
    """Run it beside the test; ``streams`` are the descriptors of its input, output and error output."""
    ours, theirs = socket.socketpair()
    with theirs:
        told = {"arguments": arguments, "folder": str(folder), "environ": dict(environ)}
        _nursery().ask(json.dumps(told).encode(), (*streams, theirs.fileno()))
    return Forked(ours, arguments)


class Forked:
    """A run, which can be waited for and sent signals as a :class:`subprocess.Popen` can."""

    def __init__(self, reports: socket.socket, arguments: Sequence[str]) -> None:
        self._reports = reports
        self._arguments = arguments
        self.returncode: int | None = None
        self.pid = self._read()

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        try:
            return self.wait(0.001)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended; a signal's number is negative."""
        if self.returncode is None:
            self._reports.settimeout(timeout)
            try:
                self.returncode = self._read()
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0.0) from None
            self._reports.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with no chance to say a word."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        (number,) = _REPLY.unpack(self._reports.recv(_REPLY.size))
        return int(number)


class _Nursery:
    """The process that has loaded the program; it ends when this one does, for then nobody can ask it any more."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._turn = threading.Lock()
        environ = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno())],
                env=environ,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def ask(self, what: bytes, descriptors: Sequence[int]) -> None:
        with self._turn:
            socket.send_fds(self._asking, [what], descriptors)

    def close(self) -> None:
        self._asking.close()
        self._process.wait()


@cache
def _nursery() -> _Nursery:
    return _Nursery()


# In the other process


def _keep() -> None:
    """Answer until nobody asks any more. In the process of a run this returns, and the program begins."""
    for module in _modules():
        import_module(module)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        while True:
            told, descriptors, _, _ = socket.recv_fds(asked, _MOST, _STREAMS + 1)
            if not told:
                os._exit(0)
            if os.fork() == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, reports = descriptors
    _report(reports)
    _become(json.loads(told), streams)


def _modules() -> list[str]:
    """What the commands import sooner or later."""
    from gatewaykit.registry import BUILTIN, installed_plugins

    plugins = [entry.module for entry, _ in installed_plugins()]
    return ["gatewaykit.cli", "gatewaykit.app", "gatewaykit.serving", "gatewaykit.storage", *BUILTIN.values(), *plugins]


def _report(reports: int) -> None:
    """Fork once more: the parent says how its child is called and how it ended, the child goes on."""
    if (child := os.fork()) == 0:
        os.close(reports)
        return
    os.write(reports, _REPLY.pack(child))
    _, status = os.waitpid(child, 0)
    os.write(reports, _REPLY.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(told: Mapping[str, object], streams: Sequence[int]) -> None:
    """Take on what a new process is given."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(str(told["folder"]))
    os.environ.clear()
    os.environ.update(told["environ"])  # type: ignore[call-overload]
    sys.argv = ["gatewaykit", *told["arguments"]]  # type: ignore[misc]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = open(0, encoding=encoding, errors=errors or None, closefd=False)  # noqa: SIM115 - to the end
    sys.stdout = _opened(1, encoding, errors or "strict")
    sys.stderr = _opened(2, encoding, "backslashreplace")


def _opened(number: int, encoding: str, errors: str) -> TextIO:
    """A stream as Python opens it for a new process."""
    lines = number == 2 or os.isatty(number)
    return open(number, "w", buffering=1 if lines else -1, encoding=encoding, errors=errors, closefd=False)
