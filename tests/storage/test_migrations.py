"""Migrations: everything or nothing, whoever else does the same at the same time, and whatever was uninstalled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from gatewaykit import MigrationSource, PluginError, StorageError
from gatewaykit.storage import Storage
from gatewaykit.storage.migrate import ADVISORY_LOCK, Applied, write_revision

from .conftest import start, storage_at

Plugin = Callable[..., MigrationSource]
TABLE = 'op.create_table("{}", sa.Column("id", sa.Integer, primary_key=True))'
REVISIONS = ("core_0001", "core_0002", "core_0003", "core_0004", "core_0005")
HEAD = REVISIONS[-1]
MIGRATE = """
import os, sys
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
storage = Storage(DatabaseSettings(url=os.environ["URL"]))
sys.stdin.readline()
print([applied.before for applied in storage.migrate()])
"""


def tables(url: str) -> set[str]:
    """What is really there."""
    storage = storage_at(url)
    with storage._database.migration_engine().connect() as connection:
        return set(inspect(connection).get_table_names())


def execute(url: str, statement: str) -> None:
    """One statement, past everything."""
    with storage_at(url)._database.migration_engine().begin() as connection:
        connection.execute(text(statement))


def test_first_start_makes_the_tables_and_the_second_finds_them(storage: Storage) -> None:
    """Migrating is idempotent, and afterwards the tables are exactly those that the models declare."""
    assert storage.migrate() == [Applied("core", None, HEAD)]
    assert storage.migrate() == [Applied("core", HEAD, HEAD)]
    (state,) = storage.check()
    assert state.ok, state


def test_check_changes_nothing(sqlite_url: str) -> None:
    """Looking at a database that does not exist does not make it."""
    (state,) = storage_at(sqlite_url).check()
    assert state.pending == REVISIONS
    assert not state.ok
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


def test_check_says_what_is_pending(url: str, plugin: Plugin) -> None:
    """Revisions that are not applied yet are listed in the order in which they will be."""
    storage_at(url, plugin("acme", acme_1=TABLE.format("acme_one"))).migrate()
    more = plugin("acme", acme_1=TABLE.format("acme_one"), acme_2="pass", acme_3="pass")
    core, acme = storage_at(url, more).check()
    assert core.ok
    assert (acme.current, acme.head, acme.pending) == ("acme_1", "acme_3", ("acme_2", "acme_3"))
    assert storage_at(url, more).migrate()[1] == Applied("acme", "acme_1", "acme_3")


def test_check_says_how_tables_differ(url: str) -> None:
    """A table that somebody changed by hand is told from one as it was declared."""
    storage = storage_at(url)
    storage.migrate()
    execute(url, "ALTER TABLE call_records DROP COLUMN tenant")
    execute(url, "DROP INDEX ix_call_records_began")
    (state,) = storage.check()
    assert sorted(state.differences) == ["add column call_records tenant", "add index ix_call_records_began"]


def test_processes_that_start_together_all_succeed(url: str) -> None:
    """Of six processes on a fresh database one makes the tables; the others wait for it and find them."""
    processes = [start(MIGRATE, URL=url) for _ in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, results
    assert sorted(out.strip() for out, _ in results) == [f"['{HEAD}']"] * 5 + ["[None]"]
    assert storage_at(url).check()[0].ok
    with storage_at(url)._database.migration_engine().connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM database_identity")) == 1


def test_a_failed_migration_leaves_nothing_behind(url: str, plugin: Plugin) -> None:
    """Not even the tables of the core, which came before it; and the message names the plugin and its problem."""
    broken = plugin("acme", acme_1=TABLE.format("acme_one"), acme_2='raise RuntimeError("no luck")')
    with pytest.raises(StorageError, match=r"'acme' failed.*RuntimeError: no luck"):
        storage_at(url, broken).migrate()
    assert tables(url) == set()


def test_a_failed_migration_leaves_the_data_as_it_was(url: str, plugin: Plugin) -> None:
    """Rows that a migration changed before it failed are as before."""
    storage_at(url, plugin("acme", acme_1=TABLE.format("acme_one"))).migrate()
    execute(url, "INSERT INTO acme_one (id) VALUES (7)")
    wrong = 'op.execute("UPDATE acme_one SET id = 8")\nop.execute("UPDATE nowhere SET id = 8")'
    with pytest.raises(StorageError, match="'acme' failed"):
        storage_at(url, plugin("acme", acme_1=TABLE.format("acme_one"), acme_2=wrong)).migrate()
    with storage_at(url)._database.migration_engine().connect() as connection:
        assert connection.scalar(text("SELECT id FROM acme_one")) == 7
        assert connection.scalar(text("SELECT version_num FROM alembic_version_acme")) == "acme_1"


def test_a_schema_newer_than_the_program_is_refused(url: str) -> None:
    """The message says which part is too new, and nothing is touched."""
    storage = storage_at(url)
    storage.migrate()
    execute(url, "UPDATE alembic_version_core SET version_num = 'core_9999'")
    with pytest.raises(StorageError, match=r"newer than this program.*'core'.*core_9999.*newest is core_0005"):
        storage.migrate()
    (state,) = storage.check()
    assert (state.ok, state.unknown) == (False, ("core_9999",))


def test_what_is_used_of_limits_outlives_the_move_to_sums(url: str) -> None:
    """Used amounts are kept by the revision that gives holds a table of their own; what is held is not."""
    storage = storage_at(url)
    storage.migrate()
    for statement in (
        "DROP TABLE limit_sums",
        "DROP TABLE limit_holds",
        "DROP TABLE database_identity",
        """CREATE TABLE limit_counts ("limit" VARCHAR NOT NULL, hold VARCHAR NOT NULL, number BIGINT NOT NULL,
        amount BIGINT NOT NULL, until DOUBLE PRECISION NOT NULL, expires DOUBLE PRECISION NOT NULL,
        CONSTRAINT pk_limit_counts PRIMARY KEY ("limit", hold, number))""",
        "INSERT INTO limit_counts VALUES ('all/tokens/60', '', 7, 500, 1.5, 1.5), ('all/tokens/60', 'h', 7, 2, 1.5, 9)",
        "UPDATE alembic_version_core SET version_num = 'core_0003'",
    ):
        execute(url, statement)
    assert storage.migrate() == [Applied("core", "core_0003", HEAD)]
    (state,) = storage.check()
    assert state.ok, state
    with storage._database.migration_engine().connect() as connection:
        assert [tuple(row) for row in connection.execute(text("SELECT * FROM limit_sums"))] == [
            ("all/tokens/60", 7, 500, 1.5, 1.5)
        ]
    assert "limit_counts" not in tables(url)


def test_an_uninstalled_plugin_harms_nothing(url: str, plugin: Plugin) -> None:
    """Without it the gateway migrates and checks as ever; its tables stay, and it finds them when it comes back."""
    acme = plugin("acme", acme_1=TABLE.format("acme_one"))
    storage_at(url, acme).migrate()
    assert storage_at(url).migrate() == [Applied("core", HEAD, HEAD)]
    assert storage_at(url).check()[0].ok
    assert {"acme_one", "alembic_version_acme"} <= tables(url)
    assert storage_at(url, acme).migrate()[1] == Applied("acme", "acme_1", "acme_1")


def test_plugins_come_after_the_core_in_their_order(url: str, plugin: Plugin) -> None:
    """A plugin's migration may rely on the tables of the core and of the plugins before it."""
    first = plugin("first", first_1=TABLE.format("first_one"))
    insert = 'op.execute("INSERT INTO first_one SELECT 1 FROM call_records UNION SELECT 2")'
    second = plugin("second", second_1=insert)
    assert [applied.label for applied in storage_at(url, first, second).migrate()] == ["core", "first", "second"]


def test_two_sources_cannot_share_a_label(sqlite_url: str, plugin: Plugin) -> None:
    """A label that is taken, the core's too, is refused before anything is opened."""
    for label in ("core", "acme"):
        with pytest.raises(PluginError, match=f"'{label}'"):
            storage_at(sqlite_url, MigrationSource("acme", "one"), MigrationSource(label, "other"))


def test_a_label_must_do_for_the_name_of_a_table() -> None:
    """A label with anything but lower-case letters, digits and underscores is refused."""
    for label in ("", "Acme", "a-b", "a;drop", "1a", "a" * 41):
        with pytest.raises(ValueError, match="label"):
            MigrationSource(label, "package")


def test_a_missing_package_is_named(sqlite_url: str) -> None:
    """The message says whose migrations are missing and where they were looked for."""
    with pytest.raises(StorageError, match=r"'acme' are missing: there is no package nowhere\.at_all"):
        storage_at(sqlite_url, MigrationSource("acme", "nowhere.at_all")).migrate()


def test_two_heads_are_refused(url: str, plugin: Plugin) -> None:
    """Revisions that do not form one line cannot be applied, and nothing is."""
    fork = plugin("acme", acme_1="pass")
    plugin("acme", acme_2="pass")
    with pytest.raises(StorageError, match="'acme' cannot be read"):
        storage_at(url, fork).migrate()
    assert tables(url) == set()


def test_broken_references_are_refused(sqlite_url: str, plugin: Plugin) -> None:
    """On SQLite, where tables are rebuilt without foreign keys, they are checked before the commit."""
    tables_with_orphan = """
op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True))
op.create_table("child", sa.Column("id", sa.Integer, sa.ForeignKey("parent.id"), primary_key=True))
op.execute("INSERT INTO child (id) VALUES (1)")
"""
    with pytest.raises(StorageError, match="references of the table child"):
        storage_at(sqlite_url, plugin("acme", acme_1=tables_with_orphan)).migrate()
    assert tables(sqlite_url) == set()


def test_rebuilding_a_table_keeps_what_refers_to_it(sqlite_url: str, plugin: Plugin) -> None:
    """A batch migration drops and renames the parent's table; rows that point to it survive."""
    family = """
op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True), sa.Column("old", sa.Text))
reference = sa.ForeignKey("parent.id", ondelete="CASCADE")
op.create_table("child", sa.Column("id", sa.Integer, reference, primary_key=True))
op.execute("INSERT INTO parent (id) VALUES (1)")
op.execute("INSERT INTO child (id) VALUES (1)")
"""
    rebuild = 'with op.batch_alter_table("parent", recreate="always") as batch:\n    batch.drop_column("old")'
    storage_at(sqlite_url, plugin("acme", acme_1=family)).migrate()
    storage_at(sqlite_url, plugin("acme", acme_1=family, acme_2=rebuild)).migrate()
    with storage_at(sqlite_url)._database.migration_engine().connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM child")) == 1


def test_an_author_gets_the_next_revision_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    """From declared tables to a revision that makes them and that the check then finds to be complete."""
    package = f"author_{tmp_path.name.replace('-', '_')}"
    (tmp_path / package / "versions").mkdir(parents=True)
    (tmp_path / package / "tables.py").write_text(
        "from sqlalchemy import Column, Integer, Table\n"
        "from gatewaykit.storage import UtcDateTime, new_metadata\n"
        "metadata = new_metadata()\n"
        'Table("written", metadata, Column("id", Integer, primary_key=True), Column("made", UtcDateTime))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = MigrationSource("author", package, f"{package}.tables:metadata")
    file = write_revision(source, "First tables", "author_0001")
    assert file.name == "author_0001_first_tables.py"
    assert "gatewaykit" not in file.read_text()
    storage = storage_at(sqlite_url, source)
    storage.migrate()
    assert all(state.ok for state in storage.check())


@contextmanager
def migrating_elsewhere(url: str) -> Iterator[None]:
    """Another process that holds the lock for migrations."""
    with storage_at(url)._database.migration_engine().connect() as connection:
        if url.startswith("postgresql"):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        with connection.begin() if url.startswith("sqlite") else nullcontext():
            yield


def test_waiting_for_others_has_an_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it migrates does not keep the others waiting for ever."""
    storage_at(url).migrate()
    with migrating_elsewhere(url):
        monkeypatch.setattr("gatewaykit.storage.engine.PATIENCE", 0.2)
        with pytest.raises(StorageError, match="locked by another process"):
            storage_at(url).migrate()
    assert storage_at(url).migrate() == [Applied("core", HEAD, HEAD)]
