"""Forgetting what nobody can use any more: codes, devices, requests, proofs and tokens that have expired."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from .tables import AccessTokenRow, CodeRow, DeviceRow, InteractionRow, ProofRow, RefreshTokenRow

EVERY = 900.0
KEPT = timedelta(days=1)
"""How much longer they stay, so that a second use of a code is still recognised as that."""

logger = logging.getLogger(__name__)


async def clean_for_ever(storage: Storage) -> None:
    """Every quarter of an hour, more or less: processes need not all do it at once."""
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
        try:
            await storage.write(lambda session: clean(session, datetime.now(UTC)))
        except GatewayError as error:
            logger.warning("expired tokens are not forgotten yet: %s", error)


def clean(session: Session, now: datetime) -> None:
    """Delete what has expired a day ago."""
    for table in (CodeRow, DeviceRow, InteractionRow, ProofRow, RefreshTokenRow, AccessTokenRow):
        session.execute(delete(table).where(table.expires < now - KEPT))
