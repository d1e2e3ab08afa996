"""No way round the rule that a key makes no stronger one: by limits of the configuration, by tokens, by clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.testing import running
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Created, KeyLimits, KeySpec

from .conftest import OPERATOR, text_of
from .oauth_world import World, world
from .surfaces import Api, Place
from .web.browser import Browser
from .web.seeding import add_people, seeded_gateway

EACH_KEY = {"each_key": {"rpm": 20}}
MANAGER = ("inference", "usage", "keys")


async def made(there: World, **spec: Any) -> Created:
    """A key of ann's, as the operator makes it."""
    wanted = KeySpec(**{"name": "x", "owner": "ann", "scopes": MANAGER, **spec})
    secrets = there.authority.running.secrets
    return await there.authority.write(lambda session: store.create(session, OPERATOR, wanted, secrets=secrets))


def bearer(secret: str) -> dict[str, str]:
    """The header of whoever has this secret."""
    return {"authorization": f"Bearer {secret}"}


async def ask(there: World, method: str, path: str, by: dict[str, str], **body: Any) -> tuple[int, Any]:
    """Status and document, or error, of a request to the management API."""
    answer = await there.http.request(method, f"/api/admin{path}", json=body, headers=by)
    document = answer.json()
    return answer.status_code, document.get("error", document)


@pytest.mark.parametrize(("own", "most"), [(None, 20), (100, 100)])
async def test_a_key_is_bound_by_the_limits_of_the_configuration(url: str, own: int | None, most: int) -> None:
    """It gives neither itself nor another more than `each_key` allows, or than it has of its own instead."""
    async with world(url, limits=EACH_KEY) as there:
        maker = await made(there, limits=KeyLimits(rpm=own))
        by = bearer(text_of(maker))
        body = {"name": "y", "owner": "ann", "scopes": MANAGER}
        assert (await ask(there, "POST", "/keys", by, **body, limits={"rpm": most}))[0] == 201
        for method, path in (("POST", "/keys"), ("PATCH", f"/keys/{maker.key.id}")):
            more = body if method == "POST" else {}
            status, refused = await ask(there, method, path, by, **more, limits={"rpm": most + 1})
            assert (status, refused["param"]) == (403, "limits")


async def test_a_named_key_of_the_configuration_is_bound_by_its_limits(url: str) -> None:
    """Whoever has it makes no key with more."""
    async with world(url, limits={"keys": {"static:admin": {"rpm": 30}}}) as there:
        body = {"name": "y", "scopes": ["usage"]}
        assert (await ask(there, "POST", "/keys", there.operator, **body, limits={"rpm": 30}))[0] == 201
        assert (await ask(there, "POST", "/keys", there.operator, **body))[0] == 403


def test_a_member_is_bound_by_the_limits_of_the_configuration(tmp_path: Path) -> None:
    """On the pages a member makes no key beyond `each_key`, but goes on with what an admin gave; an admin gives it."""
    gateway = seeded_gateway(tmp_path, keys={"pepper": "p" * 40}, limits=EACH_KEY)
    with running(gateway) as address, Browser(address, "en") as admin, Browser(address, "en") as member:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
        admin.sign_in("anna")
        member.sign_in("boris")
        form = {"name": "large", "rpm": "21", "lifetime": "30", "owner": "boris", "models": "GigaChat-2"}
        page = member.send(member.get("/admin/keys/new"), "/admin/keys/new", **form)
        assert (page.status, "cannot allow more" in page.words) == (403, True)
        assert admin.send(admin.get("/admin/keys/new"), "/admin/keys/new", **form).status == 200
        with gateway.storage.transaction(write=False) as session:
            (key,) = store.find(session, text="large").items
        path = f"/admin/keys/{key.id}"
        assert member.send(member.get(f"{path}/rotate"), f"{path}/rotate", grace="0").status == 200


async def test_a_token_makes_no_key_that_outlives_it(url: str) -> None:
    """One of which nothing is said ends with the token."""
    async with world(url) as there:
        app = await there.client(scopes=MANAGER)
        token = (await there.tokens(app, scopes=MANAGER))["access_token"]
        body = {"name": "y", "owner": "ann"}
        status, key = await ask(there, "POST", "/keys", bearer(token), **body)
        assert status == 201, key
        assert datetime.fromisoformat(key["expires"]) <= datetime.now(UTC) + timedelta(hours=1)
        later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        for expires in (later, None):
            status, refused = await ask(there, "POST", "/keys", bearer(token), **body, expires=expires)
            assert (status, refused["param"]) == (403, "expires")


async def test_a_client_has_no_rights_that_its_maker_has_not(url: str) -> None:
    """Of those that it has by itself; what people let it do is theirs. A key that is bound makes none at all."""
    service = {"name": "job", "confidential": True, "grants": ["client_credentials"], "redirect_uris": []}
    async with world(url) as there:
        admin = bearer(text_of(await made(there, owner=None, scopes=("admin",))))
        status, refused = await ask(there, "POST", "/clients", admin, **service, scopes=["inference"])
        assert (status, refused["param"]) == (403, "scopes")
        status, client = await ask(there, "POST", "/clients", admin, **service, scopes=["usage"])
        assert status == 201
        path = f"/clients/{client['id']}"
        assert (await ask(there, "PATCH", path, admin, scopes=["inference"]))[0] == 403
        bound = bearer(text_of(await made(there, owner=None, scopes=("admin", *MANAGER), models=("small-*",))))
        for method, of, body in (
            ("POST", "/clients", {**service, "scopes": ["usage"]}),
            ("PATCH", path, {"name": "other"}),
            ("POST", f"{path}/secret", {}),
        ):
            status, refused = await ask(there, method, of, bound, **body)
            assert (status, "models" in refused["message"]) == (403, True)


def test_without_the_plugin_of_limits_keys_are_managed_all_the_same(tmp_path: Path) -> None:
    """There is nothing of the configuration to keep to then."""
    place = Place(tmp_path, '[plugins]\nblocked = ["limits"]\n')
    with running(place.gateway()) as address, Api(address) as api:
        key = api.create("y", limits={"rpm": 5})
        assert api.update(key["id"], limits={"rpm": 6})["limits"] == {"rpm": 6}
        assert api.create_account("ann")["id"] == "ann"
