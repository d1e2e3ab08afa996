"""The management of keys by HTTP: who may do what, what is shown, and what happens to requests made twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from gatewaykit.testing import running

from .surfaces import ADMIN_KEY, Api, Place

_numbers = count(1)
MANAGER = {"scopes": ["inference", "usage", "keys"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def address(place: Place) -> Iterator[str]:
    with running(place.gateway()) as found:
        yield found


@pytest.fixture(scope="module")
def api(address: str) -> Iterator[Api]:
    with Api(address) as found:
        yield found


@pytest.fixture
def team(api: Api) -> str:
    """A fresh account."""
    return str(api.create_account(f"team-{next(_numbers)}")["id"])


@pytest.fixture
def manager(api: Api, address: str, team: str) -> Iterator[Api]:
    """A key that manages the keys of its team, and no more."""
    key = api.create("manager", owner=team, models=["GigaChat*"], limits={"rpm": 10}, **MANAGER)
    with Api(address, key["secret"]) as found:
        yield found


def uses(address: str, secret: str) -> int:
    """The status with which the gateway answers this key."""
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return dict(response.json()["error"])


# What is shown


def test_the_secret_is_in_one_answer_and_nowhere_else(api: Api, address: str) -> None:
    """That of its making; list, key, audit log and later changes have a hint at most."""
    made = api.client.post("/keys", json={"name": "canary", "note": "a note"})
    document = made.json()
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    secret, key_id = document["secret"], document["id"]
    assert uses(address, secret) == 200
    new = api.rotate(key_id)["secret"]
    later = [
        api.show(key_id),
        api.list(),
        api.list(text="canary"),
        api.audit(key_id),
        api.audit(),
        api.update(key_id, note="another"),
        api.change(key_id, "cut"),
        api.change(key_id, "disable"),
        api.change(key_id, "revoke"),
    ]
    for text in (secret, new, secret[8:30], new[8:30]):
        assert text not in str(later)
    assert new[-4:] in str(later)


def test_a_change_answers_what_a_look_would(api: Api) -> None:
    """For every way to change a key."""
    key = api.create("looked at")
    secret = key.pop("secret")
    assert key == api.show(key["id"])
    for change in (
        lambda: api.update(key["id"], name="renamed", limits={"tpm": 5}),
        lambda: without_secret(api.rotate(key["id"], 60)),
        lambda: api.change(key["id"], "cut"),
        lambda: api.change(key["id"], "disable"),
        lambda: api.change(key["id"], "enable"),
        lambda: api.change(key["id"], "revoke"),
    ):
        assert change() == api.show(key["id"])
    assert secret not in str(api.show(key["id"]))


def without_secret(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "secret"}


def test_a_secret_in_the_path_is_no_key(api: Api) -> None:
    """A path names a key by its id; what else stands there is not repeated."""
    secret = api.create("in the path")["secret"]
    for refused in (api.client.get(f"/keys/{secret}"), api.client.post(f"/keys/{secret}/revoke")):
        assert error(refused, 404)["code"] == "not_found"
        assert secret not in refused.text


def test_new_keys_end_after_90_days_unless_told_otherwise(api: Api) -> None:
    """``null`` is never."""
    made = api.create("brief")
    days = (moment(made["expires"]) - moment(made["created"])).total_seconds() / 86_400
    assert days == 90
    assert api.create("endless", expires=None)["expires"] is None


def moment(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


# When it takes effect


def test_changes_take_effect_before_they_are_answered(api: Api, address: str) -> None:
    """In the process that answers: the next request of the key meets the new state."""
    key = api.create("switched")
    key_id, old = key["id"], key["secret"]
    assert uses(address, old) == 200
    api.change(key_id, "disable")
    assert uses(address, old) == 401
    api.change(key_id, "enable")
    assert uses(address, old) == 200
    new = api.rotate(key_id, 3600)["secret"]
    assert (uses(address, old), uses(address, new)) == (200, 200)
    api.change(key_id, "cut")
    assert (uses(address, old), uses(address, new)) == (401, 200)
    api.update(key_id, networks=["192.0.2.0/24"])
    assert uses(address, new) in {401, 403}
    api.update(key_id, networks=[])
    assert uses(address, new) == 200
    api.change(key_id, "revoke")
    assert uses(address, new) == 401


def test_an_account_that_is_disabled_stops_its_keys(api: Api, address: str, team: str) -> None:
    """All of them, until it is enabled again."""
    secret = api.create("of a team", owner=team)["secret"]
    api.enable_account(team, False)
    assert uses(address, secret) == 401
    api.enable_account(team, True)
    assert uses(address, secret) == 200


# Twice


def test_a_creation_that_is_repeated_makes_one_key(api: Api) -> None:
    """The second answer has the key without the secret; the same header with another body is refused."""
    headers = {"Idempotency-Key": "make-it-once"}
    first = api.client.post("/keys", json={"name": "once"}, headers=headers)
    second = api.client.post("/keys", json={"name": "once"}, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == {**first.json(), "secret": None}
    other = api.client.post("/keys", json={"name": "other"}, headers=headers)
    assert error(other, 400)["param"] == "Idempotency-Key"
    assert len(api.list(text="once")["items"]) == 1


def test_eight_rotations_with_one_idempotency_key_rotate_once(api: Api, address: str) -> None:
    """At the same time: one answer has a secret, and it works; the log has one rotation."""
    key_id = api.create("rotated by eight")["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.rotate(key_id, 60, repetition="all-eight"), range(8)))
    (secret,) = [answer["secret"] for answer in answers if answer["secret"] is not None]
    assert uses(address, secret) == 200
    assert len(api.show(key_id)["secrets"]) == 2
    assert [entry["action"] for entry in api.audit(key_id)["items"]] == ["key.rotate", "key.create"]


def test_idempotency_keys_of_others_do_not_count(api: Api, manager: Api, team: str) -> None:
    """Two principals may choose the same text."""
    headers = {"Idempotency-Key": "ours"}
    body = {"name": "same", "owner": team, "models": ["GigaChat-2"], "limits": {"rpm": 1}}
    made = [surface.client.post("/keys", json=body, headers=headers) for surface in (api, manager)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]


@pytest.mark.parametrize("given", ["", "one two", "x" * 300, "ключ".encode()])
def test_an_idempotency_key_that_is_none_is_refused(api: Api, given: Any) -> None:
    """Rather than taken for one that everybody shares."""
    refused = api.client.post("/keys", json={"name": "x"}, headers={"Idempotency-Key": given})
    assert error(refused, 400)["param"] == "Idempotency-Key"


# Who may


def test_a_manager_manages_the_keys_of_its_account(manager: Api, team: str) -> None:
    """All that an admin can do, with what it may do itself."""
    key = manager.create("mine", owner=team, models=["GigaChat-2*"], limits={"rpm": 5})
    assert key["created_by"] != team
    assert {item["name"] for item in manager.list()["items"]} == {"manager", "mine"}
    assert manager.update(key["id"], name="still mine")["name"] == "still mine"
    assert manager.rotate(key["id"])["secret"]
    for what, status in {"cut": "active", "disable": "disabled", "enable": "active", "revoke": "revoked"}.items():
        assert manager.change(key["id"], what)["status"] == status
    assert {entry["object"] for entry in manager.audit(key["id"])["items"]} == {key["id"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scopes": ["admin"]}, "scopes"),
        ({"models": ["*"]}, "models"),
        ({"limits": {"rpm": None}}, "limits"),
        ({"limits": {"rpm": 11}}, "limits"),
        ({"owner": None}, "owner"),
        ({"expires": None}, "expires"),
    ],
)
def test_a_manager_makes_no_key_that_is_stronger_than_its_own(
    manager: Api, team: str, fields: dict[str, Any], param: str
) -> None:
    """Neither a new one nor one that it changes; the answer names what was too much."""
    body = {"name": "x", "owner": team, "models": ["GigaChat-2"], "limits": {"rpm": 5}}
    assert error(manager.client.post("/keys", json={**body, **fields}), 403)["param"] == param
    key = manager.create(**body)
    if "owner" not in fields:
        assert error(manager.client.patch(f"/keys/{key['id']}", json=fields), 403)["param"] == param
    assert manager.show(key["id"])["version"] == 1


def test_keys_of_others_do_not_exist_for_a_manager(api: Api, manager: Api) -> None:
    """Word for word the answer for an id that nobody has, for every route."""
    other = api.create("not theirs", owner=api.create_account(f"other-{next(_numbers)}")["id"])["id"]
    nobody = "key_00000000000000000000"
    asked = [("GET", ""), ("PATCH", ""), ("GET", "/audit")]
    asked += [("POST", f"/{what}") for what in ("rotate", "cut", "enable", "disable", "revoke")]
    for method, rest in asked:
        body = {} if method == "GET" else {"json": {}}
        refused = manager.client.request(method, f"/keys/{other}{rest}", **body)
        assert error(refused, 404) == error(manager.client.request(method, f"/keys/{nobody}{rest}", **body), 404)
    assert api.show(other)["version"] == 1


def test_a_manager_lists_nobody_elses_keys(api: Api, manager: Api, team: str) -> None:
    """Asking for another account's is refused, not answered with an empty list."""
    assert {item["owner"] for item in manager.list(limit=200)["items"]} == {team}
    assert error(manager.client.get("/keys", params={"owner": "admin"}), 403)["param"] == "owner"
    for path in ("/audit", "/accounts", f"/accounts/{team}"):
        assert error(manager.client.get(path), 403)["code"] == "permission_denied"
    assert error(manager.client.post("/accounts", json={"id": "x"}), 403)["code"] == "permission_denied"


def test_a_manager_without_an_account_has_no_keys_to_list(api: Api, address: str) -> None:
    """Keys that belong to no account are not the common property of those who have none."""
    key = api.create("nobody's manager", **MANAGER)
    with Api(address, key["secret"]) as found:
        assert error(found.client.get("/keys"), 403)["code"] == "permission_denied"
        assert error(found.client.get(f"/keys/{api.create('other')['id']}"), 404)["code"] == "not_found"


def test_a_key_for_calls_manages_nothing(api: Api, address: str) -> None:
    """The error names the scope that is missing; without a key there is a challenge."""
    with Api(address, api.create("plain")["secret"]) as found:
        for method, path in [("GET", "/keys"), ("POST", "/keys"), ("GET", "/audit"), ("GET", "/accounts")]:
            assert "scope" in error(found.client.request(method, path), 403)["message"]
        del found.client.headers["authorization"]
        assert found.client.get("/keys").headers["www-authenticate"]


def test_a_key_that_is_revoked_stops_managing(manager: Api) -> None:
    """It can revoke itself, and that is the last thing it does."""
    (own,) = [item["id"] for item in manager.list()["items"] if item["name"] == "manager"]
    assert manager.change(own, "revoke")["status"] == "revoked"
    assert error(manager.client.get("/keys"), 401)["code"] == "invalid_api_key"


# Lists


def test_a_list_in_parts_neither_repeats_nor_skips(api: Api, team: str) -> None:
    """Although keys are made and revoked in between."""
    made = [api.create(f"part {number}", owner=team)["id"] for number in range(7)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api.list(owner=team, limit=2, sort="created", **after)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
        if len(seen) == 2:
            api.change(made[0], "revoke")
            made.append(api.create("late", owner=team)["id"])
    assert seen == made


def test_lists_are_filtered_and_ordered(api: Api, team: str) -> None:
    """By account, status and text, by any of the orders."""
    names = ["beta", "alpha", "gamma"]
    ids = {name: api.create(name, owner=team, note=f"note of {name}")["id"] for name in names}
    api.change(ids["beta"], "disable")
    api.change(ids["gamma"], "revoke")

    def found(**filters: Any) -> list[str]:
        return [item["name"] for item in api.list(owner=team, **filters)["items"]]

    assert found(sort="name") == ["alpha", "beta", "gamma"]
    assert found(sort="-name") == ["gamma", "beta", "alpha"]
    assert found(sort="-created") == names[::-1]
    assert found(status="disabled") == ["beta"]
    assert found(status="revoked") == ["gamma"]
    assert found(text="OF ALPHA") == ["alpha"]
    assert found(text=ids["beta"]) == ["beta"]
    assert found(text="100%") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("status=gone", "status"),
        ("sort=secret", "sort"),
        ("after=%00", "after"),
        ("after=zzz", "after"),
        ("after=WyJuYW1lIiwiXHUwMDAwIiwieCJd", "after"),
        ("text=%00", "text"),
        ("owner=%0a", "owner"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_filter_that_cannot_be_is_named(api: Api, query: str, param: str) -> None:
    """Unknown ones too, for a filter that is passed over shows more than was asked for."""
    assert error(api.client.get(f"/keys?{query}"), 400)["param"] == param


def test_the_audit_log_says_who_when_and_what(api: Api, manager: Api, address: str, team: str) -> None:
    """With the request's id and the client's address; filtered by actor; the newest first, in parts."""
    manager_id = manager.list()["items"][0]["id"]
    body = {"name": "logged", "owner": team, "models": ["GigaChat-2"], "limits": {"rpm": 1}}
    made = manager.client.post("/keys", json=body, headers={"x-request-id": "made-it"}).json()
    api.update(made["id"], name="renamed")
    update, create = api.audit(made["id"])["items"]
    assert (create["actor"], create["request_id"], create["client"]) == (manager_id, "made-it", "127.0.0.1")
    assert (create["action"], create["object"], create["before"]) == ("key.create", made["id"], None)
    assert (update["actor"], update["before"]["name"], update["after"]["name"]) == ("static:admin", "logged", "renamed")
    assert update["at"] >= create["at"]
    assert [entry["id"] for entry in api.ask("GET", "/audit", params={"actor": manager_id})["items"]] == [create["id"]]
    first = api.ask("GET", f"/keys/{made['id']}/audit", params={"limit": 1})
    second = api.ask("GET", f"/keys/{made['id']}/audit", params={"limit": 1, "after": first["next"]})
    assert [first["items"][0], second["items"][0]] == [update, create]
    assert second["next"] is None


# Below a mount point


def test_the_api_works_with_an_admin_key_of_the_configuration(address: str) -> None:
    """So that the first key of an installation can be made by HTTP."""
    headers = {"x-api-key": ADMIN_KEY}
    made = httpx.post(f"{address}/api/admin/keys", json={"name": "first"}, headers=headers, trust_env=False)
    assert made.status_code == 201
    assert re.fullmatch(r"gk_live_[0-9A-Za-z]{42}", made.json()["secret"])
