"""Who a database is, whatever address it has."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from gatewaykit.storage.tables import StoredIdentity


def identity(session: Session) -> str:
    """What tells this database, and what was made from a backup of it, from all others: 16 hex digits."""
    return session.scalars(select(StoredIdentity.id)).one()
