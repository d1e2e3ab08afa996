"""When and from where keys were used last: noted in memory, written in batches, and never set back."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from sqlalchemy import bindparam, or_, update
from sqlalchemy.orm import Session

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from ..tables import KeyRow

EVERY = 30.0
MOST_NOTES = 100_000
Notes = dict[str, tuple[float, str | None]]
logger = logging.getLogger(__name__)


class LastUsed:
    """Notes the use of keys, in unix time. What cannot be written is kept for the next time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._notes: Notes = {}

    def note(self, key_id: str, now: float, client: str | None) -> None:
        """The key was used."""
        self._notes[key_id] = (now, client)

    async def run(self) -> None:
        """Write every half a minute, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted since the last time."""
        notes, self._notes = self._notes, {}
        if not notes:
            return
        try:
            await self._storage.write(lambda session: write_notes(session, notes))
        except GatewayError as error:
            logger.warning("the last use of %d API keys is not written yet: %s", len(notes), error)
            if len(notes) + len(self._notes) <= MOST_NOTES:
                self._notes = {**notes, **self._notes}


def write_notes(session: Session, notes: Notes) -> None:
    """Forward only, and in one order, so that two processes do not wait for each other in a circle."""
    rows = [
        {"key": key_id, "moment": datetime.fromtimestamp(moment, UTC), "client": client}
        for key_id, (moment, client) in sorted(notes.items())
    ]
    table = KeyRow.__table__
    earlier = or_(table.c.last_used.is_(None), table.c.last_used < bindparam("moment", type_=table.c.last_used.type))
    statement = (
        update(KeyRow.__table__)  # type: ignore[arg-type]  # a declared table is always a Table
        .where(table.c.id == bindparam("key"), earlier)
        .values(last_used=bindparam("moment", type_=table.c.last_used.type), last_used_from=bindparam("client"))
    )
    session.connection().execute(statement, rows)
