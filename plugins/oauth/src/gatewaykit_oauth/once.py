"""What may be used once: whoever writes its digest down first has used it, in whichever process."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .server.tables import ProofRow


def spend(session: Session, digest: bytes, expires: float) -> bool:
    """Whether nobody has used it before. ``expires``, in unix time, is when it could not be used anyway."""
    row = ProofRow(digest=digest, expires=datetime.fromtimestamp(expires, UTC))
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True
