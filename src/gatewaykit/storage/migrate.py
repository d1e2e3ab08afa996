"""Migrations: every source has its own Alembic version table, and all are applied in one transaction under one lock.

Either everything is up to date afterwards, or nothing has changed. Processes that start together wait for each other.
The tables of a plugin that was uninstalled stay as they are, and nobody asks for its revisions.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from msgspec import Struct
from sqlalchemy import Connection, MetaData, create_engine, text

from gatewaykit.errors import PluginError, StorageError
from gatewaykit.migration import MigrationSource
from gatewaykit.storage.engine import MIGRATING, PATIENCE, READING, Database
from gatewaykit.storage.faults import FOREIGN, is_locked, unusable
from gatewaykit.storage.tables import UtcDateTime

CORE = MigrationSource("core", "gatewaykit.migrations", "gatewaykit.storage.tables:metadata")
ADVISORY_LOCK = 0x67617465776179
"""Key of the lock under which migrations run on Postgres: the word "gateway"."""

_alembic = threading.RLock()  # Alembic keeps its environment in globals.
logger = logging.getLogger(__name__)


class Applied(Struct, frozen=True):
    """What an upgrade did to a source: its revision before (None: no tables yet) and after."""

    label: str
    before: str | None
    after: str | None


class SchemaState(Struct, frozen=True):
    """How a source's schema stands.

    ``current`` is its revision in the database, ``head`` the newest that this program has, ``pending`` those to apply,
    ``unknown`` those in the database that this program does not have, and ``differences`` what the tables do not have
    in common with their declaration (looked for only when nothing is pending or unknown).
    """

    label: str
    current: str | None
    head: str | None
    pending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.pending or self.unknown or self.differences)


def ordered(sources: Sequence[MigrationSource]) -> tuple[MigrationSource, ...]:
    """The core's source and then ``sources``. Raises :class:`~gatewaykit.errors.PluginError` for a label used twice."""
    everything = (CORE, *sources)
    labels = [source.label for source in everything]
    for source in sources:
        if labels.count(source.label) > 1:
            raise PluginError(source.package, f"the label {source.label!r} of its migrations is taken")
    return everything


def upgrade(database: Database, sources: Sequence[MigrationSource]) -> list[Applied]:
    """Apply all revisions that are missing. Raises :class:`~gatewaykit.errors.StorageError`."""
    database.prepare()
    with _exclusive(database) as connection:
        return [_upgrade(connection, source) for source in sources]


def inspect(database: Database, sources: Sequence[MigrationSource]) -> list[SchemaState]:
    """Compare the database with this program; an SQLite file that does not exist is not made."""
    with _connected(database) as connection:
        states = [_state(connection, source) for source in sources]
        return [_compared(connection, source, state) for source, state in zip(sources, states, strict=True)]


def newer(sources: Sequence[MigrationSource], revisions: Mapping[str, str]) -> dict[str, str]:
    """Those of ``revisions``, by label, that this program does not have; tables of no source here are passed over."""
    found = {}
    for source in sources:
        with _told(source):
            script = ScriptDirectory.from_config(_config(source, None))
            known = {revision.revision for revision in script.walk_revisions()}
        if revisions.get(source.label, "") not in {"", *known}:
            found[source.label] = revisions[source.label]
    return found


def write_revision(source: MigrationSource, message: str, revision: str) -> Path:
    """Write the next revision of ``source``: what its declared tables have and its migrations do not make yet.

    For authors; it needs no database, for the migrations are applied to one in memory.
    """
    engine = create_engine("sqlite://")
    with _alembic, _told(source), engine.connect() as connection, connection.begin():
        config = _config(source, connection)
        command.upgrade(config, "head")
        made = command.revision(config, message, autogenerate=True, rev_id=revision)
    engine.dispose()
    if made is None or isinstance(made, list):
        raise StorageError(f"no revision of {source.label} was made")
    return Path(made.path)


def run_environment(environment: EnvironmentContext) -> None:
    """What ``env.py`` does, for every source: run what Alembic was told to, on the connection that is handed in."""
    given = environment.config.attributes
    source: MigrationSource = given["source"]
    options = _options(source)
    environment.configure(connection=given["connection"], target_metadata=_metadata(source), **options)
    environment.run_migrations()


# One source


def _upgrade(connection: Connection, source: MigrationSource) -> Applied:
    state = _state(connection, source)
    if state.unknown:
        raise StorageError(
            f"the database is newer than this program: the tables of {source.label!r} are at revision "
            f"{', '.join(state.unknown)}, which this version does not know (its newest is {state.head}). Install the "
            "version that the database was used with, or restore a backup."
        )
    if state.pending:
        logger.info("migrating %s: %s", source.label, ", ".join(state.pending))
        with _alembic, _told(source):
            command.upgrade(_config(source, connection), "head")
    return Applied(source.label, state.current, state.head)


def _state(connection: Connection, source: MigrationSource) -> SchemaState:
    with _told(source):
        script = ScriptDirectory.from_config(_config(source, connection))
        head = script.get_current_head()
        known = [revision.revision for revision in script.walk_revisions()]
        context = MigrationContext.configure(connection, opts=_options(source))
        heads = context.get_current_heads()
    current = ", ".join(heads) or None
    if unknown := tuple(revision for revision in heads if revision not in known):
        return SchemaState(source.label, current, head, unknown=unknown)
    newer = known[: known.index(heads[0])] if heads else known
    return SchemaState(source.label, current, head, pending=tuple(reversed(newer)))


def _compared(connection: Connection, source: MigrationSource, state: SchemaState) -> SchemaState:
    metadata = _metadata(source)
    if metadata is None or state.pending or state.unknown:
        return state
    mine = set(metadata.tables)
    options = {**_options(source), "include_name": lambda name, kind, parents: kind != "table" or name in mine}
    with _alembic, _told(source):
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    differences = tuple(_say(difference) for difference in found)
    return SchemaState(state.label, state.current, state.head, differences=differences)


def _config(source: MigrationSource, connection: Connection | None) -> Config:
    config = Config(stdout=io.StringIO(), attributes={"source": source, "connection": connection})
    config.set_main_option("script_location", _escaped(_folder(CORE)))
    config.set_main_option("version_locations", _escaped(_folder(source) / "versions"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _options(source: MigrationSource) -> dict[str, Any]:
    return {
        "version_table": f"alembic_version_{source.label}",
        "transactional_ddl": True,
        "render_as_batch": True,
        "render_item": _render,
        "compare_type": True,
    }


def _render(kind: str, item: Any, context: Any) -> Any:
    """Revisions outlive the code: they name no type of ours."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False


def _folder(source: MigrationSource) -> Path:
    """Where the source's package is; the core's is beside ``src`` in a checkout."""
    try:
        found = find_spec(source.package)
    except ModuleNotFoundError:
        found = None
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    checkout = Path(__file__).resolve().parents[3] / "migrations"
    if source == CORE and checkout.is_dir():
        return checkout
    raise StorageError(f"the migrations of {source.label!r} are missing: there is no package {source.package}")


def _metadata(source: MigrationSource) -> MetaData | None:
    if source.metadata is None:
        return None
    module, _, attribute = source.metadata.partition(":")
    found = getattr(import_module(module), attribute, None)
    if not isinstance(found, MetaData):
        raise StorageError(f"{source.metadata}, the tables of {source.label!r}, is no MetaData")
    return found


def _say(difference: Any) -> str:
    """One line of Alembic's comparison: its kind, and the names of what it is about."""
    if isinstance(difference, list):
        return "; ".join(_say(part) for part in difference)
    kind, *about = difference
    names = [getattr(part, "name", part) for part in about]
    return " ".join([kind.replace("_", " "), *(str(name) for name in names if isinstance(name, str))])


# The connection and its lock


@contextmanager
def _exclusive(database: Database) -> Iterator[Connection]:
    """A connection in a transaction during which nobody else migrates; committed at the end."""
    with _opened(database, MIGRATING) as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        yield connection
        if database.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise StorageError(f"the migrations would break references of the table {broken[0]}")
        connection.commit()


def _connected(database: Database) -> AbstractContextManager[Connection]:
    if database.file is not None and not database.file.exists():
        return _in_memory()
    return _opened(database, READING)


@contextmanager
def _opened(database: Database, options: dict[str, Any]) -> Iterator[Connection]:
    engine = database.migration_engine()
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    except FOREIGN as error:
        if is_locked(error):
            raise StorageError(f"{database.address} was locked by another process for {PATIENCE:g} s") from None
        raise unusable(database.address, error) from None
    finally:
        engine.dispose()


@contextmanager
def _in_memory() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def _told(source: MigrationSource) -> Iterator[None]:
    """Name the source of whatever its revisions raise. Locks and lost connections are not its doing."""
    try:
        yield
    except StorageError:
        raise
    except FOREIGN as error:
        if is_locked(error) or getattr(error, "connection_invalidated", False):
            raise
        raise _failed(source, error) from error
    except CommandError as error:
        raise StorageError(f"the migrations of {source.label!r} cannot be read: {error}") from None
    except Exception as error:
        raise _failed(source, error) from error


def _failed(source: MigrationSource, error: Exception) -> StorageError:
    cause = getattr(error, "orig", None) or error
    first = str(cause).splitlines()[0] if str(cause) else ""
    return StorageError(
        f"a migration of {source.label!r} failed, and nothing was changed: {type(cause).__name__}: {first}"
    )
