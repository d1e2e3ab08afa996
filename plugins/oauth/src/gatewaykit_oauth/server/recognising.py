"""From a token's id to what its bearer may do now: one read of the database, which sees all five ways of ending it.

A token that was never written down is refused, so a stolen signing key alone makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gatewaykit.limits import Limit
from gatewaykit.protocols import Known
from gatewaykit.types import Principal

from ..changes.feed import newest_change
from ..keys.globs import common
from ..keys.model import KeyLimits
from ..tables import AccountRow
from .access_tokens import Verified
from .grants import ALL, usable
from .resources import Resources
from .scopes import Scopes
from .tables import AccessTokenRow, ClientRow, GrantRow, SigningKeyRow


class TokenEntry(msgspec.Struct, frozen=True, eq=False):
    """An access token in force: who it is, until which moment (unix time), and for which paths.

    ``thumbprint`` is that of the key whose possession must be proved with each request. ``subjects`` are what it
    depends on: itself, its grant, its account, its client, its signing key, and the end of all.
    """

    principal: Principal
    ends: float
    paths: tuple[str, ...]
    thumbprint: str | None
    subjects: tuple[str, ...]
    granted: tuple[str, ...]
    client: str
    account: str | None


class FoundToken(msgspec.Struct, frozen=True):
    """What the database knows of a token, at the feed's number ``seq`` or later."""

    seq: int
    entry: TokenEntry | None = None


def recognise_token(
    session: Session, verified: Verified, scopes: Scopes, resources: Resources, challenge: str, now: datetime
) -> FoundToken:
    """Look whether the token is in force."""
    seq = newest_change(session)  # first: what is read after it can only be newer
    _fetch(session, verified.jti)
    row = session.get(AccessTokenRow, verified.jti)
    if row is None or row.revoked is not None or row.expires <= now or row.kid != verified.kid:
        return FoundToken(seq)
    key, grant = session.get(SigningKeyRow, row.kid), session.get(GrantRow, row.grant)
    if key is None or key.state == "revoked" or grant is None or grant.id != verified.claims.gid:
        return FoundToken(seq)
    client = usable(session, grant, row.issued, now)
    if client is None or (client.bound and verified.thumbprint is None):
        return FoundToken(seq)
    owner = grant.account if grant.account is not None else client.owner
    account = session.get(AccountRow, owner) if owner is not None else None
    subjects = [f"token:{row.jti}", f"grant:{grant.id}", f"client:{client.id}", f"kid:{row.kid}", ALL]
    if owner is not None:
        subjects.append(f"user:{owner}")
    return FoundToken(
        seq,
        TokenEntry(
            principal=_principal(grant, client.name, account, row.scopes, scopes, challenge),
            ends=float(verified.expires),
            paths=resources.paths_of(row.audience),
            thumbprint=verified.thumbprint,
            subjects=tuple(subjects),
            granted=tuple(row.scopes),
            client=client.id,
            account=grant.account,
        ),
    )


def look_up_grant(session: Session, id: str, scopes: Scopes, challenge: str, now: datetime) -> Known | None:  # noqa: A002
    """The grant of this id: whom its tokens stand for, if they have all scopes that it gives."""
    grant = session.get(GrantRow, id)
    client = session.get(ClientRow, grant.client) if grant is not None else None
    if grant is None or client is None:
        return None
    owner = grant.account if grant.account is not None else client.owner
    account = session.get(AccountRow, owner) if owner is not None else None
    bars = "" if usable(session, grant, now, now) is not None else "ended"
    return Known(_principal(grant, client.name, account, grant.scopes, scopes, challenge), bars)


def _fetch(session: Session, jti: str) -> None:
    """Read the token and all that it depends on at once; the session has each of them from then on."""
    owner = func.coalesce(GrantRow.account, ClientRow.owner)
    query = (
        select(AccessTokenRow, GrantRow, ClientRow, SigningKeyRow, AccountRow)
        .join(GrantRow, GrantRow.id == AccessTokenRow.grant)
        .join(ClientRow, ClientRow.id == GrantRow.client)
        .outerjoin(SigningKeyRow, SigningKeyRow.kid == AccessTokenRow.kid)
        .outerjoin(AccountRow, AccountRow.id == owner)
        .where(AccessTokenRow.jti == jti)
    )
    session.info["token"] = session.execute(query).first()  # the session itself keeps rows only weakly


def is_admin(account: AccountRow | None) -> bool:
    """Whether tokens of this account may manage everything, if they have the scope."""
    return account is not None and account.role == "admin"


def _principal(
    grant: GrantRow, name: str, account: AccountRow | None, granted: list[str], scopes: Scopes, challenge: str
) -> Principal:
    rights = scopes.rights(granted, admin=is_admin(account))
    models = rights.models
    limits: tuple[Limit, ...] = ()
    if account is not None:
        models = common(models, tuple(account.models))
        limits = msgspec.convert(account.limits, KeyLimits).limits(f"user:{account.id}")
    claims: Mapping[str, Any] = {"client_id": grant.client, "scope": " ".join(granted)}
    return Principal(
        id=grant.id,
        name=name,
        owner=account.id if account is not None else "",
        models=models,
        routes=rights.routes,
        scopes=rights.scopes,
        limits=limits,
        claims=claims,
        challenge=challenge,
    )
