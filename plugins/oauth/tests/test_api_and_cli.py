"""Commands and API do the same: each operation is run through both, and the documents are compared."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from gatewaykit.testing import running

from .surfaces import Api, Cli, Place, Refused, Surface

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
SECRET = re.compile(r"gk_live_\w{42}")
OWN = {"id", "object", "actor", "client", "request_id", "created_by", "hint"}
"""Fields that differ from key to key, or tell who did it."""

FULL: dict[str, Any] = {
    "owner": "team",
    "models": ["GigaChat*", "gpt-?"],
    "routes": ["/v1/*"],
    "networks": ["10.0.0.0/8", "2001:db8::/32"],
    "scopes": ["inference", "keys"],
    "expires": "2031-05-06T07:08:09Z",
    "limits": {
        "rpm": 100,
        "tpm": 20_000,
        "rpd": 3,
        "tpd": 0,
        "concurrency": 5,
        "budget": 100_500_000,
        "budget_period": "week",
    },
    "note": "Отдел 7: «тест», with, commas",
}
_numbers = count(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("surfaces"))


@pytest.fixture(scope="module")
def address(place: Place) -> Iterator[str]:
    with running(place.gateway()) as found:
        yield found


@pytest.fixture(scope="module")
def api(address: str) -> Iterator[Api]:
    with Api(address) as found:
        found.create_account("team", name="The team")
        yield found


@pytest.fixture(scope="module")
def cli(place: Place) -> Cli:
    return Cli(place)


def fresh(api: Api, **fields: Any) -> str:
    """The id of a new key, made by the API."""
    return str(api.create("before", **fields)["id"])


def rotated(api: Api) -> str:
    key_id = fresh(api)
    api.rotate(key_id, 3600)
    return key_id


def changed(api: Api, what: str) -> str:
    key_id = fresh(api)
    api.change(key_id, what)
    return key_id


def account(api: Api, **fields: Any) -> str:
    return str(api.create_account(f"account-{next(_numbers)}", **fields)["id"])


OPERATIONS: dict[str, tuple[Callable[[Api], Any], Callable[[Surface, Any], Any]]] = {
    "create": (lambda api: None, lambda surface, _: surface.create("имя", **FULL)),
    "create without expiry": (lambda api: None, lambda surface, _: surface.create("plain", expires=None)),
    "create with defaults": (lambda api: None, lambda surface, _: surface.create("plain")),
    "show": (lambda api: fresh(api, **FULL), lambda surface, key: surface.show(key)),
    "update all": (fresh, lambda surface, key: surface.update(key, name="new", **without(FULL, "owner"))),
    "update to nothing": (
        lambda api: fresh(api, **FULL),
        lambda surface, key: surface.update(key, networks=[], expires=None, note=""),
    ),
    "rotate": (fresh, lambda surface, key: surface.rotate(key)),
    "rotate with grace": (fresh, lambda surface, key: surface.rotate(key, 60)),
    "rotate without grace": (rotated, lambda surface, key: surface.rotate(key, 0)),
    "cut": (rotated, lambda surface, key: surface.change(key, "cut")),
    "disable": (fresh, lambda surface, key: surface.change(key, "disable")),
    "enable": (lambda api: changed(api, "disable"), lambda surface, key: surface.change(key, "enable")),
    "revoke": (rotated, lambda surface, key: surface.change(key, "revoke")),
    "audit": (lambda api: changed(api, "disable"), lambda surface, key: surface.audit(key)),
    "create an account": (
        lambda api: f"account-{next(_numbers)}",
        lambda surface, name: surface.create_account(
            name, name="Отдел", kind="service", models=["a*"], limits=FULL["limits"]
        ),
    ),
    "show an account": (account, lambda surface, name: surface.show_account(name)),
    "update an account": (account, lambda surface, name: surface.update_account(name, name="new", limits={"rpm": 7})),
    "disable an account": (account, lambda surface, name: surface.enable_account(name, False)),
    "enable an account": (account, lambda surface, name: surface.enable_account(name, True)),
}


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def alike(document: Any) -> Any:
    """What must be the same, whoever did it: no ids, and no moments but the one that was asked for."""
    if isinstance(document, dict):
        return {name: alike(value) for name, value in document.items() if name not in OWN}
    if isinstance(document, list):
        return [alike(item) for item in document]
    if isinstance(document, str) and document != FULL["expires"]:
        return SECRET.sub("SECRET", MOMENT.sub("MOMENT", document))
    return document


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_surfaces_do_the_same(api: Api, cli: Cli, name: str) -> None:
    """With the same state before, an operation gives the same document, field by field."""
    prepare, operate = OPERATIONS[name]
    by_api = operate(api, prepare(api))
    by_cli = operate(cli, prepare(api))
    assert alike(by_cli) == alike(by_api)
    hands_over = name.startswith(("create", "rotate")) and "account" not in name
    assert len(SECRET.findall(str(by_cli))) == len(SECRET.findall(str(by_api))) == hands_over


@pytest.mark.parametrize(
    ("state", "status"), [("", "active"), ("disable", "disabled"), ("revoke", "revoked"), ("rotate", "active")]
)
def test_both_surfaces_show_the_same_key(api: Api, cli: Cli, state: str, status: str) -> None:
    """Byte for byte, whichever made it and whatever became of it."""
    key_id = fresh(api, **FULL)
    if state:
        api.change(key_id, state)
    assert cli.show(key_id) == api.show(key_id)
    assert api.show(key_id)["status"] == status


@pytest.mark.parametrize("filters", [{}, {"owner": "team"}, {"text": "before", "sort": "name"}, {"status": "revoked"}])
def test_both_surfaces_list_the_same_keys(api: Api, cli: Cli, filters: dict[str, Any]) -> None:
    """With each filter and order, in the same order, with the same place to go on from."""
    for _ in range(3):
        api.change(fresh(api, owner="team"), "revoke")
    by_api = api.list(limit=2, **filters)
    assert len(by_api["items"]) == 2
    assert by_api["next"] is not None
    assert cli.list(limit=2, **filters) == by_api


def test_both_surfaces_list_the_same_accounts_and_changes(api: Api, cli: Cli) -> None:
    """All of them, and the audit log of everything."""
    account(api)
    assert cli.list_accounts() == api.list_accounts()
    assert cli.audit() == api.audit()


FAULTS: dict[str, Callable[[Surface, str], Any]] = {
    "no such key": lambda surface, key: surface.show("key_00000000000000000000"),
    "nor to change": lambda surface, key: surface.change("key_00000000000000000000", "disable"),
    "no such account": lambda surface, key: surface.create("x", owner="nobody"),
    "no such account to show": lambda surface, key: surface.show_account("nobody"),
    "an account twice": lambda surface, key: surface.create_account("team"),
    "no network": lambda surface, key: surface.create("x", networks=["10/8"]),
    "a glob too many": lambda surface, key: surface.update(key, models=["[a]"]),
    "a name that breaks lines": lambda surface, key: surface.create("one\ntwo"),
    "a past expiry": lambda surface, key: surface.create("x", expires="2001-01-01T00:00:00Z"),
    "a revoked key": lambda surface, key: surface.rotate(key),
    "a revoked key again": lambda surface, key: surface.change(key, "enable"),
    "an account's id": lambda surface, key: surface.create_account("one two"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_both_surfaces_refuse_in_the_same_words(api: Api, cli: Cli, fault: str) -> None:
    """The message of the API's error is what the command says."""
    key_id = changed(api, "revoke") if "revoked" in fault else fresh(api)
    with pytest.raises(Refused) as by_api:
        FAULTS[fault](api, key_id)
    with pytest.raises(Refused) as by_cli:
        FAULTS[fault](cli, key_id)
    assert str(by_cli.value).strip() == f"✗ {by_api.value}"


def test_what_a_command_does_reaches_a_gateway_that_runs(api: Api, cli: Cli, address: str) -> None:
    """A key made by a command works at the running gateway at once, and is refused soon after it was revoked so."""
    made = cli.create("while it runs")

    def status() -> int:
        headers = {"Authorization": f"Bearer {made['secret']}"}
        return httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code

    assert status() == 200
    cli.change(made["id"], "revoke")
    assert eventually(lambda: status() == 401)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def test_one_repetition_counts_for_both(api: Api, cli: Cli) -> None:
    """An idempotency key belongs to who uses it: the operator's is not the principal's."""
    key_id = fresh(api)
    first, again = cli.rotate(key_id, repetition="r1"), cli.rotate(key_id, repetition="r1")
    assert first["secret"]
    assert again["secret"] is None
    assert again["version"] == first["version"]
    assert api.rotate(key_id, repetition="r1")["secret"]


def test_the_folder_holds_no_secret(api: Api, cli: Cli, place: Place) -> None:
    """Neither database nor write-ahead log nor outbox nor pepper file has the text of a key."""
    made = [api.create("canary"), cli.create("canary"), cli.rotate(fresh(api))]
    files = [path.read_bytes() for path in place.folder.rglob("*") if path.is_file()]
    assert any(made[0]["id"].encode() in content for content in files)
    for key in made:
        assert all(key["secret"].encode() not in content for content in files)
