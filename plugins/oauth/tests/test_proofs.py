"""Proof of possession (RFC 9449): a token that is bound to a key is worth nothing without that key."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit_oauth.server import proofs

from .oauth_world import ISSUER, VERIFIER, World, world
from .test_tokens import refused

TOKEN_URL = f"{ISSUER}/oauth/token"


class Key:
    """A client's key, and proofs of having it."""

    def __init__(self, private: Any = None, algorithm: str = "ES256") -> None:
        self.private = private or ec.generate_private_key(ec.SECP256R1())
        self.algorithm = algorithm
        kind = jwt.get_algorithm_by_name(algorithm)
        self.jwk = json.loads(kind.to_jwk(self.private.public_key()))
        self.jwk.pop("key_ops", None)

    def proof(self, method: str, url: str, token: str | None = None, **changed: Any) -> str:
        """A proof for one request; ``changed`` are other claims, or with ``header_`` in front another header."""
        claims: dict[str, Any] = {"jti": str(uuid.uuid4()), "htm": method, "htu": url, "iat": int(time.time())}
        if token is not None:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        header: dict[str, Any] = {"typ": "dpop+jwt", "jwk": self.jwk}
        for name, value in changed.items():
            (header if name.startswith("header_") else claims)[name.removeprefix("header_")] = value
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=header)


async def ask(there: World, token: str, proof: str | None, scheme: str = "DPoP") -> int:
    """The status of a request with this token and proof."""
    headers = {"authorization": f"{scheme} {token}", **({"dpop": proof} if proof else {})}
    answer = await there.http.get("/v1/models", headers=headers)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith(("DPoP ", "Bearer "))
    return answer.status_code


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (None, "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (rsa.generate_private_key(public_exponent=65_537, key_size=2048), "RS256"),
    ],
)
async def test_a_bound_token(sqlite_url: str, private: Any, algorithm: str) -> None:
    """The token says which key it is bound to; it works with a fresh proof of that key for that very request, and with
    nothing less."""
    url = f"{ISSUER}/v1/models"
    async with world(sqlite_url) as there:
        made, key, other = await there.client(bound=True), Key(private, algorithm), Key()
        code = await there.code(made)
        refused(await there.redeem(made, code), "invalid_dpop_proof")
        answer = await there.redeem(made, code, headers={"dpop": key.proof("POST", TOKEN_URL)})
        tokens = answer.json()
        token = tokens["access_token"]
        assert tokens["token_type"] == "DPoP"
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["cnf"] == {"jkt": proofs.thumbprint(key.jwk)}
        good = key.proof("GET", url, token)
        assert await ask(there, token, good) == 200
        wrong = [
            good,
            None,
            "x",
            other.proof("GET", url, token),
            key.proof("POST", url, token),
            key.proof("GET", f"{ISSUER}/v1/other", token),
            key.proof("GET", url),
            key.proof("GET", url, token + "x"),
            key.proof("GET", url, token, iat=int(time.time()) - 1000),
            key.proof("GET", url, token, iat=int(time.time()) + 1000),
            key.proof("GET", url, token, iat="now"),
            key.proof("GET", url, token, jti=""),
            key.proof("GET", url, token, jti=7),
            key.proof("GET", url, token, htu=7),
            key.proof("GET", url, token, header_typ="JWT"),
            key.proof("GET", url, token, header_jwk={**key.jwk, "d": "x"}),
            key.proof("GET", url, token, header_jwk={"kty": "oct", "k": "eA"}),
            key.proof("GET", url, token, header_jwk=other.jwk),
            key.proof("GET", url, token, header_jwk="x"),
        ]
        for one in wrong:
            assert await ask(there, token, one) == 401, one
        assert await ask(there, token, key.proof("GET", url, token), scheme="Bearer") == 401
        plain = (await there.tokens())["access_token"]
        assert await ask(there, plain, key.proof("GET", url, plain)) == 401


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/v1/models", "https://gateway.test:443/v1/models"),
        ("/v1/models", "HTTPS://Gateway.TEST/%761/models?x=1#y"),
        ("/v1/models/a%2Fb", "https://gateway.test/v1/models/a%2fb"),
        ("/v1/models/a%20%3F%25", "https://gateway.test/v1/models/a%20%3F%25"),
    ],
)
async def test_an_address_may_be_written_in_several_ways(sqlite_url: str, path: str, written: str) -> None:
    """A proof names the address of its request (RFC 3986, 6.2): with its port, or with letters that are encoded."""
    async with world(sqlite_url) as there:
        made, key = await there.client(bound=True), Key()
        proof = {"dpop": key.proof("POST", TOKEN_URL)}
        token = (await there.redeem(made, await there.code(made), headers=proof)).json()["access_token"]
        for address, is_good in ((written, True), (written.replace("1/models", "2/models"), False)):
            headers = {"authorization": f"DPoP {token}", "dpop": key.proof("GET", address, token)}
            answer = await there.http.get(path, headers=headers)
            assert (answer.status_code != 401) == is_good, (address, answer.text)


async def test_two_proofs_are_none(sqlite_url: str) -> None:
    """Of two DPoP headers none counts (RFC 9449, 4.3), and of two Authorization headers neither."""
    async with world(sqlite_url) as there:
        made, key = await there.client(confidential=True), Key()
        form = {"grant_type": "authorization_code", "code": await there.code(made), "code_verifier": VERIFIER}
        basic = base64.b64encode(f"{made.client.id}:{made.secret}".encode()).decode()
        proof, own = ("dpop", key.proof("POST", TOKEN_URL)), ("authorization", f"Basic {basic}")
        for headers, status in (([own, own, proof], 401), ([own, proof, proof], 400), ([own, proof], 200)):
            assert (await there.http.post("/oauth/token", data=form, headers=headers)).status_code == status


async def test_a_refresh_token_of_a_public_client_is_bound_too(sqlite_url: str) -> None:
    """Without the key a stolen refresh token is worth nothing, and does not end the grant; with it, it is."""
    async with world(sqlite_url) as there:
        made, key = await there.client(), Key()
        answer = await there.redeem(made, await there.code(made), headers={"dpop": key.proof("POST", TOKEN_URL)})
        token = answer.json()["refresh_token"]
        refused(await there.refresh(made, token), "invalid_grant")
        thief = {"dpop": Key().proof("POST", TOKEN_URL)}
        refused(await there.refresh(made, token, headers=thief), "invalid_grant")
        renewed = await there.refresh(made, token, headers={"dpop": key.proof("POST", TOKEN_URL)})
        assert renewed.json()["token_type"] == "DPoP"


async def test_a_proof_works_once(url: str) -> None:
    """A proof at the token endpoint works once, in whichever process; a code may name the key it is for."""
    from .test_token_revocation import second

    async with world(url) as here, second(url) as there:
        made, key = await here.client(), Key()
        proof = {"dpop": key.proof("POST", TOKEN_URL)}
        assert (await here.redeem(made, await here.code(made), headers=proof)).status_code == 200
        for gateway in (here, there):
            refused(await gateway.redeem(made, await here.code(made), headers=proof), "invalid_dpop_proof")
        code = await here.code(made, thumbprint=proofs.thumbprint(key.jwk))
        refused(await here.redeem(made, code), "invalid_grant")
        stranger = {"dpop": Key().proof("POST", TOKEN_URL)}
        refused(await here.redeem(made, code, headers=stranger), "invalid_grant")
        own = {"dpop": key.proof("POST", TOKEN_URL)}
        assert (await here.redeem(made, code, headers=own)).status_code == 200


@given(st.text(max_size=200))
def test_any_text_is_no_proof(text: str) -> None:
    """What is no proof is None, whatever it is."""
    assert proofs.check(text, "GET", ISSUER) is None


def test_too_many_proofs_are_refused() -> None:
    """When this process cannot remember more, no proof counts as new."""
    replays, now = proofs.Replays(size=2), int(time.time()) + 60
    first, second, third = (proofs.Proof("x", bytes([number]), now) for number in range(3))
    assert replays.is_new(first)
    assert not replays.is_new(first)
    assert replays.is_new(second)
    assert not replays.is_new(third)
    old = proofs.Replays(size=1)
    assert old.is_new(proofs.Proof("x", b"a", 1))
    assert old.is_new(third)


async def test_a_nonce_of_the_server(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is demanded (RFC 9449, 8), a proof without a nonce, with another's or an old one is answered with the
    right one, at the token endpoint and at the gateway; a proof with it is good, at another process too, and once."""
    url = f"{ISSUER}/v1/models"
    async with world(sqlite_url, oauth={"dpop_nonce": True}) as there:
        made, key = await there.client(bound=True), Key()

        async def redeem(**claims: Any) -> Any:
            return await there.redeem(
                made, await there.code(made), headers={"dpop": key.proof("POST", TOKEN_URL, **claims)}
            )

        for wrong in ({}, {"nonce": "x"}, {"nonce": 7}):
            answer = await redeem(**wrong)
            assert (answer.status_code, answer.json()["error"]) == (400, "use_dpop_nonce")
        nonce = answer.headers["dpop-nonce"]
        token = (await redeem(nonce=nonce)).json()["access_token"]
        headers = {"authorization": f"DPoP {token}", "dpop": key.proof("GET", url, token)}
        answer = await there.http.get("/v1/models", headers=headers)
        assert answer.status_code == 401
        assert 'error="use_dpop_nonce"' in answer.headers["www-authenticate"]
        assert answer.headers["dpop-nonce"] == nonce
        proof = key.proof("GET", url, token, nonce=nonce)
        assert (await ask(there, token, proof), await ask(there, token, proof)) == (200, 401)
        real = time.time
        for seconds, status in ((proofs.NONCE_SECONDS, 200), (2 * proofs.NONCE_SECONDS, 401)):
            monkeypatch.setattr(time, "time", lambda seconds=seconds: real() + seconds)
            later = key.proof("GET", url, token, nonce=nonce, iat=int(real() + seconds))
            assert await ask(there, token, later) == status
