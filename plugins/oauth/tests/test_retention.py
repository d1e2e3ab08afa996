"""What nobody can use is forgotten, in batches; what revocation needs stays, and nothing comes back to life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from gatewaykit.errors import Unavailable
from gatewaykit_oauth import retention
from gatewaykit_oauth.accounts import get_account
from gatewaykit_oauth.keys.audit import entries
from gatewaykit_oauth.retention import Retention
from gatewaykit_oauth.server.grants import cut_off, end_grant
from gatewaykit_oauth.server.settings import YEAR
from gatewaykit_oauth.server.tables import AccessTokenRow, ClientRow, CodeRow, CutoffRow, GrantRow, RefreshTokenRow
from gatewaykit_oauth.settings import AdminSettings
from gatewaykit_oauth.signin import links, sessions
from gatewaykit_oauth.tables import SessionRow, SetupLinkRow

from .conftest import OPERATOR
from .oauth_world import NOT_AHEAD, World, world

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


def retention_of(there: World) -> Retention:
    """That of this gateway."""
    assert there.gateway.storage is not None
    return Retention(there.gateway.storage, there.authority.settings, AdminSettings())


async def count(there: World, model: Any) -> int:
    """How many rows there are."""
    return await there.authority.read(lambda session: session.scalar(select(func.count()).select_from(model)) or 0)


async def test_a_grant_stays_as_long_as_a_token_of_it(url: str) -> None:
    """A grant that was ended is kept for ``keep_days``, and as long as one of its tokens could be used had it not been
    ended; then it goes with everything. The tokens are refused all the time."""
    async with world(url, oauth=NOT_AHEAD) as there:
        made = await there.client(access_seconds=YEAR)
        tokens, other = await there.tokens(made), await there.tokens(made)
        (grant, *_) = await there.authority.read(
            lambda session: list(session.scalars(select(GrantRow.id).order_by(GrantRow.created)))
        )
        await there.authority.change(lambda session: end_grant(session, OPERATOR, grant, "test", NOW))
        forgetting = retention_of(there)
        for days, grants, access in ((100, 2, 2), (364, 2, 2), (367, 1, 0), (365 + 100, 0, 0)):
            await forgetting.run_once(NOW + days * DAY)
            assert (await count(there, GrantRow), await count(there, AccessTokenRow)) == (grants, access), days
            assert not await there.is_good(tokens["access_token"])
        there.authority.running.lookup.cache.clear()
        assert not await there.is_good(other["access_token"])
        assert await count(there, RefreshTokenRow) == 0
        assert (await there.refresh(made, other["refresh_token"])).json()["error"] == "invalid_grant"


async def test_consents_are_kept_while_they_count(url: str) -> None:
    """A grant in force whose access tokens have all expired stays; with ``keep_days = 0`` ended ones stay, too."""
    async with world(url, oauth={"keep_days": 0}) as there:
        await there.tokens()
        await retention_of(there).run_once(NOW + 300 * DAY)
        assert await count(there, GrantRow) == 1
        await retention_of(there).run_once(NOW + 3000 * DAY)
        assert (await count(there, GrantRow), await count(there, AccessTokenRow)) == (1, 0)


async def test_a_cut_off_outlives_what_it_refuses(url: str) -> None:
    """A year-long token that a cut-off refuses is refused until its end, whatever is forgotten meanwhile."""
    async with world(url) as there:
        token = (await there.tokens(await there.client(access_seconds=YEAR)))["access_token"]
        await there.authority.change(lambda session: cut_off(session, OPERATOR, "user:ann", "test"))
        await there.authority.write(lambda session: session.execute(update(GrantRow).values(ended=None)))
        await retention_of(there).run_once(NOW + 364 * DAY)
        assert await count(there, CutoffRow) == 1
        there.authority.running.lookup.cache.clear()
        assert not await there.is_good(token)
        await retention_of(there).run_once(NOW + 400 * DAY)
        assert await count(there, CutoffRow) == 0
        assert not await there.is_good(token)


async def test_a_used_code_is_known_for_a_day(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second use within a day ends the grant; afterwards the code is unknown. Many go in batches."""
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    async with world(url) as there:
        made = await there.client()
        codes = [await there.code(made) for _ in range(10)]
        tokens = (await there.redeem(made, codes[0])).json()
        forgetting = retention_of(there)
        await forgetting.run_once(NOW + timedelta(hours=20))
        assert await count(there, CodeRow) == 10
        assert (await there.redeem(made, codes[0])).status_code == 400
        assert not await there.is_good(tokens["access_token"])
        before = forgetting.deleted
        await forgetting.run_once(NOW + 2 * DAY)
        assert await count(there, CodeRow) == 0
        assert forgetting.deleted - before >= 10


async def test_sessions_and_links(url: str) -> None:
    """Sessions that ended or idled and links that are too old go, others stay; the audit log keeps every line."""
    lives = sessions.Lives(timedelta(hours=2), timedelta(hours=24))
    async with world(url) as there:

        def work(session: Session) -> None:
            ann = get_account(session, "ann")
            for hours in (0, 1, 5, 30):
                then = NOW - timedelta(hours=hours)
                sessions.begin(session, ann, lives, pending=False, address=None, agent="", now=then)
            links.new_link(session, OPERATOR, ann, NOW - 2 * DAY)

        await there.authority.write(work)
        lines = await there.authority.read(
            lambda session: len(entries(session, object_id=None, actor=None, after=None, limit=200).items)
        )
        await retention_of(there).run_once(NOW + timedelta(minutes=30))
        assert (await count(there, SessionRow), await count(there, SetupLinkRow)) == (2, 0)
        assert lines == await there.authority.read(
            lambda session: len(entries(session, object_id=None, actor=None, after=None, limit=200).items)
        )


async def test_clients_that_registered_and_never_came(url: str) -> None:
    """They go after a day; one that somebody used, and one that an operator made, stay."""
    async with world(url, oauth={"registration": True}) as there:
        body = {"redirect_uris": ["https://client.test/cb"], "token_endpoint_auth_method": "none"}
        names = [(await there.http.post("/oauth/register", json=body)).json()["client_id"] for _ in range(3)]
        await there.client("mine")
        used = update(ClientRow).where(ClientRow.id == names[0]).values(last_used=NOW)
        await there.authority.write(lambda session: session.execute(used))
        await retention_of(there).run_once(NOW + timedelta(hours=20))
        assert await count(there, ClientRow) == 4
        await retention_of(there).run_once(NOW + 400 * DAY)
        left = await there.authority.read(lambda session: set(session.scalars(select(ClientRow.name))))
        assert left == {"Unnamed client", "mine"}
        assert await count(there, ClientRow) == 2


async def test_a_database_that_is_away(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing breaks: it is said in the log, and tried again."""
    monkeypatch.setattr(retention, "EVERY", 0.01)
    async with world(sqlite_url) as there:
        assert there.gateway.storage is not None
        real, tried = there.gateway.storage.write, []

        async def write(work: Any) -> Any:
            tried.append(work)
            if len(tried) == 1:
                raise Unavailable(detail="database: away")
            return await real(work)

        monkeypatch.setattr(there.gateway.storage, "write", write)
        forgetting = retention_of(there)
        async with forgetting.lifespan():
            from gatewaykit.testing.waiting import until

            await until(lambda: len(tried) > 20)
    assert [line for line in caplog.messages if "not forgotten yet" in line]
