"""A Redis server for one scenario, and what it says of itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .failures import SubjectError
from .processes import Group

START_LIMIT_S = 10.0
SCRIPTS = ("cmdstat_evalsha:", "cmdstat_eval:", "cmdstat_fcall:")


class Redis:
    """A running server. It counts the commands inside of scripts as its own; what it was asked are the scripts."""

    def __init__(self, path: Path, group: Group) -> None:
        self.path = path
        self.group = group

    def scripts(self) -> int:
        """Scripts that it has run so far."""
        lines = self.ask("INFO", "commandstats").splitlines()
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines if line.startswith(SCRIPTS))

    def reads(self) -> int:
        """How often it has read from a connection so far: each question is one, or less where several come at once."""
        lines = self.ask("INFO", "stats").splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("total_reads_processed:"))

    def freeze(self, milliseconds: int) -> None:
        """From now on nobody is answered, for so long; then all that waits is."""
        self.ask("CLIENT", "PAUSE", f"{milliseconds}", "ALL")

    def ask(self, *words: str) -> str:
        """One command and its answer, a simple or a bulk string (RESP2); OSError when there is none."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(START_LIMIT_S)
            link.connect(str(self.path))
            link.sendall((" ".join(words) + "\r\n").encode())
            with link.makefile("rb") as answer:
                head = answer.readline().decode().strip()
                return answer.read(int(head[1:])).decode() if head.startswith("$") else head


@contextmanager
def redis_server(program: str, directory: Path, cores: frozenset[int]) -> Iterator[Redis]:
    """A server without a port, on these cores, until the end; SubjectError when it does not answer."""
    path = directory / "redis.sock"
    argv = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)]
    with Group(argv, cores=cores, log=directory / "redis.log") as group:
        redis = Redis(path, group)
        deadline = time.monotonic() + START_LIMIT_S
        while group.alive() and time.monotonic() < deadline:
            with suppress(OSError):
                redis.ask("PING")
                break
            time.sleep(0.02)
        else:
            raise SubjectError(f"Redis did not start: {group.last_words()}")
        yield redis
