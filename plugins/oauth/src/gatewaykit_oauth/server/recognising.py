"""From a token's id to what its bearer may do now: one statement, which sees all five ways of ending it.

A token that was never written down is refused, so a stolen signing key alone makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, literal, select
from sqlalchemy.orm import Session

from gatewaykit.limits import Limit
from gatewaykit.protocols import Known
from gatewaykit.types import Principal

from ..changes.feed import newest_change
from ..keys.globs import common
from ..keys.model import KeyLimits
from ..tables import AccountRow, ChangeRow
from .access_tokens import Verified
from .grants import ALL, is_in_force, usable
from .resources import Resources
from .scopes import Scopes
from .tables import AccessTokenRow, ClientRow, CutoffRow, GrantRow, SigningKeyRow


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
    connection: Connection, verified: Verified, scopes: Scopes, resources: Resources, challenge: str, now: datetime
) -> FoundToken:
    """Look whether the token is in force."""
    facts = _facts(connection, verified.jti)
    if facts is None:
        seq = newest_change(connection)  # first: what is read after it can only be newer
        facts = _facts(connection, verified.jti)
        if facts is None:
            return FoundToken(seq)
    if not _is_in_force(facts, verified, now):
        return FoundToken(facts.seq)
    owner = facts.owner
    subjects = [f"token:{facts.jti}", f"grant:{facts.grant}", f"client:{facts.client}", f"kid:{facts.kid}", ALL]
    if owner is not None:
        subjects.append(f"user:{owner}")
    return FoundToken(
        facts.seq,
        TokenEntry(
            principal=_principal(facts, scopes, challenge),
            ends=float(verified.expires),
            paths=resources.paths_of(facts.audience),
            thumbprint=verified.thumbprint,
            subjects=tuple(subjects),
            granted=tuple(facts.scopes),
            client=facts.client,
            account=facts.grantor,
        ),
    )


def look_up_grant(session: Session, id: str, scopes: Scopes, challenge: str, now: datetime) -> Known | None:  # noqa: A002
    """The grant of this id: whom its tokens stand for, if they have all scopes that it gives."""
    owner = func.coalesce(GrantRow.account, ClientRow.owner)
    query = (
        select(GrantRow, GrantRow.scopes, *_who(owner))
        .join_from(GrantRow, ClientRow, ClientRow.id == GrantRow.client)
        .outerjoin(AccountRow, AccountRow.id == owner)
        .where(GrantRow.id == id)
    )
    facts = session.execute(query).first()
    if facts is None:
        return None
    bars = "" if usable(session, facts.GrantRow, now, now) is not None else "ended"
    return Known(_principal(facts, scopes, challenge), bars)


def _is_in_force(facts: Row[Any], verified: Verified, now: datetime) -> bool:
    """Whether nothing has ended the token: itself, its signing key, its grant, its client, its account."""
    if facts.revoked is not None or facts.expires <= now or facts.kid != verified.kid:
        return False
    if facts.key_state in {None, "revoked"} or facts.grant != verified.claims.gid:
        return False
    if facts.bound and verified.thumbprint is None:
        return False
    return is_in_force(
        ended=facts.ended,
        expires=facts.grant_expires,
        client_enabled=facts.client_enabled,
        account_enabled=facts.account_enabled if facts.owner is not None else True,
        cut_off=facts.cut_off is not None,
        now=now,
    )


def _facts(connection: Connection, jti: str) -> Row[Any] | None:
    """The token and all that it depends on, as one statement sees it."""
    return connection.execute(_FACTS, {"jti": jti}).first()


def _statement() -> Select[Any]:
    """Made once: to put it together costs more than to execute it."""
    owner = func.coalesce(GrantRow.account, ClientRow.owner)
    is_subject = (
        (CutoffRow.subject == ALL)
        | (CutoffRow.subject == literal("client:") + ClientRow.id)
        | (CutoffRow.subject == literal("user:") + owner)
    )
    cut_off = select(CutoffRow.subject).where(is_subject, CutoffRow.before >= AccessTokenRow.issued).limit(1)
    newest = select(func.coalesce(func.max(ChangeRow.seq), 0))
    return (
        select(
            newest.scalar_subquery().label("seq"),
            AccessTokenRow.jti,
            AccessTokenRow.kid,
            AccessTokenRow.scopes,
            AccessTokenRow.audience,
            AccessTokenRow.expires,
            AccessTokenRow.revoked,
            SigningKeyRow.state.label("key_state"),
            GrantRow.account.label("grantor"),
            GrantRow.ended,
            GrantRow.expires.label("grant_expires"),
            ClientRow.enabled.label("client_enabled"),
            ClientRow.bound,
            *_who(owner),
            cut_off.correlate(ClientRow, GrantRow, AccessTokenRow).scalar_subquery().label("cut_off"),
        )
        .join_from(AccessTokenRow, GrantRow, GrantRow.id == AccessTokenRow.grant)
        .join(ClientRow, ClientRow.id == GrantRow.client)
        .outerjoin(SigningKeyRow, SigningKeyRow.kid == AccessTokenRow.kid)
        .outerjoin(AccountRow, AccountRow.id == owner)
        .where(AccessTokenRow.jti == bindparam("jti"))
    )


def _who(owner: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    """What a principal is made of; see :func:`_principal`."""
    return (
        GrantRow.id.label("grant"),
        ClientRow.id.label("client"),
        ClientRow.name.label("client_name"),
        owner.label("owner"),
        AccountRow.enabled.label("account_enabled"),
        AccountRow.role.expression,
        AccountRow.models.expression,
        AccountRow.limits.expression,
    )


_FACTS = _statement()


def _principal(facts: Row[Any], scopes: Scopes, challenge: str) -> Principal:
    has_account = facts.account_enabled is not None
    rights = scopes.rights(facts.scopes, admin=facts.role == "admin")
    models = rights.models
    limits: tuple[Limit, ...] = ()
    if has_account:
        models = common(models, tuple(facts.models))
        limits = msgspec.convert(facts.limits, KeyLimits).limits(f"user:{facts.owner}")
    claims: Mapping[str, Any] = {"client_id": facts.client, "scope": " ".join(facts.scopes)}
    return Principal(
        id=facts.grant,
        name=facts.client_name,
        owner=facts.owner if has_account else "",
        models=models,
        routes=rights.routes,
        scopes=rights.scopes,
        limits=limits,
        claims=claims,
        challenge=challenge,
    )
