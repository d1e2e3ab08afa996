"""How fast somebody may guess: after some failures each further attempt has to wait, ever longer, up to five minutes.

Attempts are counted in the database, for the account and for the address they come from. Nobody signs in without that
database, so there is no state in which attempts are not counted, whatever becomes of Redis or of single processes.

Waiting is not locking: a stranger who guesses at an account makes others wait at most five minutes, and never whoever
has signed in with the same browser before: that browser shows a mark, and has a count of its own (OWASP, device
cookies). Every attempt counts as a failure until it has succeeded, so that many at once are not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gatewaykit.errors import RateLimited
from gatewaykit.storage import insert_new

from ..tables import AttemptsRow
from ..words import N_

LONGEST_WAIT = timedelta(minutes=5)
FORGOTTEN = timedelta(hours=1)
"""Without another failure for so long, the count begins anew."""

MESSAGE = N_("Too many attempts to sign in. Wait a moment, then try again.")


class Count(Struct, frozen=True):
    """What attempts are counted for, and how many failures cost no wait."""

    subject: str
    free: int

    @classmethod
    def of_account(cls, account_id: str) -> Count:
        """An account, from browsers that nobody has signed in with. People may type anything for its id, even their
        password: it is kept as a digest.
        """
        return cls(f"account:{sha256(account_id.encode()).hexdigest()}", 5)

    @classmethod
    def of_address(cls, origin: str) -> Count:
        """An address, behind which there may be many people."""
        return cls(f"address:{origin}", 20)

    @classmethod
    def of_browser(cls, mark: str) -> Count:
        """A browser that has signed in to the account before."""
        return cls(f"browser:{mark}", 10)

    @classmethod
    def of_factor(cls, account_id: str) -> Count:
        """Codes of a second factor, after the right password."""
        return cls(f"factor:{account_id}", 5)


def begin_attempt(session: Session, counts: Sequence[Count], now: datetime) -> None:
    """Count one attempt as failed.

    Raises :class:`~gatewaykit.errors.RateLimited`, and counts nothing, while one of the counts has to wait.
    """
    subjects = [count.subject for count in counts]
    insert_new(session, AttemptsRow, [{"subject": subject, "failures": 0, "last": now} for subject in subjects])
    rows = _locked(session, counts)
    waits = [_wait(rows[count.subject], count.free, now) for count in counts]
    if (longest := max(waits)) > timedelta(0):
        raise RateLimited(MESSAGE, retry_after=longest.total_seconds())
    for row in rows.values():
        row.failures = 1 if _is_over(row, now) else row.failures + 1
        row.last = now
    session.flush()
    session.execute(delete(AttemptsRow).where(AttemptsRow.last < now - FORGOTTEN))


def forgive(session: Session, counts: Sequence[Count]) -> None:
    """The attempt has succeeded: it was no failure, and those before it are forgotten.

    Of an address only this one is: a guesser who owns an account could else begin anew again and again.
    """
    for row in _locked(session, counts).values():
        if row.subject.startswith("address:"):
            row.failures = max(0, row.failures - 1)
        else:
            session.delete(row)


def _locked(session: Session, counts: Sequence[Count]) -> dict[str, AttemptsRow]:
    """The rows, in one order for everybody, so that nobody waits for one another crosswise."""
    query = select(AttemptsRow).where(AttemptsRow.subject.in_([count.subject for count in counts]))
    return {row.subject: row for row in session.scalars(query.order_by(AttemptsRow.subject).with_for_update())}


def _wait(row: AttemptsRow, free: int, now: datetime) -> timedelta:
    """How long the next attempt has to wait still."""
    over = row.failures - free
    if over < 0 or _is_over(row, now):
        return timedelta(0)
    pause = min(timedelta(seconds=2 ** min(over, 20)), LONGEST_WAIT)
    return row.last + pause - now


def _is_over(row: AttemptsRow, now: datetime) -> bool:
    """Whether the count begins anew: it is old, or by a clock that was far ahead, until which nobody has to wait."""
    return now - row.last >= FORGOTTEN or row.last - now > LONGEST_WAIT
