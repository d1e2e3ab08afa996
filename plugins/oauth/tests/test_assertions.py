"""Clients that sign who they are (``private_key_jwt``, RFC 7523): each assertion is for us, for now, and for once."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit_oauth.server import assertions
from gatewaykit_oauth.server.documents import described_client

from .oauth_world import CALLBACK, ISSUER, World, oauth_gateway, world

TOKEN_URL = f"{ISSUER}/oauth/token"


class Signer:
    """A client's key."""

    def __init__(self, private: Any = None, algorithm: str = "ES256", kid: str | None = "one") -> None:
        self.private = private or ec.generate_private_key(ec.SECP256R1())
        self.algorithm = algorithm
        self.kid = kid
        public = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        self.jwks = {"keys": [{**public, "use": "sig", **({"kid": kid} if kid else {})}]}

    def form(self, client_id: str, **changed: Any) -> dict[str, str]:
        """What goes with a request; ``changed`` are other claims (None: none), or with ``header_`` another header."""
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
        }
        header = {"kid": self.kid} if self.kid else {}
        for name, value in changed.items():
            (header if name.startswith("header_") else claims)[name.removeprefix("header_")] = value
        claims = {name: value for name, value in claims.items() if value is not None}
        text = jwt.encode(claims, self.private, algorithm=self.algorithm, headers=header or None)
        return {"client_assertion_type": assertions.TYPE, "client_assertion": text}


async def own_token(there: World, **form: str) -> httpx.Response:
    """The answer to a request for a client's own token."""
    return await there.http.post(
        "/oauth/token", data={"grant_type": "client_credentials", "scope": "inference", **form}
    )


async def signing(there: World, signer: Signer) -> str:
    """The id of a client with this key."""
    made = await there.client(
        confidential=True, jwks=signer.jwks, grants=("client_credentials",), owner="ann", redirect_uris=()
    )
    assert made.secret is None
    return made.client.id


@pytest.mark.parametrize(
    ("private", "algorithm", "kid"),
    [
        (None, "ES256", "one"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384", None),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA", "one"),
        (rsa.generate_private_key(public_exponent=65_537, key_size=2048), "RS256", None),
        (rsa.generate_private_key(public_exponent=65_537, key_size=2048), "PS256", "one"),
    ],
)
async def test_a_client_signs(sqlite_url: str, private: Any, algorithm: str, kid: str | None) -> None:
    """It gets its token, and may revoke and introspect it, each time with a new assertion; it has no secret."""
    signer = Signer(private, algorithm, kid)
    async with world(sqlite_url) as there:
        client = await signing(there, signer)
        answer = await own_token(there, **signer.form(client))
        assert answer.status_code == 200, answer.text
        token = answer.json()["access_token"]
        assert await there.is_good(token)
        for path, audience in (("introspect", f"{ISSUER}/oauth/introspect"), ("revoke", ISSUER), ("token", TOKEN_URL)):
            form = {"token": token, "grant_type": "client_credentials", **signer.form(client, aud=[audience, "other"])}
            assert (await there.http.post(f"/oauth/{path}", data=form)).status_code == 200
        assert not await there.is_good(token)


async def test_the_address_of_a_mounted_endpoint(sqlite_url: str) -> None:
    """Where the gateway is mounted, an endpoint's address is the issuer with its path below that point."""
    signer, issuer = Signer(), f"{ISSUER}/llm"
    async with world(sqlite_url, oauth={"issuer": issuer}) as there:
        client = await signing(there, signer)
        transport = httpx.ASGITransport(there.gateway, root_path="/llm")
        async with httpx.AsyncClient(transport=transport, base_url=issuer) as http:
            for audience in (issuer, f"{issuer}/oauth/token", f"{issuer}/oauth/introspect"):
                form = {"token": "x", **signer.form(client, aud=audience)}
                assert (await http.post("/oauth/introspect", data=form)).status_code == 200, audience


async def test_what_is_no_good_assertion(sqlite_url: str) -> None:
    """Another audience, too old, too long a life, without a name, by another key, about somebody else, in a second way:
    all refused, those that could tell who exists with one answer."""
    signer, other = Signer(), Signer()
    async with world(sqlite_url) as there:
        client, plain = await signing(there, signer), await there.client("plain", confidential=True)
        now = int(time.time())
        wrong: list[dict[str, str]] = [
            signer.form(client, aud="https://evil.example"),
            signer.form(client, aud=f"{ISSUER}/oauth/revoke"),
            signer.form(client, exp=now - 60),
            signer.form(client, exp=now + 7200),
            signer.form(client, exp=None),
            signer.form(client, exp=str(now + 60)),
            signer.form(client, nbf=now + 600),
            signer.form(client, jti=None),
            signer.form(client, jti="x" * 300),
            signer.form(client, jti=7),
            signer.form(client, iss="client_other"),
            signer.form(client, header_kid="two"),
            signer.form(client, header_crit=["exp"]),
            signer.form(plain.client.id),
            signer.form("client_unknown"),
            other.form(client),
            {**signer.form(client), "client_id": plain.client.id},
            {"client_assertion_type": assertions.TYPE, "client_assertion": "eyJ.a.b"},
            {"client_assertion_type": assertions.TYPE, "client_assertion": "x" * 9000},
        ]
        answers = [await own_token(there, **form) for form in wrong]
        assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
        assert answers[0].json()["error"] == "invalid_client"
        good = signer.form(client)
        for form in (
            {**good, "client_assertion_type": "urn:other"},
            {"client_assertion_type": assertions.TYPE},
            {"client_assertion": good["client_assertion"]},
            {**good, "client_secret": "gkc_x"},
        ):
            answer = await own_token(there, **form)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        basic = await there.http.post(
            "/oauth/token", data={"grant_type": "client_credentials", **good}, auth=("a", "b")
        )
        assert (basic.status_code, basic.json()["error"]) == (400, "invalid_request")
        for form in ({"client_id": client}, {"client_id": client, "client_secret": "gkc_x"}):
            assert (await own_token(there, **form)).status_code == 401
        assert (await own_token(there, **good)).status_code == 200


async def test_an_assertion_counts_once(url: str) -> None:
    """Not again at the same gateway, nor at another over the same database."""
    signer = Signer()
    async with world(url) as here:
        client = await signing(here, signer)
        form = signer.form(client)
        assert (await own_token(here, **form)).status_code == 200
        assert (await own_token(here, **form)).status_code == 401
        gateway = oauth_gateway(url)
        transport = httpx.ASGITransport(gateway)
        async with gateway, httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            there = World(gateway, http)
            assert (await own_token(there, **form)).status_code == 401
            assert (await own_token(there, **signer.form(client))).status_code == 200


async def test_keys_are_replaced(sqlite_url: str) -> None:
    """New keys count at once, the old ones no longer; private ones, small ones and none are refused."""
    signer, new = Signer(), Signer(kid=None)
    small = Signer(rsa.generate_private_key(public_exponent=65_537, key_size=1024), "RS256").jwks
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(signer.private))
    async with world(sqlite_url) as there:
        client = await signing(there, signer)
        path = f"/api/admin/clients/{client}"
        for jwks in (
            {"keys": []},
            {"keys": [private]},
            small,
            {"keys": [{"kty": "oct", "k": "AAAA"}]},
            {"keys": 7},
            {},
        ):
            answer = await there.http.patch(path, json={"jwks": jwks}, headers=there.operator)
            assert answer.status_code == 400, jwks
        answer = await there.http.patch(path, json={"jwks": new.jwks}, headers=there.operator)
        assert answer.json()["jwks"] == new.jwks
        assert (await own_token(there, **signer.form(client))).status_code == 401
        assert (await own_token(there, **new.form(client))).status_code == 200
        public = await there.client("public")
        path = f"/api/admin/clients/{public.client.id}"
        assert (await there.http.patch(path, json={"jwks": new.jwks}, headers=there.operator)).status_code == 400


async def test_by_authlib(sqlite_url: str) -> None:
    """A client of authlib's signs as it does for others, and is understood."""
    signer = Signer(rsa.generate_private_key(public_exponent=65_537, key_size=2048), "RS256", None)
    pem = signer.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    async with world(sqlite_url) as there:
        client = await signing(there, signer)
        transport = there.http._transport
        async with AsyncOAuth2Client(
            client, pem.decode(), token_endpoint_auth_method="private_key_jwt", transport=_Through(transport)
        ) as http:
            http.register_client_auth_method(PrivateKeyJWT(TOKEN_URL))
            token = await http.fetch_token(TOKEN_URL, grant_type="client_credentials")
        assert await there.is_good(token["access_token"])


async def test_metadata_and_registration(sqlite_url: str) -> None:
    """The metadata name the method and its algorithms (RFC 8414, 2); a client may register with keys of its own, and
    not with half of what that needs."""
    signer = Signer()
    async with world(sqlite_url, oauth={"registration": True}) as there:
        found = (await there.http.get("/.well-known/oauth-authorization-server")).json()
        for endpoint in ("token", "revocation", "introspection"):
            assert "private_key_jwt" in found[f"{endpoint}_endpoint_auth_methods_supported"]
            assert found[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] == list(assertions.ALGORITHMS)
        asked: dict[str, Any] = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt"}
        for wrong in (
            asked,
            {**asked, "jwks": {"keys": []}},
            {**asked, "jwks": {"keys": [{**signer.jwks["keys"][0], "alg": "none"}]}},
            {**asked, "jwks": signer.jwks, "token_endpoint_auth_method": "none"},
        ):
            answer = await there.http.post("/oauth/register", json=wrong)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
        made = (await there.http.post("/oauth/register", json={**asked, "jwks": signer.jwks})).json()
        assert made["token_endpoint_auth_method"] == "private_key_jwt"
        assert "client_secret" not in made
        answer = await there.http.post(
            "/oauth/token", data={"grant_type": "authorization_code", **signer.form(made["client_id"])}
        )
        assert "code" in answer.json()["error_description"]


def test_a_document_with_keys() -> None:
    """A client that describes itself may sign, with keys in its document; no secret, and no keys that are none."""
    where, signer = "https://client.example/app", Signer()
    document = {"client_id": where, "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt"}
    client = described_client(where, json.dumps({**document, "jwks": signer.jwks}).encode())
    assert client.confidential
    assert client.jwks == signer.jwks
    for wrong in ({}, {"jwks": {"keys": []}}, {"jwks": signer.jwks, "client_secret": "x"}):
        with pytest.raises(ValueError, match=r"keys|secret"):
            described_client(where, json.dumps({**document, **wrong}).encode())


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: f"eyJ.{data.hex()}.x"))
def test_any_text_is_an_assertion_or_none(text: str) -> None:
    """Nothing that a client sends breaks the reader."""
    found = assertions.read(text)
    assert found is None or assertions.check(found, Signer().jwks, (ISSUER,)) is None


class _Through:
    """From the HTTP library that authlib prefers to the one of these tests."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def __aenter__(self) -> _Through:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def handle_async_request(self, request: Any) -> Any:
        body = await request.aread()
        async with httpx.AsyncClient(transport=self._transport, base_url=ISSUER) as http:
            answer = await http.request(request.method, str(request.url), headers=dict(request.headers), content=body)
        kind = type(request).__module__.partition(".")[0]
        library = __import__(kind)
        return library.Response(
            answer.status_code, headers={"content-type": "application/json"}, content=answer.content
        )


def test_keys_by_command(tmp_path: Path) -> None:
    """``gatewaykit clients create --keys FILE`` makes a client that signs; a file without keys is refused."""
    from .surfaces import Place
    from .test_oauth_cli import OAUTH, done, run

    place, file = Place(tmp_path, OAUTH), tmp_path / "keys.json"
    file.write_text(json.dumps(Signer().jwks))
    made = done(place, "clients", "create", "Signs", "--grant", "credentials", "--keys", str(file))
    assert made["confidential"]
    assert made["secret"] is None
    file.write_text("[]")
    assert run(place, "clients", "create", "Signs", "--grant", "credentials", "--keys", str(file)).exit_code != 0
