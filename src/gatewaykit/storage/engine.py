"""From the settings to engines: what SQLite and Postgres each need to be safe, behind one way to use both."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import AbstractContextManager, closing, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from gatewaykit.errors import ConfigError, ConfigFault, StorageError
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage.holding import held

BEGIN = "gatewaykit_begin"
"""Execution option: how a transaction begins on SQLite, or that none does (``NOT``)."""

SYNCHRONOUS = "gatewaykit_synchronous"
"""Execution option: what a commit on SQLite waits for; unset, ``FULL``: that the disk has it."""

WRITING = {BEGIN: "IMMEDIATE"}
UNFORCED = {**WRITING, SYNCHRONOUS: "NORMAL"}
READING = {BEGIN: "DEFERRED", "postgresql_readonly": True}
MIGRATING = {BEGIN: "EXCLUSIVE"}
QUERYING = {BEGIN: "NOT"}
PATIENCE = 60.0
"""Seconds that a start waits for other processes that migrate."""

_READ_ONLY_MODES = {READING[BEGIN], QUERYING[BEGIN]}
_OUTSIDE_THREADS = 2
_ISOLATION = "READ COMMITTED"
"""Who waited for a lock goes on from what the other one committed, whatever level the server takes by default."""
_PAUSE = 0.02
_to_json = msgspec.json.Encoder().encode


class Database:
    """A database that can be opened. ``address`` names it without user and password.

    Raises :class:`~gatewaykit.errors.ConfigError` for a URL that cannot be used; opens nothing.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        if settings.url is None:
            raise _fault("is not set")
        self._settings = settings
        self._url = _parse(settings.url.get_secret_value())
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.file: Path | None = None
        self.address = _postgres_address(self._url)
        if self.is_sqlite:
            self.file = Path(self._url.database or "").absolute()
            self.address = f"SQLite {self.file}"
            self._url = self._url.set(database=str(self.file))

    def __repr__(self) -> str:
        return f"Database({self.address})"

    @property
    def url(self) -> URL:
        """Where it is, password included; not to be shown."""
        return self._url

    def in_use(self) -> AbstractContextManager[None]:
        """While entered, nobody puts another file in the place of an SQLite database. Blocks for nothing.

        Raises :class:`~gatewaykit.errors.StorageError` while somebody does.
        """
        if self.file is None:
            return nullcontext()
        _check_folder(self.file)
        try:
            return held(self.file)
        except OSError as error:
            raise _unwritable(self.file, error) from None

    def prepare(self) -> None:
        """Make the file of an SQLite database, readable for its owner alone, and switch it to write-ahead logging.

        That switch lasts; it is made here, because SQLite does not wait for other processes when it is due.
        """
        if self.file is None:
            return
        _make_file(self.file)
        _use_wal(self.file)

    def engine(self) -> Engine:
        """The engine for work: as many connections as threads, and some for those who bring a thread of their own."""
        engine = self._create(
            self._settings.busy_timeout,
            self._settings.timeout,
            pool_size=self._settings.pool_size,
            max_overflow=_OUTSIDE_THREADS,
            pool_timeout=self._settings.timeout,
            pool_pre_ping=not self.is_sqlite,
        )
        if self.is_sqlite:
            event.listen(engine, "connect", _enforce_foreign_keys)
        return engine

    def querying(self, engine: Engine) -> Engine:
        """``engine`` for statements with no transaction around them: that saves two of four round trips to Postgres."""
        if self.is_sqlite:  # whose connections have no transaction unless we begin it
            return engine.execution_options(**QUERYING)
        return engine.execution_options(isolation_level="AUTOCOMMIT")

    def migration_engine(self) -> Engine:
        """The engine for migrations: patient, and on SQLite without foreign keys, for tables are rebuilt under them."""
        return self._create(PATIENCE, None, poolclass=NullPool)

    def _create(self, lock: float, statement: float | None, **options: Any) -> Engine:
        """``lock`` and ``statement`` are time limits in seconds; SQLite has none for the latter."""
        if self.is_sqlite:
            arguments: dict[str, Any] = {"timeout": lock}
        else:
            arguments = _postgres_arguments(self._url, lock, statement)
            options["isolation_level"] = _ISOLATION
        engine = create_engine(
            self._url,
            hide_parameters=True,
            connect_args=arguments,
            json_serializer=lambda value: _to_json(value).decode(),
            json_deserializer=msgspec.json.decode,
            **options,
        )
        if self.is_sqlite:
            event.listen(engine, "connect", _leave_transactions_to_us)
            event.listen(engine, "connect", _know_all_letters)
            event.listen(engine, "begin", _begin)
        return engine


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError):
        raise _fault("is not a URL that can be read") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database.startswith((":memory:", "file:")) or url.query or url.host:
            raise _fault("must name a file and nothing else, as sqlite:///file.db or sqlite:////absolute/file.db do")
        return url
    if find_spec("psycopg") is None:
        raise _fault("needs a driver that is not installed: pip install 'gatewaykit[postgres]'")
    return url.set(drivername="postgresql+psycopg")


def _fault(message: str) -> ConfigError:
    return ConfigError([ConfigFault(message, "database.url")])


def _postgres_address(url: URL) -> str:
    """Of a URL that was mistyped, no part of a password must show: what is no plain name is left out."""
    host = url.host or url.query.get("host")
    plain = [part for part in (url.database, host) if isinstance(part, str) and re.fullmatch(r"[\w./:-]+", part)]
    return " at ".join(["Postgres", *plain]).replace("Postgres at", "Postgres", 1)


def _postgres_arguments(url: URL, lock: float, statement: float | None) -> dict[str, Any]:
    """Time limits, and a dead network is noticed (libpq, 32.1.2 Parameter Key Words)."""
    given = url.query.get("options", "")
    options = [f"-c lock_timeout={_milliseconds(lock)}"]
    if statement is not None:
        options.append(f"-c statement_timeout={_milliseconds(statement)}")
    options.extend([given] if isinstance(given, str) else given)
    return {
        "options": " ".join(options).strip(),
        "connect_timeout": 5,
        "tcp_user_timeout": _milliseconds(max(statement or lock, 5)),
        "keepalives_idle": 30,
        "application_name": "gatewaykit",
    }


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _check_folder(file: Path) -> None:
    if not file.parent.is_dir():
        raise _fault(f"the folder {file.parent} does not exist")


def _make_file(file: Path) -> None:
    _check_folder(file)
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unwritable(file, error) from None


def _unwritable(file: Path, error: OSError) -> ConfigError:
    return _fault(f"{file} cannot be written: {error.strerror}")


def _use_wal(file: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with closing(sqlite3.connect(file, timeout=PATIENCE)) as connection:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                raise StorageError(f"SQLite {file} cannot be used: {name}") from None
            time.sleep(_PAUSE)
            continue
        if mode != "wal":
            raise StorageError(f"SQLite {file} cannot be used: its file system does not allow write-ahead logging")
        return


def _leave_transactions_to_us(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None


def _know_all_letters(connection: sqlite3.Connection, record: object) -> None:
    """SQLite's own ``lower`` knows A to Z only; Postgres', with which searches agree, all letters."""
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _enforce_foreign_keys(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """Take the lock for writing at once: one that is asked for after a read may be refused without any waiting."""
    options = connection.get_execution_options()
    mode = options.get(BEGIN, "IMMEDIATE")
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    only_reads = mode in _READ_ONLY_MODES
    _set(connection.info, driver, "query_only", "ON" if only_reads else "OFF")
    if not only_reads:
        _set(connection.info, driver, "synchronous", options.get(SYNCHRONOUS, "FULL"))
    if mode != QUERYING[BEGIN]:
        driver.execute(f"BEGIN {mode}")


def _set(known: dict[Any, Any], driver: sqlite3.Connection, pragma: str, value: str) -> None:
    """SQLite prepares every statement anew after some pragmas: one is given only when it changes something."""
    if known.get(pragma) != value:
        driver.execute(f"PRAGMA {pragma}={value}")
        known[pragma] = value
