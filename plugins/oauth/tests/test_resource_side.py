"""The gateway as a resource server: which tokens it takes, what they may do, and what refused clients are told."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gatewaykit.testing import Upstream, UpstreamAnswer
from gatewaykit.testing.gateways import KEY
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account, KeyLimits
from gatewaykit_oauth.server.access_tokens import encode
from gatewaykit_openai import plugin as openai

from .conftest import OPERATOR
from .oauth_world import ISSUER, NOT_AHEAD, World, world

METADATA = f"{ISSUER}/.well-known/oauth-protected-resource"
SCOPES = {"small": {"description": "Use small models", "models": ["small-*"], "routes": ["/v1/chat/*"]}}


@pytest.fixture
async def there(sqlite_url: str) -> AsyncIterator[World]:
    """A gateway with a scope of its own."""
    async with world(sqlite_url, oauth={"scopes": SCOPES, **NOT_AHEAD}) as found:
        yield found


async def forged(there: World, token: str, *, header: dict[str, Any] | None = None, **changed: Any) -> str:
    """The token with other claims, signed with the real key."""
    signer = (await there.authority.running.keyring.keys()).signer
    claims = jwt.decode(token, options={"verify_signature": False})
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    headers = {"kid": signer.kid, "typ": "at+jwt", **(header or {})}
    headers = {name: value for name, value in headers.items() if value is not None}
    return jwt.encode(claims, signer.private, algorithm="ES256", headers=headers)


async def test_only_tokens_of_the_right_form_pass(there: World) -> None:
    """Whatever is not exactly an access token of this server, by header or claims, is refused with one answer."""
    token = (await there.tokens())["access_token"]
    now = int(time.time())
    stranger = ec.generate_private_key(ec.SECP256R1())
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)["kid"]
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt", "kid": kid}).encode()).decode()
    wrong = [
        await forged(there, token, header={"typ": None}),
        await forged(there, token, header={"typ": "JWT"}),
        await forged(there, token, header={"kid": "x"}),
        await forged(there, token, header={"kid": None}),
        await forged(there, token, header={"jku": "https://evil.test"}),
        await forged(there, token, header={"jwk": {"kty": "EC"}}),
        await forged(there, token, header={"x5u": "https://evil.test"}),
        await forged(there, token, header={"crit": ["x"], "x": 1}),
        await forged(there, token, exp=now - 100),
        await forged(there, token, iat=now + 1000),
        await forged(there, token, nbf=now + 1000),
        await forged(there, token, exp=float("1e300")),
        await forged(there, token, exp=claims["exp"] + 0.5),
        await forged(there, token, exp="9999999999"),
        await forged(there, token, sub=None),
        await forged(there, token, client_id=None),
        await forged(there, token, gid=None),
        await forged(there, token, scope=None),
        await forged(there, token, jti="other"),
        await forged(there, token, gid="other"),
        await forged(there, token, scope=["inference"]),
        await forged(there, token, aud=[1]),
        jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": kid, "typ": "at+jwt"}),
        jwt.encode(claims, "s" * 32, algorithm="HS256", headers={"kid": kid, "typ": "at+jwt"}),
        f"{none.rstrip('=')}.{body}.",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.",
        token + "x",
    ]
    assert await there.is_good(token)
    assert await there.is_good(await forged(there, token))
    answers = [await there.models(one) for one in wrong]
    assert [answer.status_code for answer in answers] == [401] * len(wrong)
    for answer in answers:
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert f'resource_metadata="{METADATA}/v1"' in answer.headers["www-authenticate"]
    other = await forged(there, token, iss="https://else.test")
    assert (await there.models(other)).status_code == 401


async def test_other_jwts_are_no_access_tokens(there: World) -> None:
    """An ID token, and any other JWT of this server, opens nothing."""
    tokens = await there.tokens(scopes=("openid", "inference"))
    assert not await there.is_good(tokens["id_token"])
    signer = (await there.authority.running.keyring.keys()).signer
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert not await there.is_good(encode(signer, claims, "JWT"))


async def test_what_refused_clients_are_told(there: World) -> None:
    """RFC 6750 and 9728: without credentials no error code; bad, expired and revoked tokens get one body; too little
    scope is 403 with the scope that is missing."""
    answer = await there.http.get("/v1/models")
    told = answer.headers["www-authenticate"]
    assert answer.status_code == 401
    assert told.startswith("Bearer realm=")
    assert f'resource_metadata="{METADATA}/v1"' in told
    assert 'scope="inference usage"' in told
    assert "error" not in told
    made = await there.client(scopes=("inference", "usage", "openid"))
    revoked = (await there.tokens(made))["access_token"]
    await there.revoke(made, revoked)
    bodies = [await there.models(token) for token in (revoked, "eyJ.x.y", await forged(there, revoked, exp=1))]
    assert {answer.status_code for answer in bodies} == {401}
    assert {answer.json()["error"]["type"] for answer in bodies} == {"authentication_error"}
    key = await there.models("gk_live_" + "x" * 42)
    assert 'error="invalid_token"' in key.headers["www-authenticate"]
    narrow = (await there.tokens(made, scopes=("usage",)))["access_token"]
    answer = await there.models(narrow)
    assert answer.status_code == 403
    told = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in told
    assert 'scope="inference"' in told
    assert f'resource_metadata="{METADATA}"' in told
    assert answer.json()["error"]["message"]


async def test_one_way_at_a_time(there: World) -> None:
    """A token in the query is not looked at; the scheme's case does not matter; two credentials at once are 400; API
    keys work beside tokens."""
    token = (await there.tokens())["access_token"]
    assert (await there.http.get(f"/v1/models?access_token={token}")).status_code == 401
    for scheme in ("bearer", "BEARER", "Bearer"):
        answer = await there.http.get("/v1/models", headers={"authorization": f"{scheme} {token}"})
        assert answer.status_code == 200
    assert (await there.models(token, **{"x-api-key": "gk_live_" + "x" * 42})).status_code == 400
    assert (await there.models(token, **{"x-api-key": "other"})).status_code == 400
    assert (await there.models(KEY)).status_code == 200


async def test_scopes_are_models_and_routes(there: World) -> None:
    """A scope of the configuration allows its models at its paths, and nothing else; the account's own models bound it
    further."""
    made = await there.client(scopes=("small", "inference", "usage"))

    async def ask(token: str, model: str) -> tuple[int, Any]:
        answer = await there.http.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "x"}]},
            headers={"authorization": f"Bearer {token}"},
        )
        return answer.status_code, answer.headers.get("www-authenticate", "")

    narrow = (await there.tokens(made, scopes=("small",)))["access_token"]
    assert (await ask(narrow, "small-1"))[0] == 404  # it may, but nobody serves it
    status, told = await ask(narrow, "large-1")
    assert status == 403
    assert 'error="insufficient_scope"' in told
    assert (await there.models(narrow)).status_code == 403
    both = (await there.tokens(made, scopes=("small", "usage")))["access_token"]
    assert (await ask(both, "large-1"))[0] == 403
    wide = (await there.tokens(made, scopes=("inference",)))["access_token"]
    assert (await ask(wide, "large-1"))[0] == 404
    account = Account(id="ann", name="Ann", models=("small-*",), limits=KeyLimits(rpm=5))
    await there.authority.change(lambda session: put_account(session, OPERATOR, account))
    assert (await ask(wide, "large-1"))[0] == 403
    entry = await there.authority.known(wide)
    assert entry is not None
    assert [limit.amount for limit in entry.principal.limits] == [5]
    assert entry.principal.owner == "ann"


async def test_a_token_is_for_its_resource(there: World) -> None:
    """A token for ``/v1`` opens nothing else, and one for the whole gateway everything that its scopes allow."""
    made = await there.client(scopes=("inference", "keys"))
    both = ("inference", "keys")
    narrow = await there.tokens(made, scopes=both, resources=(f"{ISSUER}/v1",))
    wide = await there.tokens(made, scopes=both)
    for tokens, expected in ((narrow, 401), (wide, 200)):
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        assert (await there.http.get("/v1/models", headers=bearer)).status_code == 200
        assert (await there.http.get("/api/admin/grants", headers=bearer)).status_code == expected


async def test_admin_is_for_admins(there: World) -> None:
    """The scope ``admin`` in a member's token allows nothing; in an admin's it does, until the role is gone."""
    made = await there.client(scopes=("admin",))
    token = (await there.tokens(made, scopes=("admin",)))["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    for role, status in (("member", 403), ("admin", 200), ("member", 403)):
        account = Account(id="ann", name="Ann", role=role)  # type: ignore[arg-type]
        await there.authority.change(lambda session, account=account: put_account(session, OPERATOR, account))
        assert (await there.http.get("/api/admin/clients", headers=bearer)).status_code == status


async def test_only_the_first_use_asks_the_database(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was seen before is known from memory; twenty requests at once with a new one ask once."""
    from gatewaykit_oauth.server import authority

    asked: list[None] = []
    real = authority.recognise_token

    def counted(*arguments: Any) -> Any:
        asked.append(None)
        return real(*arguments)

    token = (await there.tokens())["access_token"]
    await there.forget(token)
    monkeypatch.setattr(authority, "recognise_token", counted)
    assert all(await asyncio.gather(*(there.is_good(token) for _ in range(20))))
    assert await there.is_good(token)
    assert len(asked) == 1


async def test_off_it_costs_and_opens_nothing(sqlite_url: str) -> None:
    """Without an issuer there are no routes and no metadata, and the libraries are not even imported."""
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from gatewaykit import Gateway\n"
        f"gateway = Gateway({{'database': {{'url': {sqlite_url!r}}}}}, environ={{}})\n"
        "print([name for name in ('authlib', 'jwt', 'cryptography', 'joserfc', 'jinja2') if name in sys.modules])\n"
        "print(any(gateway.owns(path) for path in ('/oauth/token', '/oauth/authorize', '/oauth/jwks')))\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\nFalse\n", done.stdout + done.stderr


async def test_a_token_goes_no_further(sqlite_url: str) -> None:
    """No header and no part of a request to a provider has the client's token, its proof or its API key in it."""
    done = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [_ANSWER], "usage": _USAGE}
    async with Upstream(lambda request: UpstreamAnswer.of_json(done).script()) as upstream:
        section = {"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": "the-gateways-own"}}}
        async with world(sqlite_url, plugins_more=(openai,), openai=section) as there:
            token = (await there.tokens())["access_token"]
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            for name, value in (
                ("authorization", f"Bearer {token}"),
                ("authorization", f"Bearer {KEY}"),
                ("x-api-key", KEY),
            ):
                answer = await there.http.post(
                    "/v1/chat/completions", json=body, headers={name: value, "dpop": "a-proof"}
                )
                assert answer.status_code == 200, answer.text
        sent = " ".join(f"{request.headers} {request.body!r} {request.path}" for request in upstream.requests)
        assert len(upstream.requests) >= 3
        assert not [secret for secret in (token, token.split(".")[2], KEY, "a-proof") if secret in sent]
        assert "the-gateways-own" in sent


_ANSWER = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
