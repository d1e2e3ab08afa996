"""The programs of Postgres: what they are told, what others must not see of it, and what happens without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatewaykit import BackupError
from gatewaykit.storage.backup import Backups

from ..storage.conftest import storage_at
from .conftest import fill, tools

CANARY = "canary-4f1c"


def program(folder: Path, text: str) -> None:
    """A ``pg_dump`` that does this."""
    folder.mkdir(exist_ok=True)
    (folder / "pg_dump").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "pg_dump").chmod(0o700)


def test_without_the_programs_it_says_what_to_install(postgres_url: str, tmp_path: Path) -> None:
    """The error names the program, the package and the setting; no backup is left half made."""
    backups = Backups(storage_at(postgres_url), tmp_path / "backups", tools=tmp_path)
    with pytest.raises(BackupError, match=r"pg_dump is not in .*postgresql-client.*backup\.postgres_tools"):
        backups.create()
    assert backups.list() == []


def test_the_password_is_on_no_command_line(tmp_path: Path) -> None:
    """Whoever lists the processes of this machine sees neither user nor password; the program has both."""
    program(
        tmp_path / "bin",
        f'tr "\\0" "\\n" </proc/self/environ >{tmp_path}/environment; echo "$@" >{tmp_path}/line; exit 1',
    )
    url = f"postgresql://{CANARY}-user:{CANARY}-word@db.invalid:5433/books?sslmode=require"
    with pytest.raises(BackupError) as raised:
        Backups(storage_at(url), tmp_path / "backups", tools=tmp_path / "bin").create()
    line, environment = (tmp_path / "line").read_text(), (tmp_path / "environment").read_text()
    assert CANARY not in line + str(raised.value)
    for part in ("host=db.invalid", "port=5433", "dbname=books", "sslmode=require", "--no-password"):
        assert part in line
    assert f"PGUSER={CANARY}-user\n" in environment
    assert f"PGPASSWORD={CANARY}-word\n" in environment


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pg_dump: error: aborting because of server version mismatch", "older than the server"),
        (f'FATAL:  password authentication failed for user "{CANARY}"', "refuses the user or the password"),
        ("could not write to output file: No space left on device", "the disk is full"),
        (f"something about {CANARY}", "nothing that may be repeated"),
    ],
)
def test_its_complaints_are_told_without_its_words(tmp_path: Path, said: str, told: str) -> None:
    """What is known to go wrong has a reason in the error; hosts, users and values do not get there."""
    program(tmp_path / "bin", f"echo '{said}' >&2; exit 1")
    backups = Backups(storage_at("postgresql://u@h/d"), tmp_path / "backups", tools=tmp_path / "bin")
    with pytest.raises(BackupError, match=told) as raised:
        backups.create()
    assert CANARY not in str(raised.value)
    assert not list(backups.folder.path.glob("[!.]*"))


def test_a_cut_dump_is_found(postgres_url: str, tmp_path: Path) -> None:
    """A dump that ends too early cannot be read to its end, whatever the manifest says, and changes nothing."""
    storage = storage_at(postgres_url)
    fill(storage, *(f"call-{number:04}" for number in range(200)))
    backups = Backups(storage, tmp_path / "backups", tools=tools())
    made = backups.create()
    file = made.path / made.manifest.file
    data = file.read_bytes()[:-2000]
    file.write_bytes(data)
    document = json.loads((made.path / "manifest.json").read_text())
    from gatewaykit.storage.backup import files

    document["size"], document["sha256"] = files.digest(file)
    (made.path / "manifest.json").write_text(json.dumps(document))
    for attempt in (backups.verify, lambda: backups.restore(force=True)):
        with pytest.raises(BackupError, match="damaged"):
            attempt()
