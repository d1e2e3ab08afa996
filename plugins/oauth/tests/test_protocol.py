"""What the endpoints do with requests that are wrong: always an error of the protocol, and never one of the server.

The numbers of gaps are those of a list of what authlib's own server side leaves open; each is closed here by a test.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit_oauth.schema import metadata
from gatewaykit_oauth.server import ending
from gatewaykit_oauth.server.errors import OAuth2Error
from gatewaykit_oauth.server.forms import parse
from gatewaykit_oauth.server.redirects import is_registered, is_safe

from .oauth_world import CALLBACK, EVERYTHING, ISSUER, VERIFIER, World, world
from .test_tokens import refused


@pytest.fixture
async def there(sqlite_url: str) -> AsyncIterator[World]:
    """A gateway that also lets clients register themselves."""
    async with world(sqlite_url, oauth={"registration": True}) as found:
        yield found


def basic(name: str | bytes, secret: str = "") -> dict[str, str]:
    """The header of RFC 7617."""
    text = name if isinstance(name, bytes) else f"{name}:{secret}".encode()
    return {"authorization": "Basic " + base64.b64encode(text).decode()}


async def test_gap_2_a_code_is_redeemed_once(there: World) -> None:
    """Gap 2: a second redemption gets nothing and ends what the first one gave."""
    made = await there.client()
    code = await there.code(made)
    tokens = (await there.redeem(made, code)).json()
    refused(await there.redeem(made, code), "invalid_grant")
    assert not await there.is_good(tokens["access_token"])


async def test_gap_4_basic_that_cannot_be_read(there: World) -> None:
    """Gap 4: what is no UTF-8, no base64, or has no colon is 401 with a challenge."""
    form = {"grant_type": "client_credentials"}
    for header in (
        basic(b"\xff\xfe:\xff"),
        basic(b"no colon".replace(b":", b"")[:8]),
        {"authorization": "Basic !!!"},
        {"authorization": "Basic"},
        {"authorization": "Bearer x"},
        basic("%ff%fe", "x"),
    ):
        answer = await there.http.post("/oauth/token", data=form, headers=header)
        refused(answer, "invalid_client", 401)
        assert answer.headers["www-authenticate"].startswith("Basic realm=")


async def test_gap_5_behind_a_proxy_that_speaks_tls(there: World) -> None:
    """Gap 5: the scheme and host of a request do not matter; addresses come from the configuration."""
    made = await there.client()
    code = await there.code(made)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "redirect_uri": CALLBACK}
    url = "http://10.0.0.7/oauth/token"
    answer = await there.http.post(url, data={**form, "client_id": made.client.id}, headers={"host": "evil.test"})
    assert answer.status_code == 200
    answer = await there.http.get(
        "http://evil.test/.well-known/oauth-authorization-server", headers={"x-forwarded-host": "evil.test"}
    )
    assert answer.json()["issuer"] == ISSUER
    assert "evil" not in answer.text


async def test_gap_6_nothing_comes_twice(there: World) -> None:
    """Gap 6: a repeated parameter, two ways to authenticate, or two client ids are ``invalid_request``."""
    made = await there.client("job", confidential=True, grants=EVERYTHING)
    client, secret = made.client.id, made.secret or ""
    twice = [("grant_type", "authorization_code"), ("code", "a"), ("code", "b"), ("client_id", client)]
    answer = await there.http.post(
        "/oauth/token",
        content="&".join(f"{name}={value}" for name, value in twice),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    refused(answer, "invalid_request")
    form = {"grant_type": "client_credentials"}
    both = {**form, "client_id": client, "client_secret": secret}
    refused(await there.http.post("/oauth/token", data=both, headers=basic(client, secret)), "invalid_request")
    other = {**form, "client_id": "client_other"}
    refused(await there.http.post("/oauth/token", data=other, headers=basic(client, secret)), "invalid_request")
    assert (await there.http.post("/oauth/token", data=form, headers=basic(client, secret))).status_code == 200


async def test_gap_7_methods_and_grant_types(there: World) -> None:
    """Gap 7: no grant type is ``invalid_request``, an unknown one ``unsupported_grant_type``, and GET is 405;
    ``password`` and ``implicit`` do not exist."""
    made = await there.client()
    refused(await there.token(made), "invalid_request")
    for kind in ("password", "implicit", "кот", 'x"', "urn:ietf:params:oauth:grant-type:token-exchange"):
        refused(await there.token(made, grant_type=kind), "unsupported_grant_type")
    refused(await there.token(made, grant_type="client_credentials"), "unauthorized_client")
    for method in ("GET", "PUT", "DELETE"):
        answer = await there.http.request(method, "/oauth/token?grant_type=authorization_code")
        refused(answer, "invalid_request", 405)
        assert answer.headers["allow"] == "POST"
    answer = await there.http.post("/oauth/token", json={"grant_type": "authorization_code"})
    refused(answer, "invalid_request")
    answer = await there.http.post("/oauth/token?grant_type=authorization_code&client_id=" + made.client.id)
    refused(answer, "invalid_request")


async def test_gap_8_clients_cannot_be_found_out(there: World) -> None:
    """Gap 8: an unknown client, a wrong secret, a missing one, one too many and a disabled client get one answer."""
    made, public = await there.client("job", confidential=True), await there.client()
    form = {"grant_type": "authorization_code", "code": "gka_x", "code_verifier": VERIFIER}
    answers = [
        await there.http.post("/oauth/token", data={**form, **credentials})
        for credentials in (
            {"client_id": "client_none", "client_secret": "gkc_x"},
            {"client_id": made.client.id, "client_secret": "gkc_x"},
            {"client_id": made.client.id},
            {"client_id": "client_none"},
            {"client_id": public.client.id, "client_secret": "gkc_x"},
            {"client_id": "\u0442"},
        )
    ]
    for answer in answers:
        refused(answer, "invalid_client", 401)
    assert len({answer.text for answer in answers}) == 1


async def test_gap_9_registration(there: World) -> None:
    """Gap 9: no document breaks it; dangerous and missing addresses are refused; schemes of native apps are taken; a
    public client gets no secret."""
    good = {"redirect_uris": ["com.example.app:/cb"], "token_endpoint_auth_method": "none", "client_name": "App"}
    cases: list[tuple[Any, str]] = [
        ([], "invalid_client_metadata"),
        ("x", "invalid_client_metadata"),
        ({"redirect_uris": [1]}, "invalid_client_metadata"),
        ({"redirect_uris": None}, "invalid_client_metadata"),
        ({}, "invalid_redirect_uri"),
        ({**good, "grant_types": ["password"]}, "invalid_client_metadata"),
        ({**good, "grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({**good, "response_types": ["token"]}, "invalid_client_metadata"),
        ({**good, "token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({**good, "client_name": "x\u202e"}, "invalid_client_metadata"),
        ({**good, "redirect_uris": [f"https://a.test/{n}" for n in range(11)]}, "invalid_redirect_uri"),
        ({**good, "logo_uri": "x" * 16_384}, "invalid_client_metadata"),
    ]
    cases += [
        ({**good, "redirect_uris": [uri]}, "invalid_redirect_uri")
        for uri in (
            "http://evil.example/cb",
            "https://a/*",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://a/#x",
            "https://u@a/cb",
            "app:/cb",
            "https://a/%2e%2e/x",
            "http://127.0.0.1.evil.com/cb",
            "http://127.0.0.1:80@evil/cb",
            "https://a\\b/",
        )
    ]
    there.authority.running.pace.take = lambda *_: None  # type: ignore[method-assign]
    for document, error in cases:
        refused(await there.http.post("/oauth/register", json=document), error)
    refused(await there.http.post("/oauth/register", content=b"\xff{"), "invalid_client_metadata")
    refused(await there.http.post("/oauth/register", content=b"[" * 20_000), "invalid_client_metadata")
    answer = await there.http.post("/oauth/register", json=good)
    assert answer.status_code == 201
    assert "client_secret" not in answer.json()
    confidential = await there.http.post("/oauth/register", json={"redirect_uris": ["https://a.test/cb"]})
    assert confidential.json()["client_secret"].startswith("gkc_")


async def test_registration_is_managed_by_its_token(there: World) -> None:
    """Only the token that a registration gave reads and ends it (RFC 7592); and an address registers so often only."""
    good = {"redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"}
    made = (await there.http.post("/oauth/register", json=good)).json()
    path = made["registration_client_uri"].removeprefix(ISSUER)
    refused(await there.http.get(path), "invalid_token", 401)
    refused(await there.http.get(path, headers={"authorization": "Bearer gkr_x"}), "invalid_token", 401)
    own = {"authorization": f"Bearer {made['registration_access_token']}"}
    assert (await there.http.get(path, headers=own)).json()["client_id"] == made["client_id"]
    assert (await there.http.delete(path, headers=own)).status_code == 204
    refused(await there.http.get(path, headers=own), "invalid_token", 401)
    answers = [await there.http.post("/oauth/register", json=good) for _ in range(20)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_network_is_one_stranger(there: World) -> None:
    """Whoever has a whole network of IPv6 (/64) registers as often as one address, and another network does too."""

    async def register(client: str) -> int:
        transport = httpx.ASGITransport(there.gateway, client=(client, 4711))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            return (await http.post("/oauth/register", json={"redirect_uris": [CALLBACK]})).status_code

    assert [await register(f"2001:db8:0:1::{host:x}") for host in range(22)] == [201] * 20 + [429] * 2
    assert await register("2001:db8:0:2::1") == 201


@pytest.mark.parametrize("path", ["/oauth/register/%00", "/oauth/register/client_%00"])
async def test_no_database_is_asked_for_what_is_no_id(url: str, path: str) -> None:
    """Postgres takes no NUL in a text: what has one is nobody's id, and no failure."""
    async with world(url, oauth={"registration": True}) as there:
        refused(await there.http.get(path, headers={"authorization": "Bearer x"}), "invalid_token", 401)
        client = {"name": "x", "redirect_uris": [CALLBACK], "owner": "a\0"}
        answer = await there.http.post("/api/admin/clients", json=client, headers=there.operator)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "owner")


async def test_a_key_that_may_not_be_used_here(there: World) -> None:
    """A credential that is good, and not from this address, is refused in words of the protocol."""
    made = await there.http.post(
        "/api/admin/keys", json={"name": "k", "networks": ["10.0.0.0/8"]}, headers=there.operator
    )
    bearer = {"authorization": f"Bearer {made.json()['secret']}"}
    refused(await there.http.get("/oauth/userinfo", headers=bearer), "access_denied", 403)


async def test_registration_is_off_by_default(sqlite_url: str) -> None:
    """Nobody registers where the operator has not said so, and nothing speaks of it."""
    async with world(sqlite_url) as there:
        assert (await there.http.post("/oauth/register", json={})).status_code == 404
        found = (await there.http.get("/.well-known/oauth-authorization-server")).json()
        assert "registration_endpoint" not in found
        assert found["client_id_metadata_document_supported"] is False


async def test_gaps_10_to_12_which_key_and_how_long(there: World) -> None:
    """Gaps 10, 11 and 12: the one active key signs and is named; one number is the life in token, answer and table; it
    is an hour."""
    made = await there.client()
    signer = (await there.authority.running.keyring.keys()).signer
    for _ in range(5):
        tokens = await there.tokens(made)
        claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
        assert jwt.get_unverified_header(tokens["access_token"])["kid"] == signer.kid
        assert claims["exp"] - claims["iat"] == tokens["expires_in"] == 3600
    states = (await there.http.get("/api/admin/signing-keys", headers=there.operator)).json()["items"]
    assert sorted(key["state"] for key in states) == ["active", "next"]


async def test_gap_13_repr_shows_no_secret(there: World) -> None:
    """Gap 13: what might be logged by somebody has no secret in its text form."""
    made = await there.client("job", confidential=True)
    _, office = await there.authority.office()
    assert made.secret
    assert made.secret not in repr(made)
    form = parse(b"client_secret=sesame&code=tree")
    assert "sesame" not in repr(form)
    assert "tree" not in repr(form)
    assert "canary" not in repr(office.secrets)


def test_gap_14_no_table_holds_a_token() -> None:
    """Gap 14: secrets are digests or sealed bytes, never text; no column is cut at 255 characters."""
    secret = {"secret", "digest", "private", "successor", "registration", "user_code"}
    columns = [column for table in metadata.sorted_tables for column in table.columns if column.name in secret]
    assert {column.name for column in columns} >= secret
    assert all(column.type.python_type is bytes for column in columns)
    assert not [
        column for table in metadata.sorted_tables for column in table.columns if getattr(column.type, "length", 0)
    ]


async def test_gap_14_scopes_are_not_dropped_in_silence(there: World) -> None:
    """Gap 14: a scope that is not granted is an error."""
    made = await there.client("job", confidential=True, grants=EVERYTHING)
    refused(await there.token(made, grant_type="client_credentials", scope="inference admin"), "invalid_scope")


async def test_revocation_and_introspection(there: World) -> None:
    """RFC 7009 and 7662: 200 for everything but a missing token; nobody revokes or sees what belongs to another."""
    made, other = await there.client("a", confidential=True), await there.client("b", confidential=True)
    public = await there.client()
    tokens = await there.tokens(made)
    access, refresh = tokens["access_token"], tokens["refresh_token"]

    async def worth(client: Any, token: str) -> dict[str, Any]:
        data = {"token": token, "client_id": client.client.id, "client_secret": client.secret}
        answer = await there.http.post("/oauth/introspect", data=data)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        found: dict[str, Any] = answer.json()
        return found

    assert (await worth(made, access))["sub"] == "ann"
    assert (await worth(made, refresh))["active"] is True
    for client, token in ((other, access), (other, refresh), (made, "x"), (made, "gko_x"), (made, "a.b.c" * 999)):
        assert await worth(client, token) == {"active": False}
    refused(
        await there.http.post("/oauth/introspect", data={"token": access, "client_id": public.client.id}),
        "invalid_client",
        401,
    )
    refused(await there.revoke(made, ""), "invalid_request")
    for client in (other, public):
        for token in (access, refresh):
            assert (await there.revoke(client, token)).status_code == 200
    assert await there.is_good(access)
    for token in ("x", "gko_" + "x" * 42, access + "x", "кот"):
        assert (await there.revoke(made, token, token_type_hint="nonsense")).status_code == 200
    assert await there.is_good(access)
    assert (await there.revoke(made, refresh, token_type_hint="access_token")).status_code == 200
    assert not await there.is_good(access)
    assert await worth(made, access) == {"active": False}
    assert await worth(made, refresh) == {"active": False}


async def test_what_has_expired_is_not_active(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its last second on an access token is not active (RFC 7662, 2.2), as it opens nothing."""
    made = await there.client(confidential=True)
    token = (await there.tokens(made))["access_token"]
    end = jwt.decode(token, options={"verify_signature": False})["exp"]
    data = {"token": token, "client_id": made.client.id, "client_secret": made.secret}
    for moment, is_active in ((end - 1, True), (end, False)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert (await there.http.post("/oauth/introspect", data=data)).json()["active"] is is_active


async def test_endpoints_that_cost_are_paced(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks too often what tokens are worth, or for device codes, gets 429 with Retry-After."""
    monkeypatch.setattr(ending, "_A_MINUTE", 2)
    made = await there.client("a", confidential=True, grants=EVERYTHING)
    own = {"client_id": made.client.id, "client_secret": made.secret}
    for path, form, most in (("/oauth/introspect", {**own, "token": "x"}, 2), ("/oauth/device", own, 30)):
        answers = [await there.http.post(path, data=form) for _ in range(most + 1)]
        assert [answer.status_code for answer in answers] == [200] * most + [429], path
        assert int(answers[-1].headers["retry-after"]) > 0


async def test_metadata(there: World) -> None:
    """RFC 8414 and 9728: both forms, only addresses of the issuer, S256, ``none`` among the methods, CORS for all."""
    for path in ("oauth-authorization-server", "openid-configuration"):
        answer = await there.http.get(f"/.well-known/{path}")
        found = answer.json()
        assert answer.headers["access-control-allow-origin"] == "*"
        assert found["issuer"] == ISSUER
        assert found["code_challenge_methods_supported"] == ["S256"]
        assert found["response_types_supported"] == ["code"]
        assert "none" in found["token_endpoint_auth_methods_supported"]
        assert found["authorization_response_iss_parameter_supported"] is True
        assert not {"password", "implicit"} & set(found["grant_types_supported"])
        assert {"openid", "inference"} <= set(found["scopes_supported"])
        assert found["client_id_metadata_document_supported"] is False
        for name in ("authorization", "token", "revocation", "introspection", "registration", "userinfo"):
            assert found[f"{name}_endpoint"].startswith(f"{ISSUER}/oauth/"), name
        assert found["jwks_uri"] == f"{ISSUER}/oauth/jwks"
    for path in ("", "/v1"):
        found = (await there.http.get(f"/.well-known/oauth-protected-resource{path}")).json()
        assert found["resource"] == f"{ISSUER}{path}"
        assert found["authorization_servers"] == [ISSUER]
        assert found["bearer_methods_supported"] == ["header"]
        assert "offline_access" not in found["scopes_supported"]
    assert (await there.http.get("/.well-known/oauth-protected-resource/x")).status_code == 404
    keys = (await there.http.get("/oauth/jwks")).json()["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "y", "kid", "alg", "use"}] * 2
    for path in ("/oauth/jwks", "/oauth/token", "/oauth/revoke", "/.well-known/oauth-protected-resource"):
        assert (await there.http.get(path)).headers["access-control-allow-origin"] == "*", path
    preflight = await there.http.options("/oauth/token", headers={"origin": "https://a.test"})
    assert preflight.status_code == 204
    assert "dpop" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers


async def test_an_issuer_with_a_path(sqlite_url: str) -> None:
    """The well-known part stands between host and path (RFC 8414, 3.1), and behind the path for OpenID Connect."""
    issuer = f"{ISSUER}/llm"
    async with world(sqlite_url, oauth={"issuer": issuer}) as there:
        for path in ("oauth-authorization-server/llm", "openid-configuration/llm", "openid-configuration"):
            found = (await there.http.get(f"/.well-known/{path}")).json()
            assert found["issuer"] == issuer
            assert found["token_endpoint"] == f"{issuer}/oauth/token"
        found = (await there.http.get("/.well-known/oauth-protected-resource/llm/v1")).json()
        assert found["resource"] == f"{issuer}/v1"
        challenge = (await there.http.get("/v1/models")).headers["www-authenticate"]
        assert f'resource_metadata="{ISSUER}/.well-known/oauth-protected-resource/llm/v1"' in challenge


# Parsers


@pytest.mark.parametrize(
    ("registered", "asked", "is_one"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", True),
        ("http://[::1]/cb?x=1", "http://[::1]:80/cb?x=1", True),
        ("http://localhost/callback", "http://localhost:49152/callback", True),
        ("http://localhost/cb", "http://127.0.0.1/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb/", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb?x=1", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb#x", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1.evil.com/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1@evil/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil/cb", False),
        ("http://127.0.0.1/cb", "HTTP://127.0.0.1/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1/x/%2e%2e/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1\\@evil/cb", False),
        ("https://a.test/cb", "https://a.test:444/cb", False),
        ("https://a.test/cb", "https://a.test/cb", True),
    ],
)
def test_redirect_uris(registered: str, asked: str, is_one: bool) -> None:
    """Letter by letter, but for the port of a loopback address (RFC 8252, 7.3)."""
    assert is_registered(asked, [registered]) is is_one


@given(st.text(max_size=60))
def test_only_good_addresses_are_safe(text: str) -> None:
    """Whatever follows a good host, an address that counts as safe leads to that host as httpx reads it, too."""
    uri = f"https://a.test/{text}"
    if is_safe(uri):
        assert httpx.URL(uri).host == "a.test"
        assert not httpx.URL(uri).fragment
    assert not is_safe(f"http://a.test/{text}")
    assert not is_safe(f"javascript:{text}")


@given(st.binary(max_size=200))
def test_forms_are_read_or_refused(text: bytes) -> None:
    """Any bytes are parameters or an error of the protocol, and no NUL comes through."""
    try:
        form = parse(text)
        kind = None if not [value for name, value in form.pairs if "\0" in name + value] else "NUL"
    except OAuth2Error as error:
        kind = error.error
    assert kind in {None, "invalid_request"}


NAMES = ["grant_type", "code", "code_verifier", "redirect_uri", "client_id", "client_secret", "refresh_token"]
NAMES += ["token", "scope", "resource", "device_code", "token_type_hint"]
FORMS = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(st.sampled_from([*EVERYTHING, "openid", VERIFIER, ISSUER]), st.text(max_size=50)),
)


async def test_no_form_breaks_an_endpoint(there: World) -> None:
    """Whatever is sent to any endpoint, by whomever, the answer is below 500 and says ``no-store``."""
    import asyncio

    made = await there.client("job", confidential=True, grants=EVERYTHING)
    loop = asyncio.get_running_loop()
    paths = ("/oauth/token", "/oauth/revoke", "/oauth/introspect", "/oauth/device")

    async def ask(path: str, form: dict[str, str], *, own: bool, header: str) -> None:
        credentials = {"client_id": made.client.id, "client_secret": made.secret} if own else {}
        headers = {"dpop": header.encode("utf-8").decode("latin-1")} if header else {}
        try:
            answer = await there.http.post(path, data={**form, **credentials}, headers=headers)
        except UnicodeEncodeError:
            return
        assert answer.status_code < 500, (form, answer.text)
        assert answer.headers["cache-control"] == "no-store"

    @given(st.sampled_from(paths), FORMS, st.booleans(), st.text(max_size=20))
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def run(path: str, form: dict[str, str], own: bool, header: str) -> None:
        asyncio.run_coroutine_threadsafe(ask(path, form, own=own, header=header), loop).result(30)

    await asyncio.to_thread(run)
