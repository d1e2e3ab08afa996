"""Access tokens: what they say, for what they are issued, and that every code and refresh token counts once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from sqlalchemy import Engine, event, func, select, update

from gatewaykit.storage import Storage
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.identity.id_tokens import claims_of
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.format import CODE, new_secret
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server import redeeming
from gatewaykit_oauth.server.settings import YEAR, OAuthSettings
from gatewaykit_oauth.server.tables import AccessTokenRow, CodeRow, GrantRow, RefreshTokenRow
from gatewaykit_oauth.signin.credentials import set_password

from .conftest import OPERATOR, PEPPER, start
from .oauth_world import CALLBACK, EVERYTHING, ISSUER, VERIFIER, world


def refused(answer: Any, error: str, status: int = 400) -> None:
    """The answer is this error, in the one shape that errors have."""
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["content-type"] == "application/json"


async def test_a_code_becomes_tokens(url: str) -> None:
    """The token says what RFC 9068 wants, with the same life in the token, the answer and the database; and nothing of
    any token stands in the database."""
    async with world(url) as there:
        made = await there.client()
        answer = await there.redeem(made, await there.code(made))
        tokens = answer.json()
        header, claims = jwt.get_unverified_header(tokens["access_token"]), _claims(tokens["access_token"])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert header["typ"] == "at+jwt"
        assert header["alg"] == "ES256"
        assert header["kid"] in [key["kid"] for key in (await there.http.get("/oauth/jwks")).json()["keys"]]
        assert claims["exp"] - claims["iat"] == tokens["expires_in"] == 3600
        assert {"iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "gid"} <= set(claims)
        assert (claims["iss"], claims["sub"], claims["aud"]) == (ISSUER, "ann", ISSUER)
        row = await there.authority.read(lambda session: session.get(AccessTokenRow, claims["jti"]))
        assert row is not None
        assert int(row.expires.timestamp()) == claims["exp"]
        assert await there.is_good(tokens["access_token"])
        assert tokens["refresh_token"].startswith("gko_")


async def test_a_year_is_by_policy_only(url: str) -> None:
    """A client with the policy gets tokens for a year, and 31 536 000 s is the most; the usual life is an hour."""
    async with world(url) as there:
        made = await there.client(access_seconds=YEAR)
        tokens = await there.tokens(made)
        assert tokens["expires_in"] == YEAR
        assert await there.is_good(tokens["access_token"])
        with pytest.raises(Exception, match="60 to 31536000"):
            await there.client(access_seconds=YEAR + 1)
        short = await there.tokens(made, access_seconds=600)
        assert short["expires_in"] == 600


async def test_the_shortest_life_of_all_counts(url: str) -> None:
    """Whatever the client may have and somebody chose: no token outlives what its account may have, by code, by refresh
    and for a client that acts on its own; the server's own limit holds above all."""
    async with world(url, oauth={"longest_access_seconds": 30 * 86_400}) as there:
        made = await there.client(access_seconds=30 * 86_400)
        robot = await there.client(
            "robot", confidential=True, grants=EVERYTHING, owner="ann", access_seconds=20 * 86_400
        )

        async def lives() -> tuple[int, int, int, int]:
            tokens = await there.tokens(made, access_seconds=YEAR)
            again = (await there.refresh(made, tokens["refresh_token"])).json()
            chosen = await there.tokens(made, access_seconds=7200)
            own = (await there.token(robot, grant_type="client_credentials", scope="inference")).json()
            for one in (tokens, again, chosen, own):
                claims = jwt.decode(one["access_token"], options={"verify_signature": False})
                assert claims["exp"] - claims["iat"] == one["expires_in"]
            return tokens["expires_in"], again["expires_in"], chosen["expires_in"], own["expires_in"]

        async def allow(longest: int | None) -> int:
            path = "/api/admin/accounts/ann"
            answer = await there.http.patch(path, json={"longest_access_seconds": longest}, headers=there.operator)
            return answer.status_code

        assert await lives() == (30 * 86_400, 30 * 86_400, 7200, 20 * 86_400)
        assert await allow(86_400) == 200
        assert await lives() == (86_400, 86_400, 7200, 86_400)
        assert await allow(3600) == 200
        assert await lives() == (3600, 3600, 3600, 3600)
        assert [await allow(wrong) for wrong in (0, 59, YEAR + 1)] == [400, 400, 400]
        assert await allow(None) == 200
        assert await lives() == (30 * 86_400, 30 * 86_400, 7200, 20 * 86_400)


async def test_only_what_belongs_to_the_code_redeems_it(url: str) -> None:
    """Another client, address, verifier or resource gets the one answer; a wrong verifier burns nothing; then the right
    request succeeds."""
    async with world(url) as there:
        made, other = await there.client(), await there.client("other")
        code = await there.code(made)
        for form in (
            {"code_verifier": "w" * 43},
            {"redirect_uri": "https://client.test/other"},
            {"client_id": other.client.id},
        ):
            refused(await there.redeem(made, code, **form), "invalid_grant")
        refused(await there.redeem(made, code[:-1] + ("a" if code[-1] != "a" else "b")), "invalid_grant")
        refused(await there.redeem(made, code, code_verifier="short"), "invalid_request")
        refused(await there.redeem(made, code, code_verifier=None), "invalid_grant")
        refused(await there.redeem(made, code, resource="https://else.test"), "invalid_target")
        refused(await there.redeem(made, code, scope="inference admin"), "invalid_scope")
        assert (await there.redeem(made, code)).status_code == 200


async def test_only_who_may_refresh_gets_a_refresh_token(sqlite_url: str) -> None:
    """A client without the grant gets none, and an answer tells which scopes the token has."""
    async with world(sqlite_url) as there:
        made = await there.client(grants=("authorization_code",))
        tokens = (await there.redeem(made, await there.code(made), scope="usage")).json()
        assert "refresh_token" not in tokens
        assert (tokens["token_type"], tokens["scope"]) == ("Bearer", "usage")


def test_what_is_usual() -> None:
    """A code lives for a minute and has more than 128 bits, an access token lives for an hour."""
    settings = OAuthSettings(issuer=ISSUER)
    assert (settings.code_seconds, settings.access_seconds, settings.refresh_grace_seconds) == (60, 3600, 10)
    assert not settings.registration
    assert len(new_secret(CODE)) - len(CODE) == 36 + 6  # 36 base62 digits are 214 bits


async def test_an_expired_code_is_worth_nothing(url: str) -> None:
    """After its minute a code gets the one answer."""
    async with world(url) as there:
        made = await there.client()
        code = await there.code(made)
        past = datetime.now(UTC) - timedelta(seconds=1)
        await there.authority.write(lambda session: session.execute(update(CodeRow).values(expires=past)))
        refused(await there.redeem(made, code), "invalid_grant")


async def test_a_code_that_comes_twice_ends_its_grant(url: str) -> None:
    """A second use with all the right parameters ends the tokens of the first; one with a wrong verifier or by another
    client does not."""
    async with world(url) as there:
        made, other = await there.client(), await there.client("other")
        code = await there.code(made)
        tokens = (await there.redeem(made, code)).json()
        refused(await there.redeem(made, code, code_verifier="w" * 43), "invalid_grant")
        refused(await there.redeem(other, code), "invalid_grant")
        assert await there.is_good(tokens["access_token"])
        refused(await there.redeem(made, code), "invalid_grant")
        assert not await there.is_good(tokens["access_token"])
        refused(await there.refresh(made, tokens["refresh_token"]), "invalid_grant")


@contextmanager
def slow_store(seconds: float) -> Iterator[None]:
    """Every answer of the database comes late."""

    def wait(*_: Any) -> None:
        time.sleep(seconds)

    event.listen(Engine, "after_cursor_execute", wait)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", wait)


async def test_of_fifty_redemptions_one_succeeds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow database, and without the lock that changes take, one of many parallel redemptions gets tokens: the
    conditional UPDATE alone decides."""
    monkeypatch.setattr(redeeming, "take_turn", lambda session: None)
    async with world(url, database_pool=16) as there:
        made = await there.client()
        code = await there.code(made)
        with slow_store(0.005):
            answers = await asyncio.gather(*(there.redeem(made, code) for _ in range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49


async def test_refresh_tokens_rotate_and_never_split(url: str) -> None:
    """Each refresh gives another token. The one before gives the same successor once more, and then ends everything."""
    async with world(url) as there:
        made = await there.client()
        first = await there.tokens(made)
        second = (await there.refresh(made, first["refresh_token"])).json()
        assert second["refresh_token"] != first["refresh_token"]
        repeated = (await there.refresh(made, first["refresh_token"])).json()
        assert repeated["refresh_token"] == second["refresh_token"]
        assert await there.is_good(repeated["access_token"])
        refused(await there.refresh(made, first["refresh_token"]), "invalid_grant")
        for tokens in (first, second, repeated):
            assert not await there.is_good(tokens["access_token"])
        refused(await there.refresh(made, second["refresh_token"]), "invalid_grant")
        ended = await there.authority.read(lambda session: session.scalars(select(GrantRow)).one())
        assert ended.reason == "a refresh token was used twice"
        log = await there.authority.read(lambda session: store.audit(session, key_id=ended.id).items)
        assert (log[0].action, log[0].after) == ("grant.end", {"reason": ended.reason})


async def test_after_the_grace_a_spent_token_ends_the_grant(url: str) -> None:
    """Without grace the first reuse is a theft; and within it, it is one too once the successor was used."""
    async with world(url, oauth={"refresh_grace_seconds": 0}) as there:
        made = await there.client()
        first = await there.tokens(made)
        assert (await there.refresh(made, first["refresh_token"])).status_code == 200
        refused(await there.refresh(made, first["refresh_token"]), "invalid_grant")
        assert not await there.is_good(first["access_token"])
    async with world(url) as there:
        made = await there.client()
        first = await there.tokens(made)
        second = (await there.refresh(made, first["refresh_token"])).json()
        assert (await there.refresh(made, second["refresh_token"])).status_code == 200
        refused(await there.refresh(made, first["refresh_token"]), "invalid_grant")
        assert not await there.is_good(second["access_token"])


async def test_parallel_refreshes_have_one_successor(url: str) -> None:
    """Two requests at once with a slow database: both may be answered, with one and the same successor."""
    async with world(url) as there:
        made = await there.client()
        first = await there.tokens(made)
        with slow_store(0.01):
            answers = await asyncio.gather(*(there.refresh(made, first["refresh_token"]) for _ in range(2)))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1
        kept = await there.authority.read(lambda session: session.scalar(select(func.count(RefreshTokenRow.digest))))
        assert kept == 2


async def test_a_refresh_asks_for_no_more_than_was_granted(url: str) -> None:
    """Fewer scopes and resources are given, more are refused, and the grant itself stays as it was."""
    async with world(url) as there:
        made = await there.client()
        tokens = await there.tokens(made)
        refused(await there.refresh(made, tokens["refresh_token"], scope="keys"), "invalid_scope")
        refused(await there.refresh(made, tokens["refresh_token"], resource="https://else.test"), "invalid_target")
        narrow = (await there.refresh(made, tokens["refresh_token"], scope="inference", resource=f"{ISSUER}/v1")).json()
        assert narrow["scope"] == "inference"
        assert _claims(narrow["access_token"])["aud"] == f"{ISSUER}/v1"
        wide = (await there.refresh(made, narrow["refresh_token"])).json()
        assert wide["scope"] == "inference usage"


@pytest.mark.parametrize("how", ["account", "password", "client", "idle", "absolute"])
async def test_a_refresh_token_ends(url: str, how: str) -> None:
    """With its account, its password, its client, when it was not used for long, and at last in any case."""
    settings = {"idle": {"refresh_idle_seconds": 0.001}, "absolute": {"refresh_seconds": 0.001}}.get(how)
    async with world(url, oauth=settings) as there:
        made = await there.client()
        tokens = await there.tokens(made)
        if how == "account":
            await there.authority.change(
                lambda session: put_account(session, OPERATOR, Account(id="ann", name="Ann", enabled=False))
            )
        if how == "password":
            now = datetime.now(UTC)
            await there.authority.change(lambda session: set_password(session, OPERATOR, "ann", "digest", now))
            assert not await there.is_good(tokens["access_token"])
        if how == "client":
            answer = await there.http.patch(
                f"/api/admin/clients/{made.client.id}", json={"enabled": False}, headers=there.operator
            )
            assert answer.status_code == 200, answer.text
        answer = await there.refresh(made, tokens["refresh_token"])
        refused(answer, *(("invalid_client", 401) if how == "client" else ("invalid_grant", 400)))


async def test_an_access_token_ends_with_its_grant(url: str) -> None:
    """A token lives no longer than its grant, however long its client may have it, and the answer says so."""
    async with world(url, oauth={"refresh_seconds": 600}) as there:
        made = await there.client(access_seconds=YEAR)
        first = await there.tokens(made)
        second = (await there.refresh(made, first["refresh_token"])).json()
        claims, later = _claims(first["access_token"]), _claims(second["access_token"])
        assert first["expires_in"] == claims["exp"] - claims["iat"]
        assert 590 <= first["expires_in"] <= 600
        assert later["exp"] == claims["exp"]


async def test_clients_on_their_own(url: str) -> None:
    """A confidential client gets a token for itself, without refresh and without anybody's name; a public one gets
    none."""
    async with world(url) as there:
        made = await there.client("job", confidential=True, grants=EVERYTHING)
        answer = await there.token(made, grant_type="client_credentials", scope="inference")
        tokens = answer.json()
        assert "refresh_token" not in tokens
        assert "id_token" not in tokens
        assert _claims(tokens["access_token"])["sub"] == made.client.id
        assert await there.is_good(tokens["access_token"])
        refused(await there.token(made, grant_type="client_credentials", scope="openid"), "invalid_scope")
        public = await there.client()
        refused(await there.token(public, grant_type="client_credentials"), "unauthorized_client")
        with pytest.raises(Exception, match="cannot begin with client_"):
            await there.authority.write(
                lambda session: put_account(session, OPERATOR, Account(id=made.client.id, name="x"))
            )


async def test_who_somebody_is(url: str) -> None:
    """With ``openid`` there is an ID token for the client, which opens no door, and userinfo; without, neither."""
    async with world(url) as there:
        made = await there.client()
        tokens = await there.tokens(made, scopes=("openid", "profile", "inference"), nonce="n-1")
        keys = jwt.PyJWKSet.from_dict((await there.http.get("/oauth/jwks")).json())
        known = jwt.decode(
            tokens["id_token"],
            keys[jwt.get_unverified_header(tokens["id_token"])["kid"]],
            algorithms=["ES256"],
            audience=made.client.id,
            issuer=ISSUER,
        )
        assert (known["sub"], known["nonce"], known["name"]) == ("ann", "n-1", "Ann")
        assert {"at_hash", "auth_time"} <= set(known)
        assert not await there.is_good(tokens["id_token"])
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        assert (await there.http.get("/oauth/userinfo", headers=bearer)).json() == {"sub": "ann", "name": "Ann"}
        other = await there.tokens(made)
        assert "id_token" not in other
        answer = await there.http.get("/oauth/userinfo", headers={"authorization": f"Bearer {other['access_token']}"})
        refused(answer, "insufficient_scope", 403)
        assert 'scope="openid"' in answer.headers["www-authenticate"]
        refused(await there.http.get("/oauth/userinfo"), "invalid_token", 401)


async def test_a_client_that_may_ask_for_less_than_before(url: str) -> None:
    """What a client may no longer ask for is not in the tokens that it refreshes; with nothing left there are none."""
    async with world(url) as there:
        made = await there.client()
        token = (await there.tokens(made))["refresh_token"]
        path = f"/api/admin/clients/{made.client.id}"
        for scopes, granted in ((["inference", "openid"], "inference"), (["usage", "inference"], "inference usage")):
            answer = await there.http.patch(path, json={"scopes": scopes}, headers=there.operator)
            assert answer.status_code == 200
            refreshed = (await there.refresh(made, token)).json()
            assert refreshed["scope"] == granted
            token = refreshed["refresh_token"]
        await there.http.patch(path, json={"scopes": ["openid"]}, headers=there.operator)
        refused(await there.refresh(made, token), "invalid_grant")
        refused(await there.refresh(made, token, scope="inference"), "invalid_scope")


async def test_resources_that_are_no_more(sqlite_url: str) -> None:
    """A refresh gives no token that is good for nothing: what was granted for a path that is gone has to be asked for
    anew, and what was granted for more goes on with the rest."""
    gone, there_still = f"{ISSUER}/v2", f"{ISSUER}/v1"
    async with world(sqlite_url, oauth={"resources": ["/v1", "/v2"]}) as there:
        made = await there.client()
        some = (await there.tokens(made, resources=(gone, there_still)))["refresh_token"]
        none = (await there.tokens(made, resources=(gone,)))["refresh_token"]
    async with world(sqlite_url) as there:
        refused(await there.refresh(made, none), "invalid_grant")
        token = (await there.refresh(made, some)).json()["access_token"]
        assert _claims(token)["aud"] == there_still
        assert await there.is_good(token)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_an_id_token_is_read_by_its_rules(sqlite_url: str, algorithm: str) -> None:
    """Whatever signs it, an ID token stands up to the check that ID tokens of others have to pass."""
    async with world(sqlite_url, oauth={"algorithm": algorithm}) as there:
        made = await there.client()
        tokens = await there.tokens(made, scopes=("openid",), nonce="n-1")
        keys = [jwt.PyJWK(key) for key in (await there.http.get("/oauth/jwks")).json()["keys"]]
        access_token, asked = tokens["access_token"], {"issuer": ISSUER, "client_id": made.client.id, "nonce": "n-1"}
        assert claims_of(tokens["id_token"], keys, access_token=access_token, **asked)["sub"] == "ann"


async def test_the_metadata_name_the_algorithm_that_signs(sqlite_url: str) -> None:
    """Also while a key signs that is older than the configured algorithm; what is configured comes first."""
    async with world(sqlite_url):
        pass
    async with world(sqlite_url, oauth={"algorithm": "EdDSA"}) as there:
        tokens = await there.tokens(scopes=("openid",))
        found = (await there.http.get("/.well-known/openid-configuration")).json()
        named = found["id_token_signing_alg_values_supported"]
        assert jwt.get_unverified_header(tokens["id_token"])["alg"] == "ES256"
        assert (named[0], set(named)) == ("EdDSA", {"EdDSA", "ES256", "RS256"})


async def test_nothing_secret_is_written(url: str, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor any table have a token, a code, a verifier or a client's secret in them."""
    caplog.set_level(logging.DEBUG)
    verifier = "canaryverifier" * 4
    async with world(url) as there:
        made = await there.client("app", confidential=True)
        code = await there.code(made, verifier=verifier)
        tokens = (await there.redeem(made, code, code_verifier=verifier)).json()
        renewed = (await there.refresh(made, tokens["refresh_token"])).json()
        await there.revoke(made, renewed["access_token"])
    secrets = [code, verifier, made.secret or "", tokens["access_token"], tokens["refresh_token"]]
    secrets += [renewed["access_token"], renewed["refresh_token"]]
    lines = "\n".join(record.getMessage() for record in caplog.records)
    assert not [secret for secret in secrets if secret in lines]
    from gatewaykit_oauth.schema import metadata

    with storage.transaction(write=False) as session:
        kept = [str(row) for table in metadata.sorted_tables for row in session.execute(select(table))]
    assert len(kept) > 8
    assert not [secret for secret in secrets if any(secret in row for row in kept)]


PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from gatewaykit.errors import GatewayError
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys.model import Actor
from gatewaykit_oauth.keys.secrets import Secrets
from gatewaykit_oauth.server import clients, redeeming
from gatewaykit_oauth.server.grants import Office
from gatewaykit_oauth.server.settings import OAuthSettings

told = json.loads(sys.argv[1])
redeeming.take_turn = lambda session: None
storage = Storage(DatabaseSettings(url=told["url"], pool_size=8), list(plugin.gateway_migrations()))
office = Office(Secrets(told["pepper"]), OAuthSettings(issuer="https://gateway.test"), told["kid"], datetime.now(UTC))
given = redeeming.Presented(told["code"], told["verifier"], told["callback"], None)

def redeem(_):
    try:
        with storage.transaction() as session:
            client = clients.get(session, told["client"])
            narrow = lambda scopes, resources: (tuple(scopes), tuple(resources))
            return redeeming.redeem_code(session, Actor("race"), client, given, narrow, office) is not None
    except GatewayError:  # without the lock a database may end one of those that wait for each other
        return False

with storage.opened():
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(redeem, range(12))), flush=True)
"""


async def test_two_processes_redeem_one_code_once(url: str) -> None:
    """Of many redemptions in two processes at once, without the lock that changes take, one succeeds."""
    async with world(url) as there:
        made = await there.client()
        code = await there.code(made)
        _, office = await there.authority.office()
        told = {"url": url, "pepper": PEPPER, "kid": office.kid, "code": code, "client": made.client.id}
        told |= {"verifier": VERIFIER, "callback": CALLBACK}
        processes = [start(PROGRAM, json.dumps(told)) for _ in range(2)]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", process.communicate()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            said = [process.communicate(timeout=300) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        assert all(out.strip().isdecimal() for out, _ in said), said
        assert sum(int(out) for out, _ in said) == 1


def _claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found
