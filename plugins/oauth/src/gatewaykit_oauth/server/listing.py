"""Grants and access tokens as they are listed: by account and client, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..keys.model import Page
from .model import AccessToken, Grant
from .tables import AccessTokenRow, ClientRow, GrantRow


def get_grant(session: Session, grant_id: str, now: datetime) -> Grant:
    """The grant. Raises :class:`~gatewaykit.errors.NotFound`."""
    row = session.get(GrantRow, grant_id)
    if row is None:
        raise NotFound("There is no such grant.")
    (grant,) = _grants(session, [row], now)
    return grant


def find_grants(
    session: Session,
    *,
    now: datetime,
    account: str | None = None,
    client: str | None = None,
    active: bool = False,
    after: str | None = None,
    limit: int = 50,
) -> Page[Grant]:
    """Grants of an account, of a client, or all; ``active`` ones are not ended and not expired."""
    query = select(GrantRow)
    if account is not None:
        own = select(ClientRow.id).where(ClientRow.owner == account)
        query = query.where(or_(GrantRow.account == account, GrantRow.account.is_(None) & GrantRow.client.in_(own)))
    if client is not None:
        query = query.where(GrantRow.client == client)
    if active:
        query = query.where(GrantRow.ended.is_(None), or_(GrantRow.expires.is_(None), GrantRow.expires > now))
    rows, following = _part(session, query, GrantRow.created, GrantRow.id, after, limit)
    return Page(_grants(session, rows, now), following)


def get_token(session: Session, jti: str) -> AccessToken:
    """The access token. Raises :class:`~gatewaykit.errors.NotFound`."""
    row = session.get(AccessTokenRow, jti)
    if row is None:
        raise NotFound("There is no such access token.")
    (token,) = _tokens(session, [row])
    return token


def counts_for(session: Session, known: Grant | AccessToken) -> str | None:
    """The account for which a grant or a token counts: who agreed to it, or on whose behalf its client acts."""
    client = session.get(ClientRow, known.client) if known.account is None else None
    return known.account if client is None else client.owner


def find_tokens(
    session: Session,
    *,
    now: datetime,
    account: str | None = None,
    grant: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[AccessToken]:
    """Access tokens that have not expired: of an account, of a grant, or all."""
    query = select(AccessTokenRow).where(AccessTokenRow.expires > now)
    if grant is not None:
        query = query.where(AccessTokenRow.grant == grant)
    if account is not None:
        own = select(ClientRow.id).where(ClientRow.owner == account)
        of_it = or_(GrantRow.account == account, GrantRow.account.is_(None) & GrantRow.client.in_(own))
        query = query.join(GrantRow, GrantRow.id == AccessTokenRow.grant).where(of_it)
    rows, following = _part(session, query, AccessTokenRow.issued, AccessTokenRow.jti, after, limit)
    return Page(_tokens(session, rows), following)


def _part(
    session: Session, query: Select[Any], when: Any, name: Any, after: str | None, limit: int
) -> tuple[list[Any], str | None]:
    """``after`` is moment and id of the last one before."""
    query = query.order_by(when.desc(), name.desc()).limit(limit + 1)
    if after is not None:
        text, _, last = after.partition("~")
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError
            moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadRequest("This is no place in the list.", param="after") from None
        query = query.where(or_(when < moment, (when == moment) & (name < last)))
    rows = list(session.scalars(query))
    if len(rows) <= limit:
        return rows, None
    end = rows[limit - 1]
    return rows[:limit], f"{getattr(end, when.key).isoformat()}~{getattr(end, name.key)}"


def _grants(session: Session, rows: Sequence[GrantRow], now: datetime) -> tuple[Grant, ...]:
    alive = (
        select(AccessTokenRow.grant, func.count(), func.max(AccessTokenRow.expires))
        .where(
            AccessTokenRow.grant.in_([row.id for row in rows]),
            AccessTokenRow.expires > now,
            AccessTokenRow.revoked.is_(None),
        )
        .group_by(AccessTokenRow.grant)
    )
    tokens = {grant: (count, latest) for grant, count, latest in session.execute(alive)}
    names = _names(session, [row.client for row in rows])
    found = []
    for row in rows:
        count, latest = tokens.get(row.id, (0, None)) if row.ended is None else (0, None)
        found.append(
            Grant(
                id=row.id,
                client=row.client,
                client_name=names.get(row.client, row.client),
                account=row.account,
                scopes=tuple(row.scopes),
                resources=tuple(row.resources),
                access_seconds=row.access_seconds,
                bound=row.thumbprint is not None,
                created=row.created,
                expires=row.expires,
                last_used=row.last_used,
                ended=row.ended,
                reason=row.reason,
                tokens=count,
                token_expires=latest,
            )
        )
    return tuple(found)


def _names(session: Session, clients: Sequence[str]) -> dict[str, str]:
    query = select(ClientRow.id, ClientRow.name).where(ClientRow.id.in_(clients))
    return {client: name for client, name in session.execute(query)}  # noqa: C416 - rows are no pairs to a type checker


def _tokens(session: Session, rows: Sequence[AccessTokenRow]) -> tuple[AccessToken, ...]:
    query = select(GrantRow).where(GrantRow.id.in_([row.grant for row in rows]))
    grants = {grant.id: grant for grant in session.scalars(query)}
    return tuple(
        AccessToken(
            jti=row.jti,
            grant=row.grant,
            client=grants[row.grant].client,
            account=grants[row.grant].account,
            kid=row.kid,
            scopes=tuple(row.scopes),
            audience=tuple(row.audience),
            issued=row.issued,
            expires=row.expires,
            revoked=row.revoked,
        )
        for row in rows
    )
