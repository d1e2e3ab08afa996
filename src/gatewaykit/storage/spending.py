"""How much has been spent, from the books: what budgets start from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from gatewaykit.storage.tables import UsageDay

_OF: dict[str, InstrumentedAttribute[str]] = {
    "key": UsageDay.principal,
    "user": UsageDay.owner,
    "model": UsageDay.model,
}


def spent(session: Session, subject: str, since: datetime) -> int:
    """What ``subject`` has spent since ``since``, the beginning of a day in UTC; in micro-units of accounting.

    ``subject`` is that of a :class:`~gatewaykit.limits.Limit`: ``all``, ``key:ID``, ``user:OWNER`` or ``model:NAME``,
    the model asked for or a glob of such. What the ledger has not written yet is not in it, and calls of unknown price
    are not either.
    Raises :class:`ValueError` for another subject.
    """
    query = select(func.sum(UsageDay.spend)).where(UsageDay.begins >= since)
    if subject != "all":
        kind, _, name = subject.partition(":")
        if kind not in _OF:
            raise ValueError(f"nothing is known of the spending of {subject!r}")
        if kind == "model" and any(special in name for special in "*?["):
            return _spent_on_models(session, query, name)
        query = query.where(_OF[kind] == name)
    return int(session.scalar(query) or 0)


def spent_by_keys(session: Session, keys: Sequence[str], since: datetime) -> dict[str, int]:
    """What each of these keys has spent since ``since``, as :func:`spent` has it, without those that spent nothing."""
    query = select(UsageDay.principal, func.sum(UsageDay.spend)).where(UsageDay.begins >= since)
    found = session.execute(query.where(UsageDay.principal.in_(keys)).group_by(UsageDay.principal))
    return {key: int(spend or 0) for key, spend in found}


def _spent_on_models(session: Session, query: Select[Any], glob: str) -> int:
    found = session.execute(query.add_columns(UsageDay.model).group_by(UsageDay.model))
    return sum(int(spend or 0) for spend, model in found if fnmatchcase(model, glob))
