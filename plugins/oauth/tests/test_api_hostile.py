"""Whatever is sent to the management of keys, it is done or refused: never a 500, on either database."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit import Gateway
from gatewaykit.testing import running

from .conftest import PEPPER
from .surfaces import ADMIN_KEY, Api

FIELDS = [
    *("name", "owner", "scopes", "models", "routes", "networks", "expires", "limits", "note"),
    *("rpm", "tpm", "budget", "budget_period", "grace", "id", "kind", "enabled"),
]
SOUND: dict[str, Any] = {"name": "a key", "expires": "2031-01-01T00:00:00Z"}
BITS = st.sampled_from(
    ["*", "\0", "\u202e", "\n", "\x9b", "'", "%", "\\", "[", "💶", "10.0.0.0/8", "::/0", "month", ""]
)
TEXT = st.text(max_size=8) | BITS | st.lists(BITS, max_size=4).map("".join)
MOMENTS = st.datetimes(timezones=st.timezones() | st.none(), allow_imaginary=False).map(
    lambda moment: moment.isoformat()
) | st.sampled_from(["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2031-02-30T00:00:00Z"])
NUMBERS = st.integers() | st.integers(0, 100) | st.sampled_from([2**53, 2**63, 2**64, 10**400])
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT | MOMENTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | TEXT, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)
LIMITS = st.dictionaries(st.sampled_from(["rpm", "budget", "concurrency", "budget_period", "x"]), SCALARS, max_size=3)
TYPED = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT,
        "note": TEXT,
        "owner": TEXT | st.none(),
        "scopes": st.lists(st.sampled_from(["inference", "usage", "keys", "admin"]) | TEXT, max_size=4),
        "models": st.lists(TEXT, max_size=3),
        "routes": st.lists(TEXT, max_size=3),
        "networks": st.lists(TEXT, max_size=3),
        "expires": MOMENTS | st.none(),
        "limits": LIMITS,
    },
)
BODY = (BODIES | TYPED).flatmap(lambda body: st.sampled_from([body, {**SOUND, **body}]))
HEADERS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)
hostile = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def api(url: str) -> Iterator[Api]:
    config = {
        "database": {"url": url},
        "keys": {"pepper": PEPPER},
        "static_keys": {"keys": {"admin": ADMIN_KEY}, "scopes": {"admin": ["admin", "inference", "usage"]}},
        "log": {"access": False},
    }
    with running(Gateway(config, environ={})) as address, Api(address) as found:
        yield found


def sound(response: httpx.Response, *good: int) -> bool:
    """Whether it was done; if it was refused, then in words."""
    if response.status_code in good:
        return True
    assert response.status_code in {400, 403, 404}, (response.request.content, response.text)
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    return False


@hostile
@given(body=BODY)
def test_no_body_makes_a_key_crash(api: Api, body: dict[str, Any]) -> None:
    """What is taken can be read again, listed, and found in the audit log."""
    made = api.client.post("/keys", content=json.dumps(body))
    if sound(made, 201):
        key = api.show(made.json()["id"])
        assert {**key, "secret": made.json()["secret"]} == made.json()
        assert key["name"].isprintable()
        assert api.list(limit=1)["items"] == [key]
        assert api.audit(key["id"])["items"][0]["after"]["name"] == key["name"]


@hostile
@given(body=BODY, rotation=BODIES, rest=st.sampled_from(["rotate", "cut", "enable", "disable"]))
def test_no_body_makes_a_change_crash(api: Api, body: dict[str, Any], rotation: dict[str, Any], rest: str) -> None:
    """What is refused has changed nothing."""
    known = api.list(limit=1)["items"] or [api.create("changed")]
    before = api.show(known[0]["id"])
    changed = api.client.patch(f"/keys/{before['id']}", content=json.dumps(body))
    if not sound(changed, 200):
        assert api.show(before["id"]) == before
    rotated = api.client.post(f"/keys/{before['id']}/{rest}", content=json.dumps(rotation))
    sound(rotated, 200)


@hostile
@given(body=BODIES | st.fixed_dictionaries({"id": TEXT}, optional={"name": TEXT, "limits": LIMITS, "kind": TEXT}))
def test_no_body_makes_an_account_crash(api: Api, body: dict[str, Any]) -> None:
    """Neither a new one nor a change of one."""
    made = api.client.post("/accounts", content=json.dumps(body))
    if sound(made, 201):
        assert api.show_account(made.json()["id"]) == made.json()
    if not api.list_accounts()["items"]:
        api.create_account("somebody")
    changes = {name: value for name, value in body.items() if name != "id"}
    sound(api.client.patch(f"/accounts/{api.list_accounts()['items'][0]['id']}", content=json.dumps(changes)), 200)


@hostile
@given(
    body=st.binary(max_size=60),
    path=TEXT,
    repetition=HEADERS,
)
def test_no_bytes_crash(api: Api, body: bytes, path: str, repetition: str) -> None:
    """As a body, in the path, or as an idempotency key."""
    sound(api.client.post("/keys", content=body), 201)
    named = quote(path, safe="") or "x"
    for rest in ("", "/audit"):
        sound(api.client.get(f"/keys/{named}{rest}"), 200)
    sound(api.client.get(f"/accounts/{named}"), 200)
    sound(api.client.post(f"/keys/{named}/revoke"), 200)
    header = {"Idempotency-Key": repetition.strip().encode("latin-1")}
    sound(api.client.post("/keys", json=SOUND, headers=header), 201, 200)


@hostile
@given(
    query=st.dictionaries(
        st.sampled_from(["owner", "status", "text", "sort", "after", "limit", "actor", "x"]),
        TEXT | st.sampled_from(["name", "-expires", "active", "1"]),
        max_size=3,
    ),
    place=st.tuples(st.sampled_from(["name", "-created", "expires"]), TEXT | MOMENTS, TEXT),
)
def test_no_query_crashes(api: Api, query: dict[str, str], place: tuple[str, str, str]) -> None:
    """Filters, orders, and places in lists that nobody has handed out."""
    forged = base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")
    for path in ("/keys", "/audit", "/accounts"):
        sound(api.client.get(f"{path}?{urlencode(query)}"), 200)
    sound(api.client.get("/keys", params={"sort": place[0], "after": forged}), 200)
