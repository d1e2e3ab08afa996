"""The keys that sign: one for all processes, moved on in time, sealed at rest, and gone with all their tokens when they
are revoked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import select, update

from gatewaykit.errors import ConfigError
from gatewaykit.storage import Storage
from gatewaykit_oauth.keys.secrets import Secrets
from gatewaykit_oauth.server.settings import YEAR, OAuthSettings
from gatewaykit_oauth.server.signing_keys import list_keys, load, maintain, revoke_key, rotate
from gatewaykit_oauth.server.tables import SigningKeyRow

from .conftest import OPERATOR, PEPPER, SECRETS, start
from .oauth_world import ISSUER, world
from .test_tokens import refused

SETTINGS = OAuthSettings(issuer=ISSUER, key_days=30, jwks_seconds=300)
NOW = datetime(2027, 1, 31, 12, 0, tzinfo=UTC)


def step(storage: Storage, now: datetime) -> dict[str, str]:
    """The states by kid, after looking after the keys at this moment."""
    with storage.transaction() as session:
        maintain(session, SECRETS, SETTINGS, now)
    with storage.transaction(write=False) as session:
        return {key.kid: key.state for key in list_keys(session)}


def test_the_life_of_a_key(url: str, storage: Storage) -> None:
    """The first start makes an active and a next key; a key is public for long before it signs; one that has signed
    stays until no token of it can be alive; and its private part is gone by then."""
    first = step(storage, NOW)
    assert sorted(first.values()) == ["active", "next"]
    assert step(storage, NOW + timedelta(days=29)) == first
    second = step(storage, NOW + timedelta(days=31))
    assert sorted(second.values()) == ["active", "next", "verify"]
    (active,) = [kid for kid, state in second.items() if state == "active"]
    assert first[active] == "next"
    with storage.transaction(write=False) as session:
        keys = load(session, SECRETS)
        assert keys.signer.kid == active
        assert set(keys.public) == set(second)
        (old,) = [row for row in session.scalars(select(SigningKeyRow)) if row.state == "verify"]
        assert old.private is None
        kid = old.kid
    assert kid in step(storage, NOW + timedelta(days=31, seconds=YEAR - 60))
    assert kid not in step(storage, NOW + timedelta(days=31, seconds=YEAR + 120))


def test_no_kid_looks_like_an_option(url: str, storage: Storage) -> None:
    """`tokens revoke-key` takes each one as it is shown."""
    step(storage, NOW)
    for days in range(100, 140):
        with storage.transaction() as session:
            rotate(session, OPERATOR, SECRETS, SETTINGS, NOW + timedelta(days=days))
    kids = step(storage, NOW + timedelta(days=140))
    assert len(kids) > 40
    assert [kid for kid in kids if not kid.isalnum()] == []


def test_a_key_that_was_just_made_does_not_sign_yet(url: str, storage: Storage) -> None:
    """However old the active key is, the next one waits until everybody can know it."""
    step(storage, NOW)
    with storage.transaction() as session:
        rotate(session, OPERATOR, SECRETS, SETTINGS, NOW + timedelta(days=100))
    states = step(storage, NOW + timedelta(days=100, seconds=1))
    later = step(storage, NOW + timedelta(days=131))
    assert states != later
    with storage.transaction() as session:
        active = next(key for key in list_keys(session) if key.state == "active")
        revoke_key(session, OPERATOR, active.kid, SECRETS, SETTINGS, NOW + timedelta(days=132))
    states = step(storage, NOW + timedelta(days=132))
    assert states[active.kid] == "revoked"
    assert sorted(states.values()).count("active") == 1


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_private_keys_are_sealed(sqlite_url: str, algorithm: str) -> None:
    """The database has no private key that can be read; another pepper opens none, an old one does."""
    from .conftest import storage_at

    settings = OAuthSettings(issuer=ISSUER, algorithm=algorithm)  # type: ignore[arg-type]
    with storage_at(sqlite_url).opened() as storage:
        with storage.transaction() as session:
            maintain(session, SECRETS, settings, NOW)
        with storage.transaction(write=False) as session:
            keys = load(session, SECRETS)
            text = jwt.encode({"a": 1}, keys.signer.private, algorithm=algorithm)
            known, public = keys.public[keys.signer.kid]
            assert jwt.decode(text, public, algorithms=[known]) == {"a": 1}
            assert not any({"d", "p", "q"} & set(key) for key in keys.jwks)
            for row in session.scalars(select(SigningKeyRow)):
                sealed = row.private or b""
                assert b"PRIVATE" not in sealed
                with pytest.raises(ValueError, match="deserialize"):
                    serialization.load_der_private_key(sealed, None)
            assert load(session, Secrets("n" * 40, [PEPPER])).signer.kid == keys.signer.kid
            with pytest.raises(ConfigError, match="sealed"):
                load(session, Secrets("n" * 40))


PROGRAM = """
import asyncio, json, sys
from gatewaykit.testing import make_gateway
from gatewaykit_oauth import plugin

told = json.loads(sys.argv[1])
gateway = make_gateway(plugin, database={"url": told["url"]}, keys={"pepper": told["pepper"]},
                       oauth={"issuer": "https://gateway.test"}, timeouts={"hook": 30})

async def main():
    sys.stdin.readline()
    async with gateway:
        keys = await plugin._authorities[gateway].running.keyring.keys()
        print(json.dumps([keys.signer.kid, sorted(keys.public)]), flush=True)

print("ready", flush=True)
asyncio.run(main())
"""


def test_two_instances_that_start_together_share_one_key(url: str) -> None:
    """Both make the tables and find the same active key, and there are never two."""
    told = json.dumps({"url": url, "pepper": PEPPER})
    processes = [start(PROGRAM, told) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    one, other = (json.loads(answer) for answer in answers)
    assert one == other
    assert len(one[1]) == 2


async def test_a_rotation_is_noticed_everywhere(url: str) -> None:
    """A next key that nobody can know yet does not sign. After a rotation new tokens name the new key, the old
    ones stay good, and the public keys have both."""
    async with world(url) as there:
        before = (await there.tokens())["access_token"]
        early = await there.http.post("/api/admin/signing-keys/rotate", headers=there.operator)
        assert (early.status_code, "too new" in early.json()["error"]["message"]) == (400, True)
        aged = update(SigningKeyRow).values(since=datetime.now(UTC) - timedelta(seconds=300))
        await there.authority.write(lambda session: session.execute(aged))
        answer = await there.http.post("/api/admin/signing-keys/rotate", headers=there.operator)
        assert answer.status_code == 200, answer.text
        after = (await there.tokens())["access_token"]
        old, new = (jwt.get_unverified_header(token)["kid"] for token in (before, after))
        assert old != new
        assert await there.is_good(before)
        assert await there.is_good(after)
        public = [key["kid"] for key in (await there.http.get("/oauth/jwks")).json()["keys"]]
        assert {old, new} <= set(public)
        assert len(public) == 3


async def test_no_token_is_signed_by_a_key_that_is_revoked(url: str) -> None:
    """A process that has not heard of the end of its key gives out nothing until it has; the code is not spent."""
    async with world(url, keys={"poll_seconds": 60, "stale_seconds": 600}) as here:
        made, running = await here.client(), here.authority.running
        token, code = (await here.tokens(made))["access_token"], await here.code(made)
        kid, settings = jwt.get_unverified_header(token)["kid"], here.authority.settings
        await here.authority.write(
            lambda session: revoke_key(session, OPERATOR, kid, running.secrets, settings, datetime.now(UTC))
        )
        refused(await here.redeem(made, code), "temporarily_unavailable", 503)
        assert await running.lookup.feed.poll()
        assert await here.is_good((await here.redeem(made, code)).json()["access_token"])


async def test_the_public_keys_may_be_kept_for_less_than_a_key_waits(url: str) -> None:
    """Their max-age is shorter than the time for which a next key is public before it signs."""
    async with world(url, oauth={"jwks_seconds": 120}) as there:
        answer = await there.http.get("/oauth/jwks")
        assert answer.headers["cache-control"] == "public, max-age=120"


async def test_a_pepper_that_is_replaced(url: str) -> None:
    """With the old pepper beside the new one everything goes on, and passes to the new one; then the old one can go."""
    new = "new-pepper-0123456789abcdef012345"
    async with world(url) as there:
        made = await there.client("job", confidential=True)
        tokens = await there.tokens(made)
    async with world(url, keys={"pepper": new, "old_peppers": {"before": PEPPER}}) as there:
        assert await there.is_good(tokens["access_token"])
        answer = await there.refresh(made, tokens["refresh_token"])
        assert answer.status_code == 200
    async with world(url, keys={"pepper": new}) as there:
        assert await there.is_good(answer.json()["access_token"])
        assert (await there.refresh(made, answer.json()["refresh_token"])).status_code == 200
