"""A token that was ended is refused everywhere, soon, and stays refused: five ways to end it, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gatewaykit.errors import Unavailable
from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings
from gatewaykit.testing.waiting import until, within
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server.authority import digest_of
from gatewaykit_oauth.server.grants import cut_off, is_cut_off
from gatewaykit_oauth.server.settings import YEAR

from .conftest import OPERATOR
from .oauth_world import NOT_AHEAD, HeldBack, World, oauth_gateway, world

LEVELS = ("token", "grant", "user", "client", "key", "all")
RARELY = {"poll_seconds": 60, "stale_seconds": 600}
SOONER = 45.0
"""Seconds within which somebody who asks that rarely can only have been told. How soon, the two processes of
:mod:`.test_revoked_everywhere` say.
"""


async def end(there: World, level: str, token: str, made: Any) -> None:
    """End a token at this level, by the API."""
    import jwt

    claims = jwt.decode(token, options={"verify_signature": False})
    path, body = {
        "token": (f"/tokens/{claims['jti']}/revoke", {}),
        "grant": (f"/grants/{claims['gid']}/revoke", {}),
        "user": ("/tokens/revoke", {"account": "ann"}),
        "client": ("/tokens/revoke", {"client": made.client.id}),
        "key": (f"/signing-keys/{jwt.get_unverified_header(token)['kid']}/revoke", {}),
        "all": ("/tokens/revoke", {"everything": True}),
    }[level]
    answer = await there.http.post(f"/api/admin{path}", json=body, headers=there.operator)
    assert answer.status_code == 200, answer.text


@asynccontextmanager
async def second(url: str, **config: Any) -> AsyncIterator[World]:
    """Another gateway over the same database."""
    import httpx

    gateway = oauth_gateway(url, **config)
    async with (
        gateway,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="https://gateway.test") as http,
    ):
        yield World(gateway, http)


async def until_refused(there: World, token: str) -> None:
    """Wait for it, for less time than it takes until those who ask rarely ask by themselves."""
    async with within(SOONER, "the token is refused"):
        while await there.is_good(token):
            await asyncio.sleep(0.005)


@dataclass
class Outage:
    """The database of a gateway in this process: away while it is ``down``, or from the ``next_write`` on."""

    down: bool = False
    next_write: bool = False

    def begin(self, storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between the gateway and ``storage``."""
        read, query, write = storage.read, storage.query, storage.write

        async def reading(work: Any) -> Any:
            self._require()
            return await read(work)

        async def querying(work: Any) -> Any:
            self._require()
            return await query(work)

        async def writing(work: Any) -> Any:
            self._require()
            written = await write(work)
            self.down = self.down or self.next_write
            return written

        monkeypatch.setattr(storage, "read", reading)
        monkeypatch.setattr(storage, "query", querying)
        monkeypatch.setattr(storage, "write", writing)

    def _require(self) -> None:
        if self.down:
            raise Unavailable(retry_after=1.0, detail="database: down")


@pytest.mark.parametrize("level", LEVELS)
async def test_five_levels_and_a_restart(url: str, level: str) -> None:
    """Ended at one gateway, by token, grant, user, client, signing key or all at once, a year-long token is refused
    there at once, at another after its poll, and by both after a restart; what is issued afterwards is good."""
    async with world(url) as here:
        made = await here.client(access_seconds=YEAR)
        tokens = await here.tokens(made)
        token = tokens["access_token"]
        async with second(url) as there:
            assert await there.is_good(token)
            await end(here, level, token, made)
            assert not await here.is_good(token)
            await until_refused(there, token)
        again = await here.tokens(made)
        assert await here.is_good(again["access_token"])
        refreshed = await here.refresh(made, tokens["refresh_token"])
        assert refreshed.status_code == (200 if level in {"token", "key"} else 400)
    async with second(url) as there:
        assert not await there.is_good(token)
        assert await there.is_good(again["access_token"])


async def test_redis_tells_others(url: str, redis_url: str) -> None:
    """With Redis a revocation at one gateway reaches another that hardly ever asks; and when Redis has forgotten
    everything, the token stays revoked."""
    config: dict[str, Any] = {"keys": RARELY, "redis": {"url": redis_url}}
    async with world(url, **config) as here, second(url, **config) as there:
        made = await here.client()
        token = (await here.tokens(made))["access_token"]
        assert await there.is_good(token)
        assert (await here.revoke(made, token)).status_code == 200
        await until_refused(there, token)
        link = RedisLink(RedisSettings(url=redis_url))
        async with link.lifespan():
            await link._here().call("FLUSHALL")
        assert not await here.is_good(token)
        assert not await there.is_good(token)


async def test_a_clock_that_is_late(url: str) -> None:
    """All tokens of an account end also where the clock of whoever ends them is behind that of whoever issued them; and
    what was refused by an earlier end stays so."""
    async with world(url) as there:
        made = await there.client()
        tokens, now = await there.tokens(made), datetime.now(UTC)
        for seconds in (-20, 20, -20):
            moment = now + timedelta(seconds=seconds)
            await there.authority.change(partial(cut_off, actor=OPERATOR, subject="user:ann", reason="", now=moment))
            assert not await there.is_good(tokens["access_token"])
        assert (await there.refresh(made, tokens["refresh_token"])).status_code == 400
        assert await there.authority.read(lambda session: is_cut_off(session, ["user:ann"], now))


async def test_a_disabled_account_and_what_is_left_of_it(url: str) -> None:
    """Tokens of a disabled account are refused at once, and good again when it is enabled; those of a disabled client
    too."""
    async with world(url) as there:
        made = await there.client()
        token = (await there.tokens(made))["access_token"]

        async def account(*, enabled: bool) -> None:
            wanted = Account(id="ann", name="Ann", enabled=enabled)
            await there.authority.change(lambda session: put_account(session, OPERATOR, wanted))

        async def client(*, enabled: bool) -> None:
            path = f"/api/admin/clients/{made.client.id}"
            answer = await there.http.patch(path, json={"enabled": enabled}, headers=there.operator)
            assert answer.status_code == 200

        switches: list[Callable[..., Awaitable[None]]] = [account, client]
        for switch in switches:
            await switch(enabled=False)
            assert not await there.is_good(token)
            await switch(enabled=True)
            assert await there.is_good(token)


async def test_a_client_that_could_not_be_made_any_more_can_be_disabled(sqlite_url: str) -> None:
    """Whatever became of the configuration, its tokens end when an admin says so."""
    async with world(sqlite_url, oauth={"scopes": {"small": {"description": "Small models"}}}) as there:
        made = await there.client(access_seconds=YEAR, scopes=("small", "inference"))
        token = (await there.tokens(made, scopes=("inference",)))["access_token"]
    async with world(sqlite_url, oauth={"longest_access_seconds": 3600}) as there:
        assert await there.is_good(token)
        path = f"/api/admin/clients/{made.client.id}"
        assert (await there.http.patch(path, json={"name": "x"}, headers=there.operator)).status_code == 400
        assert (await there.http.patch(path, json={"enabled": False}, headers=there.operator)).status_code == 200
        assert not await there.is_good(token)


async def test_a_revocation_while_the_token_is_loaded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was read just before its revocation is not remembered as good after it."""
    from gatewaykit_oauth.server import authority

    held = HeldBack(authority.recognise_token)
    async with world(url, keys=RARELY, oauth=NOT_AHEAD) as there:
        made = await there.client()
        token = (await there.tokens(made))["access_token"]
        await there.forget(token)
        monkeypatch.setattr(authority, "recognise_token", held)
        waiting = asyncio.create_task(there.is_good(token))
        await until(held.read.is_set)
        assert (await there.revoke(made, token)).status_code == 200
        held.go.set()
        assert await waiting is False
        assert not await there.is_good(token)


async def test_what_a_load_found_is_not_asked_for_again(url: str) -> None:
    """Whoever comes in the very moment in which a load has ended, and after a change, does not get what it found."""
    async with world(url, oauth=NOT_AHEAD) as there:
        lookup, digest = there.authority.running.lookup, b"digest"

        async def first() -> Any:
            return "before the change"

        async def then() -> Any:
            return "after it"

        ended = asyncio.ensure_future(first())
        await ended
        lookup._loading[digest] = ended  # as it stands until its callbacks are called
        found: Any = await lookup.loaded(digest, then)
        assert found == "after it"
        await until(lambda: not lookup._loading)


async def test_nothing_fails_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is down remembered tokens work for a while and then get 503 with Retry-After, as unknown ones
    do at once; a revocation that could not be written says so."""
    async with world(url, keys={"poll_seconds": 0.05, "stale_seconds": 600}, oauth=NOT_AHEAD) as there:
        made = await there.client()
        known, fresh = await there.tokens(made), await there.tokens(made)
        token = known["access_token"]
        assert await there.is_good(token)
        await there.forget(fresh["access_token"])
        outage, feed = Outage(down=True), there.authority.running.lookup.feed
        outage.begin(there.authority._storage, monkeypatch)
        await until(lambda: feed.down)
        answer = await there.models(fresh["access_token"])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        answer = await there.revoke(made, token)
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert await there.is_good(token)
        feed.confirmed -= 600  # as if all of that time had passed
        answer = await there.models(token)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        outage.down = False
        await until(lambda: not feed.down)
        assert await there.is_good(token)


async def test_a_token_is_known_where_it_was_issued(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first call asks the database nothing: it was looked up when it was given out. Revoked, it is refused."""
    async with world(url, keys=RARELY) as there:
        made = await there.client()
        token = (await there.tokens(made))["access_token"]
        lookup = there.authority.running.lookup
        await until(lambda: lookup.cache.get(digest_of(token)) is not None)
        outage = Outage(down=True)
        outage.begin(there.authority._storage, monkeypatch)
        assert await there.is_good(token)
        outage.down = False
        assert (await there.revoke(made, token)).status_code == 200
        assert not await there.is_good(token)


async def test_a_token_stays_known_when_its_own_beginning_is_heard(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change that tells of a new grant is no reason to look its first token up once more."""
    async with world(url, keys=RARELY) as there:
        feed = there.authority.running.lookup.feed
        made = await there.client("job", confidential=True, grants=["client_credentials"])
        cursor = feed.cursor
        answer = await there.token(made, grant_type="client_credentials", scope="inference")
        token = answer.json()["access_token"]
        assert await there.is_good(token)
        assert await feed.poll()
        assert feed.cursor > cursor
        Outage(down=True).begin(there.authority._storage, monkeypatch)
        assert await there.is_good(token)


async def test_a_revocation_that_cannot_be_read_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the database goes away right after a revocation was committed, the process that did it does not believe that
    token any more, though it cannot read what it has done; others that it knows go on working."""
    async with world(url, keys=RARELY) as there:
        made, other = await there.client(), await there.client("other")
        token, bystander = [(await there.tokens(one))["access_token"] for one in (made, other)]
        assert await there.is_good(token)
        assert await there.is_good(bystander)
        outage = Outage(next_write=True)
        outage.begin(there.authority._storage, monkeypatch)
        assert (await there.revoke(made, token)).status_code == 200
        assert outage.down
        assert (await there.models(token)).status_code == 503
        assert await there.is_good(bystander)
        outage.down = False
        assert await there.authority.running.lookup.feed.poll()
        assert not await there.is_good(token)
        assert await there.is_good(bystander)


async def test_a_token_that_was_never_written_down(url: str) -> None:
    """A token with a good signature of the active key that the database does not know is refused."""
    from gatewaykit_oauth.server.access_tokens import sign
    from gatewaykit_oauth.server.model import Issued

    async with world(url) as there:
        now = int(datetime.now(UTC).timestamp())
        signer = (await there.authority.running.keyring.keys()).signer
        forged = Issued(
            jti="x",
            grant="grant_x",
            client="client_x",
            account="ann",
            scopes=("inference",),
            audience=(there.authority.issuer,),
            issued=now,
            expires=now + 600,
        )
        text = sign(signer, there.authority.issuer, forged)
        assert await there.authority.verified(text) is not None
        assert not await there.is_good(text)


async def test_keys_that_one_account_manages(url: str) -> None:
    """A key with the scope ``keys`` sees and ends the grants of its own account, and nobody else's."""
    async with world(url) as there:
        for name in ("ann", "bob"):
            wanted = Account(id=name, name=name)
            await there.authority.change(lambda session, wanted=wanted: put_account(session, OPERATOR, wanted))
        made = await there.client(scopes=("inference", "keys"))
        ann = await there.tokens(made, scopes=("inference", "keys"))
        bob = await there.tokens(made, scopes=("inference", "keys"), account="bob")
        own = {"authorization": f"Bearer {ann['access_token']}"}
        found = (await there.http.get("/api/admin/grants", headers=own)).json()["items"]
        assert [grant["account"] for grant in found] == ["ann"]
        everything = (await there.http.get("/api/admin/grants", headers=there.operator)).json()["items"]
        (other,) = [grant for grant in everything if grant["account"] == "bob"]
        for path in (f"/grants/{other['id']}", f"/grants/{other['id']}/revoke"):
            method = "POST" if path.endswith("revoke") else "GET"
            answer = await there.http.request(method, f"/api/admin{path}", headers=own)
            assert answer.status_code == 404
        answer = await there.http.post("/api/admin/tokens/revoke", json={"account": "bob"}, headers=own)
        assert answer.status_code == 403
        assert await there.is_good(bob["access_token"])
        answer = await there.http.post(f"/api/admin/grants/{found[0]['id']}/revoke", headers=own)
        assert answer.json()["ended"]
        assert not await there.is_good(ann["access_token"])


async def test_what_a_client_does_on_behalf_of_an_account(url: str) -> None:
    """Whoever manages an account's tokens sees and ends those of clients that act on its behalf, too."""
    async with world(url) as there:
        spec: dict[str, Any] = {"confidential": True, "grants": ("client_credentials",), "redirect_uris": ()}
        mine, other = await there.client(owner="ann", **spec), await there.client("other", **spec)
        form = {"grant_type": "client_credentials", "scope": "inference"}
        token, foreign = [(await there.token(made, **form)).json()["access_token"] for made in (mine, other)]
        made = await there.client(scopes=("keys",))
        own = {"authorization": f"Bearer {(await there.tokens(made, scopes=('keys',)))['access_token']}"}
        path = "/api/admin/tokens"
        (listed,) = [
            one for one in (await there.http.get(path, headers=own)).json()["items"] if one["client"] == mine.client.id
        ]
        assert (await there.http.get(f"{path}/{listed['jti']}", headers=own)).json() == listed
        assert (await there.http.post(f"{path}/{listed['jti']}/revoke", headers=own)).json()["revoked"]
        assert not await there.is_good(token)
        token = (await there.token(mine, **form)).json()["access_token"]
        answer = await there.http.post(f"/api/admin/grants/{listed['grant']}/revoke", headers=own)
        assert answer.json()["ended"]
        assert not await there.is_good(token)
        everything = (await there.http.get(path, headers=there.operator)).json()["items"]
        (hidden,) = [one for one in everything if one["client"] == other.client.id]
        for name in (f"tokens/{hidden['jti']}", f"grants/{hidden['grant']}"):
            assert (await there.http.post(f"/api/admin/{name}/revoke", headers=own)).status_code == 404
        assert await there.is_good(foreign)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00"])
async def test_places_in_a_list_that_are_none(sqlite_url: str, moment: str) -> None:
    """A moment that is in no year of ours, or without a zone, is no place in a list, and no failure."""
    async with world(sqlite_url) as there:
        for name in ("grants", "tokens"):
            query = {"after": f"{moment}~x"}
            answer = await there.http.get(f"/api/admin/{name}", params=query, headers=there.operator)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
