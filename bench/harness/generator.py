"""The two C programs as Python objects: the mock upstream with its counters, and one run of the load generator."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build import Programs
from .failures import SubjectError
from .processes import Group, Placement
from .subjects import Exchange

RUN_LIMIT_S = 180.0


@dataclass(frozen=True)
class Shape:
    """What one run of the generator does.

    `rate` is in requests per second (open loop) or None (closed loop); `requests` and `duration_s` bound the run;
    `stream` asks for event streams; `grace_s` is how long running requests may go on after the last one started.
    `keys` is a file with keys, one a line, with which the requests take turns, instead of one in a header.
    """

    connections: int
    requests: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    stream: bool = False
    grace_s: float = 10.0
    keys: Path | None = None

    def options(self) -> list[str]:
        """The generator's command-line options."""
        numbers = {"requests": self.requests, "duration": self.duration_s, "rate": self.rate}
        given = [f"--{name}={value}" for name, value in numbers.items() if value is not None]
        stream = ["--stream"] if self.stream else []
        keys = [f"--key-file={self.keys}"] if self.keys else []
        return [f"--connections={self.connections}", f"--grace={self.grace_s}", *given, *stream, *keys]


class Mock:
    """The running mock upstream."""

    def __init__(self, programs: Programs, placement: Placement, directory: Path) -> None:
        self.group = Group(
            [str(programs.upstream), "--port=0"],
            cores=placement.load,
            gives_way=placement.gives_way,
            log=directory / "upstream.log",
            stdout=subprocess.PIPE,
        )
        assert self.group.leader.stdout is not None
        with self.group.leader.stdout as pipe:
            self.port = int(pipe.readline())

    def counters(self) -> dict[str, int]:
        """Requests, streams and events that it has served so far."""
        return self._ask("GET", "/mock")

    def pace(self, *, chunks: int = 100, gap_ms: int = 0) -> None:
        """Sets the length of the next streams and the gap between their events."""
        self._ask("POST", f"/mock?chunks={chunks}&gap_ms={gap_ms}")

    def _ask(self, method: str, target: str) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target)
            counters: dict[str, int] = json.loads(connection.getresponse().read())
            return counters
        finally:
            connection.close()


def command(programs: Programs, port: int, exchange: Exchange, shape: Shape) -> list[str]:
    """The generator's command for one subject."""
    body = exchange.stream_body if shape.stream else exchange.body
    own = (header for header in exchange.headers if shape.keys is None or not header.startswith("Authorization:"))
    headers = [f"--header={header}" for header in own]
    return [
        str(programs.load),
        f"--port={port}",
        f"--path={exchange.path}",
        f"--body={body}",
        *headers,
        *shape.options(),
    ]


def run(argv: Sequence[str], placement: Placement, meanwhile: Callable[[Group], None] | None = None) -> dict[str, Any]:
    """Runs the generator to its end and returns its report; SubjectError when it could not connect.

    `meanwhile` is called with the running generator and may return before or after its end.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "load.log")
        started = Group(argv, cores=placement.load, gives_way=placement.gives_way, log=log, stdout=subprocess.PIPE)
        with started as group:
            if meanwhile is not None:
                meanwhile(group)
            try:
                output, _ = group.leader.communicate(timeout=RUN_LIMIT_S)
            except subprocess.TimeoutExpired:
                raise SubjectError(f"the load did not end within {RUN_LIMIT_S:.0f} s") from None
            if group.leader.returncode != 0:
                raise SubjectError(f"the load generator failed: {group.last_words()}")
    report: dict[str, Any] = json.loads(output)
    return report
