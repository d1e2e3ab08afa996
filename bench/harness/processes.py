"""Processes under measurement: their cores, CPU time, memory and end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_GRACE_S = 10.0
PR_SET_PDEATHSIG = 1
CORES = sorted(os.sched_getaffinity(0))  # read once: the harness later moves itself to the load's cores

_libc = ctypes.CDLL(None, use_errno=True)
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
}


@dataclass(frozen=True)
class Placement:
    """Which cores the subject runs on, and which the upstream and the generator share.

    Where they are the same, the load gives way: it waits for its turn instead of interrupting the subject at each
    event, and does more at once when it has it, so that more of the machine is the subject's.
    """

    subject: frozenset[int]
    load: frozenset[int]

    @property
    def gives_way(self) -> bool:
        """Whether load and subject share cores."""
        return bool(self.subject & self.load)


def place(workers: int = 1, *, most: int = 1) -> Placement:
    """Cores for a subject of `workers` workers in a scenario of at most `most`.

    Subject and load are kept apart when there is a core for each worker and one more; otherwise both may use all. The
    load has the same cores in the whole scenario, as far as there are enough.
    """
    if len(CORES) <= workers:
        return Placement(frozenset(CORES), frozenset(CORES))
    return Placement(frozenset(CORES[-workers:]), frozenset(CORES[: -min(most, len(CORES) - 1)]))


def put(pid: int, cores: frozenset[int], *, gives_way: bool) -> None:
    """Lets a process run on `cores`. One that gives way does not interrupt others when it wakes up (sched(7))."""
    os.sched_setaffinity(pid, cores)
    os.sched_setscheduler(pid, os.SCHED_BATCH if gives_way else os.SCHED_OTHER, os.sched_param(0))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Group:
    """A process and its descendants, in a session of their own, ended by `stop` and at the latest with the run."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cores: frozenset[int],
        gives_way: bool = False,
        log: Path,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> None:
        """Starts the command; its output goes to `log`, its standard output to `stdout` when given.

        Python keeps what it compiles, as installed programs have it.
        """

        def prepare() -> None:
            put(0, cores, gives_way=gives_way)
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self.log = log
        with log.open("wb") as output:
            self.leader = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env={**_ENVIRONMENT, **(env or {})},
                start_new_session=True,
                preexec_fn=prepare,
            )

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def alive(self) -> bool:
        """Whether the first process still runs."""
        return self.leader.poll() is None

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system, of every process of the group, ended children included."""
        return sum(sum(map(int, fields[11:15])) for _, fields in self._members()) / TICKS_PER_S

    def rss_bytes(self) -> int:
        """Resident memory of all processes together; pages that they share count once for each."""
        return sum(int(fields[21]) for _, fields in self._members()) * PAGE_BYTES

    def move(self, cores: frozenset[int], *, gives_way: bool = False) -> None:
        """Moves every process of the group to other cores."""
        for pid, _ in self._members():
            with suppress(ProcessLookupError):
                put(pid, cores, gives_way=gives_way)

    def stop(self) -> None:
        """Ends the whole group: SIGTERM, and SIGKILL for what is left after the grace period."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self.leader.wait()

    def last_words(self) -> str:
        """The last line of the log that says something, for a message."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")

    def _running(self) -> bool:
        self.leader.poll()
        return any(fields[0] != "Z" for _, fields in self._members())

    def _signal(self, number: signal.Signals) -> None:
        for pid, _ in self._members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _members(self) -> Iterator[tuple[int, list[str]]]:
        """Process ids of the session with the fields of /proc/PID/stat after the name (proc(5)): 0 is the state,
        3 the session, 11 to 14 the CPU times, 21 the resident pages."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.leader.pid:
                    yield int(entry.name), fields
