"""Forgetting what nobody can use any more, little by little: in batches, each a transaction of its own.

What revocation needs stays as long as it is needed: a token's row until the token has expired, a grant until its last
token has, a cut-off until everything that it refuses has expired. A token without a row is refused, so forgetting never
brings anything back to life. The audit log is not touched.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Table, delete, exists, select, tuple_

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from .changes.feed import ended
from .server.settings import YEAR, OAuthSettings
from .server.tables import (
    AccessTokenRow,
    ClientRow,
    CodeRow,
    CutoffRow,
    DeviceRow,
    GrantRow,
    InteractionRow,
    ProofRow,
    RefreshTokenRow,
)
from .settings import AdminSettings
from .signin.throttle import FORGOTTEN
from .tables import AttemptsRow, SessionRow, SetupLinkRow

AT_ONCE = 500
EVERY = 900.0
KEPT = timedelta(days=1)
"""How much longer codes and tokens stay than they could be used, so that a second use is still known as that."""

UNUSED = timedelta(days=1)
"""How long a client that registered itself may do nothing."""

logger = logging.getLogger(__name__)
Rule = tuple[type[Any], Callable[[datetime], ColumnElement[bool]]]


class Retention:
    """Deletes what is over. ``deleted`` counts rows."""

    def __init__(self, storage: Storage, oauth: OAuthSettings, admin: AdminSettings) -> None:
        self._storage = storage
        self._rules = rules(oauth, admin)
        self.deleted = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Do it again and again until the end."""
        task = asyncio.create_task(self._run(), name="gatewaykit-oauth-retention")
        try:
            yield
        finally:
            await ended([task])

    async def run_once(self, now: datetime) -> None:
        """Delete all that is over by now. Raises :class:`~gatewaykit.errors.GatewayError`."""
        for model, is_over in self._rules:
            while await self._batch(model.__table__, is_over(now)) == AT_ONCE:
                pass

    async def _run(self) -> None:
        """Every quarter of an hour, more or less: processes need not all do it at once."""
        while True:
            await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
            try:
                await self.run_once(datetime.now(UTC))
            except GatewayError as error:
                logger.warning("what is over is not forgotten yet: %s", error)

    async def _batch(self, table: Table, is_over: ColumnElement[bool]) -> int:
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(is_over).limit(AT_ONCE)
        statement = delete(table).where(key.in_(some))
        deleted = await self._storage.write(
            lambda session: cast("CursorResult[Any]", session.connection().execute(statement)).rowcount
        )
        self.deleted += deleted
        return deleted


def rules(oauth: OAuthSettings, admin: AdminSettings) -> Sequence[Rule]:
    """What is over, by table; what others refer to comes after them."""
    passing: list[Rule] = [(model, _expired(model)) for model in (CodeRow, DeviceRow, InteractionRow, ProofRow)]
    tokens: list[Rule] = [(model, _expired(model)) for model in (RefreshTokenRow, AccessTokenRow)]
    idle = timedelta(seconds=admin.session_idle)
    signing_in: list[Rule] = [
        (SessionRow, lambda now: (SessionRow.ends < now) | (SessionRow.seen < now - idle)),
        (SetupLinkRow, lambda now: SetupLinkRow.ends < now),
        (AttemptsRow, lambda now: AttemptsRow.last < now - FORGOTTEN),
    ]
    return [*passing, *tokens, *_grants(oauth), *signing_in, (ClientRow, _is_unused), (CutoffRow, _cut_offs(oauth))]


def _expired(model: type[Any]) -> Callable[[datetime], ColumnElement[bool]]:
    return lambda now: cast("ColumnElement[bool]", model.expires < now - KEPT)


def _grants(oauth: OAuthSettings) -> Sequence[Rule]:
    if not oauth.keep_days:
        return []
    kept = timedelta(days=oauth.keep_days)

    def is_over(now: datetime) -> ColumnElement[bool]:
        old = (GrantRow.ended < now - kept) | (GrantRow.expires < now - kept)
        return old & ~_has(AccessTokenRow) & ~_has(RefreshTokenRow)

    return [(GrantRow, is_over)]


def _has(model: type[Any]) -> ColumnElement[bool]:
    return exists().where(model.grant == GrantRow.id)


def _is_unused(now: datetime) -> ColumnElement[bool]:
    """Clients that registered themselves and of which nothing came, or that have deleted themselves."""
    never = ClientRow.last_used.is_(None) & (ClientRow.created < now - UNUSED)
    gone = ~ClientRow.enabled & ClientRow.registration.is_(None)
    return (ClientRow.origin == "dynamic") & (never | gone) & ~exists().where(GrantRow.client == ClientRow.id)


def _cut_offs(oauth: OAuthSettings) -> Callable[[datetime], ColumnElement[bool]]:
    longest = timedelta(seconds=max(YEAR, oauth.refresh_seconds)) + 2 * KEPT
    return lambda now: CutoffRow.before < now - longest
