"""What an operator meets: `gatewaykit db`, a start that is refused, and no secret anywhere."""

from __future__ import annotations

import logging
import socket
import subprocess
from pathlib import Path

import pytest

from gatewaykit import ConfigError, Gateway, StorageError
from gatewaykit.settings import describe
from gatewaykit.testing import make_gateway
from gatewaykit.testing.servers import PostgresServer

from .conftest import as_json, command, start, storage_at
from .test_migrations import HEAD, REVISIONS, execute

CANARY = "canary-4f1c"


def test_upgrade_makes_the_tables_and_check_agrees(url: str) -> None:
    """`db check` fails before and succeeds after `db upgrade`, which may be repeated."""
    environ = {"GATEWAYKIT_DATABASE__URL": url}
    before = command("db", "check", "--json", **environ)
    assert before.returncode == 1, before.stderr
    found = as_json(before)
    assert found["ok"] is False
    assert found["sources"][0]["pending"] == list(REVISIONS)
    for _ in range(2):
        done = command("db", "upgrade", **environ)
        assert done.returncode == 0, done.stderr
        assert HEAD in done.stdout
    after = command("db", "check", "--json", **environ)
    assert (after.returncode, as_json(after)["ok"]) == (0, True)


def test_check_tells_a_person_what_is_wrong(sqlite_url: str) -> None:
    """Each difference and each unknown revision has a line; the exit code is 1."""
    environ = {"GATEWAYKIT_DATABASE__URL": sqlite_url}
    storage_at(sqlite_url).migrate()
    execute(sqlite_url, "ALTER TABLE call_records DROP COLUMN tenant")
    done = command("db", "check", **environ)
    assert done.returncode == 1
    assert "differs: add column call_records tenant" in done.stdout
    execute(sqlite_url, "UPDATE alembic_version_core SET version_num = 'core_9999'")
    done = command("db", "check", **environ)
    assert done.returncode == 1
    assert f"newer than this version, whose newest is {HEAD}: core_9999" in done.stdout


@pytest.mark.parametrize("name", ["upgrade", "check"])
def test_without_a_database_the_commands_say_so(name: str, tmp_path: Path) -> None:
    """The message names the setting."""
    empty = tmp_path / "empty.toml"
    empty.touch()
    done = command("db", name, "--config", str(empty))
    assert done.returncode == 1
    assert "database.url: is not set" in done.stderr
    assert "Traceback" not in done.stderr


def ended(process: subprocess.Popen[str], within: float) -> bool:
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_database_that_cannot_be_migrated_keeps_the_port_shut(sqlite_url: str, workers: str) -> None:
    """`serve` ends with an error and its reason, and until then nobody gets a connection."""
    storage_at(sqlite_url).migrate()
    execute(sqlite_url, "UPDATE alembic_version_core SET version_num = 'core_9999'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["serve", "--port", str(port), "--workers", workers]
    process = start("from gatewaykit.cli import main; main()", *arguments, GATEWAYKIT_DATABASE__URL=sqlite_url)
    connected = 0
    while not ended(process, within=0.02):
        with socket.socket() as client:
            client.settimeout(1)
            connected += client.connect_ex(("127.0.0.1", port)) == 0
    out, err = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert connected == 0
    assert "newer than this program" in out + err


async def test_a_gateway_whose_migration_fails_does_not_start(sqlite_url: str) -> None:
    """The reason reaches whoever started it."""
    storage_at(sqlite_url).migrate()
    execute(sqlite_url, "UPDATE alembic_version_core SET version_num = 'core_9999'")
    gateway = make_gateway(database={"url": sqlite_url})
    with pytest.raises(StorageError, match="newer"):
        await gateway.start()
    assert not gateway.ready


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mysql://u@h/d", "must be a URL that starts with sqlite:// or postgresql:// or postgres://"),
        ("gatewaykit.db", "must be a URL that starts with"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "must name a file"),
        (f"postgresql://u:{CANARY}@{CANARY}@h/d", "more than one '@'"),
        (f"postgresql://u:{CANARY}@h:{CANARY}/d", "is not a URL that can be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_fault_of_its_setting(url: str, fault: str) -> None:
    """It is found before anything is opened, and the message repeats nothing of it."""
    with pytest.raises(ConfigError) as raised:
        Gateway({"database": {"url": url}}, environ={})
    (found,) = raised.value.faults
    assert "database.url" in str(found)
    assert fault in str(found)
    assert CANARY not in str(found)


def canaries(postgres: PostgresServer) -> dict[str, str]:
    """URLs with a secret in them that lead nowhere, each in another way."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    silent = f"postgresql://{CANARY}-user:{CANARY}@"
    return {
        "nobody listens": f"{silent}127.0.0.1:{port}/d",
        "no such host": f"{silent}{'x' * 70}.invalid/d",
        "no such database": postgres.url("nowhere").replace("postgres:@", f"postgres:{CANARY}@"),
        "no such user": postgres.url("postgres").replace("postgres:@", f"{CANARY}-user:{CANARY}@"),
        "slash in password": f"postgresql://u:{CANARY}/{CANARY}@127.0.0.1:{port}/d",
        "unknown option": f"{silent}127.0.0.1:{port}/d?{CANARY}={CANARY}",
    }


@pytest.mark.parametrize(
    "name",
    ["nobody listens", "no such host", "no such database", "no such user", "slash in password", "unknown option"],
)
async def test_no_part_of_the_credentials_is_ever_shown(
    postgres_server: PostgresServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in errors nor logs nor `repr` nor `config show`, whatever is wrong with the database."""
    url = canaries(postgres_server)[name]
    gateway = make_gateway(database={"url": url, "timeout": 1.0})
    with caplog.at_level(logging.DEBUG), pytest.raises(StorageError) as raised:
        await gateway.start()
    shown = [
        repr(raised.value),
        str(raised.value),
        repr(raised.value.__cause__),
        caplog.text,
        repr(gateway.storage),
        repr(gateway.settings),
        repr(gateway.settings["database"]),
        repr(describe(gateway.settings)),
    ]
    assert CANARY not in "\n".join(shown)
    assert "cannot be used" in str(raised.value)


def test_commands_do_not_show_the_credentials(postgres_url: str) -> None:
    """`config show` masks the URL, and `db` names the database without user and password."""
    url = postgres_url.replace("postgres:@", f"postgres:{CANARY}@")
    for arguments in (["db", "upgrade"], ["db", "check"], ["config", "show", "--all"], ["config", "show", "--json"]):
        done = command(*arguments, GATEWAYKIT_DATABASE__URL=url)
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout + done.stderr
