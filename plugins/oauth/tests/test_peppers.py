"""Where the pepper comes from, and what happens when it is missing, known to others, or new."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gatewaykit.errors import ConfigError
from gatewaykit.settings import DatabaseSettings
from gatewaykit.testing import make_gateway
from gatewaykit.testing.waiting import until
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys.peppers import load_secrets
from gatewaykit_oauth.keys.rows import peppers_in_use
from gatewaykit_oauth.keys.secrets import Secrets, pepper_id
from gatewaykit_oauth.settings import KeysSettings

from .conftest import PEPPER, incoming, keys_at, made, start, storage_at, text_of

OLD = "an-older-pepper-of-thirty-two-characters"
LOAD = """
import os, sys
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys.peppers import load_secrets
from gatewaykit_oauth.settings import KeysSettings
database = DatabaseSettings(url=os.environ["URL"])
storage = Storage(database, list(plugin.gateway_migrations()))
print("here", flush=True)
sys.stdin.readline()
with storage.opened():
    print(load_secrets(KeysSettings(), database, storage).current)
"""


def load(url: str, **settings: Any) -> Secrets:
    """The secrets of an installation, as one process finds them."""
    storage = storage_at(url)
    with storage.opened():
        return load_secrets(KeysSettings(**settings), DatabaseSettings(url=url), storage)


def file_of(url: str) -> Path:
    """The file with the pepper."""
    return Path(url.removeprefix("sqlite:///") + ".pepper")


def test_beside_sqlite_a_file_is_made_and_kept(sqlite_url: str) -> None:
    """The first start makes a file that only its owner may read, and every later one finds the same pepper in it."""
    before = os.umask(0)
    try:
        first = load(sqlite_url)
    finally:
        os.umask(before)
    file = file_of(sqlite_url)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.current == load(sqlite_url).current == pepper_id(file.read_text().strip())
    assert [path.name for path in file.parent.glob("*.pepper*")] == [file.name]


def test_six_processes_that_start_at_once_have_one_pepper(sqlite_url: str) -> None:
    """Whoever comes first makes the file, and nobody reads half of it."""
    processes = [start(LOAD, URL=sqlite_url) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate(timeout=300) for process in processes]
    assert len({out for out, _ in found}) == 1, found
    assert all(out.strip() for out, _ in found), found


def test_a_lost_file_is_not_replaced(sqlite_url: str) -> None:
    """When keys are stored and the file is gone, the start is refused: a new pepper would void every key in silence."""
    load(sqlite_url)
    file = file_of(sqlite_url)
    with storage_at(sqlite_url).opened() as storage:
        made(storage, secrets=load(sqlite_url))
    file.unlink()
    with pytest.raises(ConfigError, match="restore it"):
        load(sqlite_url)
    assert not file.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(sqlite_url: str, mode: int) -> None:
    """The message says what to do, and not what is in the file."""
    load(sqlite_url)
    file_of(sqlite_url).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        load(sqlite_url)
    assert file_of(sqlite_url).read_text().strip() not in str(refused.value)


def test_a_file_without_a_pepper_is_refused(sqlite_url: str) -> None:
    """An empty file is no pepper."""
    load(sqlite_url)
    file_of(sqlite_url).write_text("")
    with pytest.raises(ConfigError, match="fewer than 32"):
        load(sqlite_url)


def test_a_configured_pepper_takes_over_from_the_file(sqlite_url: str) -> None:
    """Keys made under the file's pepper stay valid while the file is there, and the start is refused without it."""
    with storage_at(sqlite_url).opened() as storage:
        created = made(storage, secrets=load(sqlite_url))
    secrets = load(sqlite_url, pepper=PEPPER)
    assert secrets.current == pepper_id(PEPPER)
    assert len(secrets.digests(text_of(created))) == 2
    file_of(sqlite_url).unlink()
    with pytest.raises(ConfigError, match="not the one"):
        load(sqlite_url, pepper=PEPPER)


def test_the_pepper_of_other_keys_is_refused(url: str) -> None:
    """A start with a pepper by which no stored key was digested is refused, on either database."""
    with storage_at(url).opened() as storage:
        made(storage)
    with pytest.raises(ConfigError, match="not the one") as refused:
        load(url, pepper=OLD)
    assert OLD not in str(refused.value)
    assert load(url, pepper=OLD, old_peppers={"2026": PEPPER}).current == pepper_id(OLD)


def test_keys_of_a_forgotten_pepper_are_told_of(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where some keys were digested by a pepper that is no longer configured, the log says how many."""
    with storage_at(url).opened() as storage:
        made(storage)
        made(storage, secrets=Secrets(OLD))
    load(url, pepper=PEPPER)
    assert "1 secrets of API keys open nothing" in caplog.text
    assert PEPPER not in caplog.text


def test_short_peppers_are_refused() -> None:
    """One of fewer than 32 characters is a fault, and is not repeated."""
    for settings in ({"pepper": "short-secret"}, {"old_peppers": {"a": "short-secret"}}):
        with pytest.raises(ValidationError, match="too short") as refused:
            KeysSettings(**settings)
        assert "short-secret" not in str(refused.value)


def test_stale_time_must_outlast_the_polls() -> None:
    """Otherwise one slow answer would refuse everybody."""
    with pytest.raises(ValidationError, match="twice poll_seconds"):
        KeysSettings(poll_seconds=10, stale_seconds=15)


def test_merely_installed_it_does_nothing() -> None:
    """Without database and pepper there is no authenticator, no route, and no fault."""
    gateway = make_gateway(plugin)
    assert not any(info.name == "gatewaykit_oauth.plugin" and info.status != "active" for info in gateway.plugins)
    assert list(plugin.gateway_authenticators(gateway)) == []
    assert list(plugin.gateway_routes(gateway)) == []


async def test_postgres_without_a_pepper_has_no_keys(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway starts without them and says how to make a pepper; a key cannot be made before."""
    books = {"outbox": str(tmp_path)}
    async with make_gateway(plugin, database={"url": postgres_url}, ledger=books) as gateway:
        assert list(plugin.gateway_authenticators(gateway)) == []
    assert [record for record in caplog.records if "token_hex" in record.message]
    with pytest.raises(ConfigError, match=r"keys\.pepper.*token_hex"):
        load(postgres_url)


async def test_keys_without_their_pepper_keep_the_gateway_from_starting(postgres_url: str, tmp_path: Path) -> None:
    """Where Postgres has keys and the configuration no pepper, all of them would be refused in silence."""
    storage = storage_at(postgres_url)
    with storage.opened():
        made(storage)
    gateway = make_gateway(plugin, database={"url": postgres_url}, ledger={"outbox": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"keys\.pepper: is not set"):
        await gateway.start()


def test_a_pepper_needs_a_database() -> None:
    """A pepper alone is a fault that names the setting, and not the pepper."""
    with pytest.raises(ConfigError, match=r"set database\.url") as refused:
        make_gateway(plugin, keys={"pepper": PEPPER})
    assert PEPPER not in str(refused.value)


def test_constructing_a_gateway_makes_no_file(sqlite_url: str) -> None:
    """The file comes with the first start, not with a look at the configuration."""
    make_gateway(plugin, database={"url": sqlite_url})
    assert not file_of(sqlite_url).exists()


async def test_peppers_are_replaced_by_use(url: str) -> None:
    """A key digested by an old pepper is valid, is digested by the current one when it is used, and needs the old one
    no more."""
    with storage_at(url).opened() as storage:
        created = made(storage, secrets=Secrets(OLD))

        def in_use() -> dict[str, int]:
            with storage.transaction(write=False) as session:
                return peppers_in_use(session)

        assert in_use() == {pepper_id(OLD): 1}
        async with keys_at(url, old_peppers={"2026": OLD}) as keys:
            assert await keys.authenticate(incoming(text_of(created)))
            await until(lambda: in_use() == {pepper_id(PEPPER): 1})
        async with keys_at(url) as keys:
            found = await keys.authenticate(incoming(text_of(created)))
            assert found is not None
            assert found.id == created.key.id
