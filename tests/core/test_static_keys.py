"""Keys of the configuration: what each may do is said beside them, and said wrongly it is a fault."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit import ConfigError, Gateway
from gatewaykit.guarding import answer, guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.settings import describe
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Principal

SECRET = "gk_static_0123456789abcdefghij"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class WhoAmI:
    """A plugin whose route tells what the caller may do."""

    name = "who-am-i"

    @hookimpl
    def gateway_routes(self, gateway: Any) -> list[Route]:
        async def show(request: Request, principal: Principal) -> Response:
            return answer({"id": principal.id, "scopes": sorted(principal.scopes)})

        return [Route("/who", guarded(gateway, USAGE, show))]


def make(**static_keys: Any) -> Gateway:
    return make_gateway(WhoAmI(), plugin_of(providers=[FakeProvider()]), static_keys=static_keys)


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ({}, [INFERENCE, USAGE]),
        ({"scopes": {"mine": [USAGE, KEYS]}}, [KEYS, USAGE]),
        ({"scopes": {"mine": [ADMIN]}}, [ADMIN]),
    ],
)
async def test_a_key_has_the_scopes_that_stand_beside_it(given: dict[str, Any], scopes: list[str]) -> None:
    """By default it calls models and reads its own usage; what is said replaces that."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    async with gateway_client(make(keys={"mine": f"sha256:{digest}"}, **given), SECRET) as client:
        assert (await client.get("/who")).json() == {"id": "static:mine", "scopes": scopes}


async def test_an_admin_key_calls_no_model_unless_that_was_given() -> None:
    """Whoever manages everything does not spend money by that."""
    async with gateway_client(make(keys={"boss": SECRET}, scopes={"boss": [ADMIN]}), SECRET) as client:
        refused = await client.post("/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    async with gateway_client(make(keys={"boss": SECRET}, scopes={"boss": [ADMIN, INFERENCE]}), SECRET) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ({"mine": ["admin", "boss"]}, "there is no boss, only inference, usage, keys, admin"),
        ({"mien": ["admin"]}, "scopes names keys that do not exist: mien"),
        ({"mine": "admin"}, "must be a list"),
    ],
)
def test_scopes_that_cannot_be_are_a_fault(scopes: Any, said: str) -> None:
    """The fault says which scope or which key is unknown, and repeats no key."""
    with pytest.raises(ConfigError) as caught:
        make(keys={"mine": SECRET}, scopes=scopes)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_configuration_shows_scopes_and_hides_keys() -> None:
    """In the order in which they were given."""
    rows = {row.path: row.value for row in describe(make(keys={"k": SECRET}, scopes={"k": [KEYS, ADMIN]}).settings)}
    assert rows["static_keys.scopes.k"] == '["keys", "admin"]'
    assert SECRET not in str(rows)
