"""Tokens that will be asked for are read ahead: their first call asks the database nothing, and nothing fails open."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from sqlalchemy import delete, update

from gatewaykit.testing.waiting import until, within
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server import ahead
from gatewaykit_oauth.server.access_tokens import sign
from gatewaykit_oauth.server.ahead import Ahead
from gatewaykit_oauth.server.model import Issued
from gatewaykit_oauth.server.settings import YEAR
from gatewaykit_oauth.server.tables import AccessTokenRow
from gatewaykit_oauth.tables import ChangeRow

from .conftest import OPERATOR
from .oauth_world import HeldBack, World, world
from .test_token_revocation import LEVELS, RARELY, SOONER, Outage, end, second

OFTEN = {"poll_seconds": 0.02, "stale_seconds": 600}


def claims_of(token: str) -> dict[str, Any]:
    """What the token says."""
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def ahead_of(there: World) -> Ahead:
    """What was read ahead there."""
    return there.authority.running.ahead


async def until_known(there: World, *tokens: str) -> None:
    """Wait until these were read ahead."""
    jtis = [claims_of(token)["jti"] for token in tokens]
    await until(lambda: all(ahead_of(there).get(jti) is not None for jti in jtis))


async def test_a_token_of_another_process_is_known_before_it_comes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was issued elsewhere is good here while the database is away, though it was never used here; after
    that it is remembered like any other."""
    async with world(url) as here, second(url, keys=OFTEN) as there:
        token = (await here.tokens())["access_token"]
        await until_known(there, token)
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        assert await there.is_good(token)
        assert ahead_of(there).get(claims_of(token)["jti"]) is None
        assert await there.is_good(token)


async def test_a_refreshed_token_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that changes nothing of what others remember is noticed as well."""
    async with world(url) as here, second(url, keys=OFTEN) as there:
        made = await here.client()
        answer = await here.refresh(made, (await here.tokens(made))["refresh_token"])
        token = answer.json()["access_token"]
        await until_known(there, token)
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        assert await there.is_good(token)


async def test_tokens_are_known_after_a_restart(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that an earlier process issued are read ahead when one starts, but for those that are over."""
    async with world(url) as earlier:
        tokens = [(await earlier.tokens())["access_token"] for _ in range(3)]
        over = claims_of(tokens[2])["jti"]
        past = datetime.now(UTC) - timedelta(seconds=1)
        ending = update(AccessTokenRow).where(AccessTokenRow.jti == over).values(expires=past)
        await earlier.authority.write(lambda session: session.execute(ending))
    async with second(url, keys=RARELY) as later:
        await until_known(later, *tokens[:2])
        assert ahead_of(later).get(over) is None
        Outage(down=True).begin(later.authority._storage, monkeypatch)
        assert [await later.is_good(token) for token in tokens[:2]] == [True, True]
        assert (await later.models(tokens[2])).status_code == 503


async def test_redis_tells_of_new_tokens(url: str, redis_url: str) -> None:
    """With Redis, those who ask rarely know of a new token before long, whichever grant it is of."""
    config = {"redis": {"url": redis_url}, "keys": RARELY}
    async with world(url, **config) as here, second(url, **config) as there:
        made = await here.client()
        tokens = await here.tokens(made)
        refreshed = (await here.refresh(made, tokens["refresh_token"])).json()
        async with within(SOONER, "both tokens were read ahead"):
            await until_known(there, tokens["access_token"], refreshed["access_token"])


@pytest.mark.parametrize("level", LEVELS)
async def test_what_was_read_ahead_and_revoked_is_refused(url: str, level: str) -> None:
    """A token that was read ahead is refused here once this process has asked for changes, at each of the levels."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        made = await here.client()
        token, bystander = [(await here.tokens(one))["access_token"] for one in (made, await here.client("other"))]
        feed = there.authority.running.lookup.feed
        assert await feed.poll()
        await until_known(there, token, bystander)
        await end(here, level, token, made)
        assert await feed.poll()
        assert not await there.is_good(token)
        assert await there.is_good(bystander) is (level in {"token", "grant", "client"})


async def test_a_revocation_while_it_is_read_ahead(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was read just before its revocation is not held as good after it."""
    held = HeldBack(ahead.facts_of)
    async with world(url) as here:
        made = await here.client()
        token = (await here.tokens(made))["access_token"]
        await until_known(here, token)
        monkeypatch.setattr(ahead, "facts_of", held)
        async with second(url, keys=RARELY) as there:
            await until(held.read.is_set)
            assert (await here.revoke(made, token)).status_code == 200
            assert await there.authority.running.lookup.feed.poll()
            held.go.set()
            assert not await there.is_good(token)
            await until_settled(there)
            assert not await there.is_good(token)


async def until_settled(there: World) -> None:
    """Wait until nothing is being read ahead: a token that comes last is held."""
    made = await there.client("last")
    last = (await there.tokens(made))["access_token"]
    await until_known(there, last)


async def test_only_the_newest_are_read_ahead(url: str) -> None:
    """A process holds as many as it was told to, the newest; with 0 it reads nothing, and tokens are looked up."""
    async with world(url) as earlier:
        tokens = [(await earlier.tokens())["access_token"] for _ in range(4)]
    async with second(url, oauth={"read_ahead": 2}) as few, second(url, oauth={"read_ahead": 0}) as none:
        await until_known(few, *tokens[2:])
        assert len(ahead_of(few)) == 2
        assert all([await none.is_good(token) for token in tokens])
        assert len(ahead_of(none)) == 0


async def test_a_thief_of_the_signing_key_gains_nothing(url: str) -> None:
    """Who can sign as the server, and knows a token that was read ahead, makes no other of it: not for another grant,
    and not for longer than was written down."""
    async with world(url) as here, second(url, keys=OFTEN) as there:
        made = await here.client()
        token = (await here.tokens(made))["access_token"]
        claims, signer = claims_of(token), (await here.authority.running.keyring.keys()).signer

        def forged(**changed: Any) -> str:
            given = {
                "jti": claims["jti"],
                "grant": claims["gid"],
                "client": made.client.id,
                "account": "ann",
                "scopes": ("inference", "admin"),
                "audience": (claims["aud"],),
                "issued": claims["iat"],
                "expires": claims["iat"] + YEAR,
            }
            return sign(signer, here.authority.issuer, Issued(**{**given, **changed}))

        await until_known(there, token)
        assert not await there.is_good(forged(grant="grant_x"))
        assert not await there.is_good(forged(jti="x"))
        longer = forged()
        assert await there.is_good(longer)
        entry = await there.authority.known(longer)
        assert entry is not None
        assert entry.ends == claims["exp"]
        assert "admin" not in entry.principal.scopes


async def test_after_a_gap_in_the_feed_everything_is_read_anew(url: str) -> None:
    """Where changes may have been forgotten before they were read, nothing that was read ahead is believed, and all of
    it is read once more."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        token, revoked = [(await here.tokens())["access_token"] for _ in range(2)]
        feed, jti = there.authority.running.lookup.feed, claims_of(revoked)["jti"]
        assert await feed.poll()
        await until_known(there, token, revoked)
        revoking = update(AccessTokenRow).where(AccessTokenRow.jti == jti).values(revoked=datetime.now(UTC))
        await here.authority.write(lambda session: session.execute(revoking))
        await here.authority.write(lambda session: session.execute(delete(ChangeRow)))
        assert await feed.poll()
        assert ahead_of(there).get(jti) is None
        assert not await there.is_good(revoked)
        await until_known(there, token)
        assert await there.is_good(token)


async def test_after_a_change_it_is_read_once_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token whose account has changed is read ahead again, with what the account may do now."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        token = (await here.tokens())["access_token"]
        feed, jti = there.authority.running.lookup.feed, claims_of(token)["jti"]
        assert await feed.poll()
        await until_known(there, token)
        account = Account(id="ann", name="Ann", models=("small-*",))
        await here.authority.change(lambda session: put_account(session, OPERATOR, account))
        assert await feed.poll()
        assert ahead_of(there).get(jti) is None
        await until_known(there, token)
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        entry = await there.authority.known(token)
        assert entry is not None
        assert entry.principal.models == ("small-*",)


async def test_what_has_the_change_in_it_is_not_read_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was read ahead before this process heard of its grant stays known when it hears of it: the database
    may be away by then."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        made = await here.client()
        feed = there.authority.running.lookup.feed
        assert await feed.poll()
        cursor, token = feed.cursor, (await here.tokens(made))["access_token"]
        ahead_of(there)._due.set()
        await until_known(there, token)
        read = there.authority._storage.read
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        monkeypatch.setattr(there.authority._storage, "read", read)  # as if it goes away right after the feed's look
        assert await feed.poll()
        assert feed.cursor > cursor
        assert await there.is_good(token)


async def test_it_goes_on_after_an_outage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away nothing is read ahead; tokens that were issued meanwhile are, when it is back."""
    async with world(url) as here, second(url, keys=OFTEN) as there:
        outage, feed = Outage(down=True), there.authority.running.lookup.feed
        outage.begin(there.authority._storage, monkeypatch)
        await until(lambda: feed.down)
        token = (await here.tokens())["access_token"]
        outage.down = False
        await until_known(there, token)


async def test_a_token_that_was_committed_late_is_noticed(url: str) -> None:
    """One that was issued before the newest that is known, and committed after it, is read ahead too."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        token = (await here.tokens())["access_token"]
        feed, jti = there.authority.running.lookup.feed, claims_of(token)["jti"]
        assert await feed.poll()
        await until_known(there, token)

        def earlier(session: Any) -> None:
            row = session.get(AccessTokenRow, jti)
            late = {"issued": row.issued - ahead.LATE / 2, "expires": row.expires, "jti": "late"}
            same = {name: getattr(row, name) for name in ("grant", "kid", "scopes", "audience")}
            session.add(AccessTokenRow(**same, **late))

        await here.authority.write(earlier)
        assert await feed.poll()
        await until(lambda: ahead_of(there).get("late") is not None)


async def test_twenty_first_calls_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are answered, and none asks the database."""
    async with world(url) as here, second(url, keys=RARELY) as there:
        token = (await here.tokens())["access_token"]
        assert await there.authority.running.lookup.feed.poll()
        await until_known(there, token)
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        assert all(await asyncio.gather(*(there.is_good(token) for _ in range(20))))


async def test_nobody_is_trusted_for_too_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read ahead is believed for ``keys.stale_seconds`` without a word from the database, and no longer."""
    async with world(url) as here, second(url, keys=OFTEN) as there:
        token = (await here.tokens())["access_token"]
        await until_known(there, token)
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        feed = there.authority.running.lookup.feed
        await until(lambda: feed.down)
        feed.confirmed = time.monotonic() - 601
        answer = await there.models(token)
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
