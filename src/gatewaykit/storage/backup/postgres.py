"""Postgres: its own tools make the dump, read it, and put it back; passwords reach them by the environment alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlalchemy import text

from gatewaykit.errors import BackupError, StorageError
from gatewaykit.storage.backup import files
from gatewaykit.storage.backup.manifest import Contents, Kind, file_name
from gatewaykit.storage.engine import Database
from gatewaykit.storage.faults import FOREIGN, reason_of, unusable

_COPY = re.compile(rb'COPY (?:"?[\w$]+"?\.)?"?([\w$]+)"? \(')
_VERSIONS = "alembic_version_"
_GLANCE = 0.2
"""Seconds between two looks at whether to stop."""

_LOCK_PATIENCE = "--lock-wait-timeout=60000"
"""Milliseconds that a dump waits for a table that somebody is changing."""

_GATEWAYS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = 'gatewaykit' AND pid <> pg_backend_pid()"
)
_TABLES = text("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'alembic\\_version\\_%'")
_PATIENT = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
"""A server that is gone is noticed (libpq, 32.1.2 Parameter Key Words)."""

_ENVIRONMENT = {"user": "PGUSER", "password": "PGPASSWORD"}


class Postgres:
    """The database of a server. ``tools`` is the folder of ``pg_dump`` and ``pg_restore``; None looks on the path."""

    kind: Kind = "postgresql"

    def __init__(self, database: Database, tools: Path | None) -> None:
        self._database = database
        self._tools = tools

    def copy(self, folder: Path, *, compress: bool, stop: threading.Event) -> Contents:
        """Dump it into ``folder``, and say what is in the dump. Raises :class:`~gatewaykit.errors.BackupError`.

        ``pg_dump`` reads all of it in one transaction, which holds up no writer.
        """
        dump = folder / file_name("postgresql", compressed=compress)
        files.make(dump).close()
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={dump}"]
        packing = [_LOCK_PATIENCE, *([] if compress else ["--compress=0"])]
        self._run("pg_dump", "--no-password", *options, *packing, self._address(), stop=stop)
        return self.inspect(dump)

    def unpack(self, file: Path, target: Path, *, compressed: bool) -> Contents:
        """Copy the dump to ``target``, and say what is in it. Raises :class:`~gatewaykit.errors.BackupError`."""
        files.unpack(file, target, compressed=False)
        return self.inspect(target)

    def inspect(self, copy: Path) -> Contents:
        """Read all of the dump. Raises :class:`~gatewaykit.errors.BackupError` if that cannot be done."""
        revisions: dict[str, str] = {}
        rows: dict[str, int] = {}
        with self._started("pg_restore", "--data-only", "--file=-", str(copy)) as (process, said):
            for table, line in _rows(process.stdout or ()):
                rows[table] = rows.get(table, 0) + (line is not None)
                if line is not None and table.startswith(_VERSIONS):
                    revisions[table.removeprefix(_VERSIONS)] = line.decode("utf-8", "replace").strip()
            if process.wait() != 0:
                raise BackupError(f"{copy} is damaged, or newer than pg_restore: {_reason(said)}")
        return Contents(revisions, dict(sorted(rows.items())))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of gatewaykit's that could be lost. Raises
        :class:`~gatewaykit.errors.StorageError`.
        """
        return self._count(_TABLES) == 0

    def replace(self, copy: Path) -> None:
        """Put the dump's tables in the place of those that are there: all or none.

        Raises :class:`~gatewaykit.errors.StorageError`, also while a gateway is connected.
        """
        if self._count(_GATEWAYS):
            raise StorageError(f"{self._database.address} is in use by a running gateway; stop it first")
        options = ["--no-password", "--clean", "--if-exists", "--single-transaction", "--no-owner", "--no-privileges"]
        self._run("pg_restore", *options, f"--dbname={self._address()}", str(copy), stop=threading.Event())

    def _count(self, query: object) -> int:
        engine = self._database.migration_engine()
        try:
            with engine.connect() as connection:
                return int(connection.scalar(query) or 0)  # type: ignore[call-overload]
        except FOREIGN as error:
            raise unusable(self._database.address, error) from None
        finally:
            engine.dispose()

    def _address(self) -> str:
        """libpq's words for the URL, without user and password: other users of this machine see a command line."""
        from psycopg.conninfo import make_conninfo

        url = self._database.url
        known = {**_PATIENT, "host": url.host, "port": url.port, "dbname": url.database, **url.query}
        hidden = {*_ENVIRONMENT, "passfile"}
        plain = {name: value for name, value in known.items() if name not in hidden and isinstance(value, str | int)}
        return make_conninfo("", **plain)

    def _environment(self) -> dict[str, str]:
        url = self._database.url
        given = {"user": url.username, "password": url.password, **url.query}
        secrets = {variable: str(given[name]) for name, variable in _ENVIRONMENT.items() if given.get(name)}
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        return {**inherited, "LC_ALL": "C", "PGAPPNAME": "gatewaykit-backup", **secrets}

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=None if self._tools is None else str(self._tools))
        if found is None:
            where = "on the path" if self._tools is None else f"in {self._tools}"
            raise BackupError(
                f"{name} is not {where}: install the client programs of Postgres (Debian: postgresql-client), of the "
                "server's version or newer, or set backup.postgres_tools"
            )
        return found

    def _run(self, name: str, *arguments: str, stop: threading.Event) -> None:
        with self._started(name, *arguments) as (process, said):
            while True:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GLANCE)
                    break
                if stop.is_set():
                    raise files.stopped()
            if process.returncode != 0:
                raise BackupError(f"{name} failed for {self._database.address}: {_reason(said)}")

    @contextmanager
    def _started(self, name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """A tool that runs, and what it says; gone at the end of the block."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(  # noqa: S603 - a program of Postgres, with arguments of ours
                [self._program(name), *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            )
            with process:
                try:
                    yield process, said
                finally:
                    if process.poll() is None:
                        process.terminate()


def _rows(script: Iterable[bytes]) -> Iterator[tuple[str, bytes | None]]:
    """Table and line for each row in a script of COPY commands; ``None`` for the beginning of a table."""
    table = ""
    for line in script:
        if table and line == b"\\.\n":
            table = ""
        elif table:
            yield table, line
        elif found := _COPY.match(line):
            table = found[1].decode()
            yield table, None


def _reason(said: IO[bytes]) -> str:
    """Why, as far as it can be told without the tool's own words: they name hosts and users."""
    said.seek(0)
    return reason_of(said.read().decode("utf-8", "replace")) or "it says nothing that may be repeated here"
