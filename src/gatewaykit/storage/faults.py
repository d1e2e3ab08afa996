"""What a database can do wrong, in the gateway's own errors: the one place where foreign errors are translated.

Nothing of a driver's own words is passed on where they could hold an address, a credential or a value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gatewaykit.errors import GatewayError, InternalError, StorageError, Unavailable

FOREIGN = (SQLAlchemyError, sqlite3.Error, UnicodeError)
"""What can come out of SQLAlchemy: its own errors, and what drivers raise while they connect or encode a text."""

RETRY_AFTER = 1.0
_SQLITE_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
    }
)
# Connection, sign-in, rollback by the server, resources, lock not available, operator intervention, system error.
_POSTGRES_PASSING = ("08", "28", "40", "53", "55", "57", "58", "3D000", "25006")
_REASONS = (
    ("server version mismatch", "the tool is older than the server: install that of the server's version"),
    ("unsupported version", "the dump was made by a newer tool: install that version"),
    ("no space left", "the disk is full"),
    ("must be owner", "the user does not own the tables"),
    ("permission denied", "the user may not do that"),
    ("not appear to be a valid archive", "it is no dump"),
    ("input file is too short", "its end is missing"),
    ("could not read from input file", "its end is missing"),
    ("end of file", "its end is missing"),
    ("could not uncompress", "it cannot be unpacked"),
    ("password authentication failed", "it refuses the user or the password"),
    ("no pg_hba.conf entry", "it does not let this user in from here"),
    ("connection refused", "nothing listens there"),
    ("does not exist", "there is no such database, user or file"),
    ("no such file", "nothing listens there"),
    ("could not translate host name", "the name of its host is not known"),
    ("failed to resolve host", "the name of its host is not known"),
    ("timeout", "it does not answer in time"),
    ("ssl", "the TLS connection fails"),
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of SQLAlchemy and the drivers into those of gatewaykit."""
    try:
        yield
    except FOREIGN as error:
        raise translate(error) from None


def translate(error: Exception) -> GatewayError:
    """:class:`~gatewaykit.errors.Unavailable` for what may pass, else :class:`~gatewaykit.errors.InternalError`.

    ``detail`` names the kind of error and its code.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable(retry_after=RETRY_AFTER, detail="database: all connections are in use")
    cause = _driver_error(error)
    detail = f"database: {_name(cause)}"
    if getattr(error, "connection_invalidated", False) or _passes(cause):
        return Unavailable(retry_after=RETRY_AFTER, detail=detail)
    return InternalError(detail=detail)


def unusable(address: str, error: Exception) -> StorageError:
    """Why the database cannot be opened, as far as that can be told without the driver's words."""
    cause = _driver_error(error)
    return StorageError(f"{address} cannot be used: {reason_of(str(cause)) or _name(cause)}")


def reason_of(said: str) -> str | None:
    """What a driver or a tool of Postgres means, in words that hold nothing of the address; None if nobody knows."""
    said = said.lower()
    return next((reason for words, reason in _REASONS if words in said), None)


def is_locked(error: Exception) -> bool:
    """Whether somebody else held a lock for too long."""
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return _primary(cause) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(cause, "sqlstate", None) == "55P03"


def _driver_error(error: Exception) -> BaseException:
    return (error.orig if isinstance(error, DBAPIError) else None) or error


def _passes(cause: BaseException) -> bool:
    if isinstance(cause, sqlite3.Error):
        return _primary(cause) in _SQLITE_PASSING
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no word from the server: the connection failed
        return any(kind.__name__ == "OperationalError" for kind in type(cause).__mro__)
    return str(state).startswith(_POSTGRES_PASSING)


def _primary(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension (https://www.sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _name(cause: BaseException) -> str:
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {code}" if code else type(cause).__name__
