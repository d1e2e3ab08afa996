"""From a token's id to what its bearer may do now: one statement, which sees all five ways of ending it.

A token that was never written down is refused, so a stolen signing key alone makes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


class Facts(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What the database says of a token and of all that it depends on, as one statement saw it at the feed's number
    ``seq``. ``grantor`` is the account that agreed, ``owner`` the one for which the token counts. Without an account
    of that id, what follows of it is None.
    """

    seq: int
    jti: str
    kid: str
    scopes: list[str]
    audience: list[str]
    expires: datetime
    revoked: datetime | None
    key_state: str | None
    grant: str
    grantor: str | None
    ended: datetime | None
    grant_expires: datetime | None
    client: str
    client_name: str
    client_enabled: bool
    bound: bool
    owner: str | None
    account_enabled: bool | None
    role: str | None
    models: list[str] | None
    limits: dict[str, Any] | None
    cut_off: str | None

    @property
    def ended_early(self) -> bool:
        """Whether somebody has ended the token or its grant; nobody can undo that."""
        return self.revoked is not None or self.ended is not None or self.cut_off is not None

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the token depends on: itself, its grant, its client, its signing key, the end of all, its account."""
        own = (f"token:{self.jti}", f"grant:{self.grant}", f"client:{self.client}", f"kid:{self.kid}", ALL)
        return own if self.owner is None else (*own, f"user:{self.owner}")


class TokenEntry(msgspec.Struct, frozen=True, eq=False):
    """An access token in force: who it is, until which moment (unix time), and for which paths.

    ``thumbprint`` is that of the key whose possession must be proved with each request.
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
    facts = _read(connection, verified.jti)
    if facts is None:
        seq = newest_change(connection)  # first: what is read after it can only be newer
        facts = _read(connection, verified.jti)
        if facts is None:
            return FoundToken(seq)
    return FoundToken(facts.seq, entry_of(facts, verified, scopes, resources, challenge, now))


def entry_of(
    facts: Facts, verified: Verified, scopes: Scopes, resources: Resources, challenge: str, now: datetime
) -> TokenEntry | None:
    """What the bearer of the token may do by these facts; None if it is not in force."""
    if not _is_in_force(facts, verified, now):
        return None
    return TokenEntry(
        principal=_principal(facts, scopes, challenge, ends=_end(facts, verified)),
        ends=_end(facts, verified),
        paths=resources.paths_of(facts.audience),
        thumbprint=verified.thumbprint,
        subjects=facts.subjects,
        granted=tuple(facts.scopes),
        client=facts.client,
        account=facts.grantor,
    )


def newest_tokens(connection: Connection, since: datetime, now: datetime, most: int) -> Sequence[tuple[str, datetime]]:
    """Ids of the tokens that were issued since then and have not ended themselves, with the moments: the newest of
    them, as many as asked for, the oldest first.
    """
    query = select(AccessTokenRow.jti, AccessTokenRow.issued).where(
        AccessTokenRow.issued >= since, AccessTokenRow.expires > now, AccessTokenRow.revoked.is_(None)
    )
    rows = connection.execute(query.order_by(AccessTokenRow.issued.desc()).limit(most)).all()
    return [(jti, issued) for jti, issued in reversed(rows)]


def facts_of(connection: Connection, jtis: Sequence[str]) -> Sequence[Facts]:
    """Of each of these tokens that the database knows."""
    return [Facts(**row._mapping) for row in connection.execute(_OF_SEVERAL, {"jtis": jtis})]


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


def _is_in_force(facts: Facts, verified: Verified, now: datetime) -> bool:
    """Whether nothing has ended the token: itself, its signing key, its grant, its client, its account."""
    if facts.jti != verified.jti or facts.kid != verified.kid:
        return False
    if facts.revoked is not None or facts.expires <= now:
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


def _end(facts: Facts, verified: Verified) -> float:
    """The first of the moments at which the token is over."""
    written = [moment.timestamp() for moment in (facts.expires, facts.grant_expires) if moment is not None]
    return min(float(verified.expires), *written)


def _read(connection: Connection, jti: str) -> Facts | None:
    row = connection.execute(_OF_ONE, {"jti": jti}).first()
    return None if row is None else Facts(**row._mapping)


def _statement() -> Select[Any]:
    """All :class:`Facts` of tokens. Made once: to put it together costs more than to execute it."""
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


_OF_ONE = _statement().where(AccessTokenRow.jti == bindparam("jti"))
_OF_SEVERAL = _statement().where(AccessTokenRow.jti.in_(bindparam("jtis", expanding=True)))


def _principal(facts: Row[Any] | Facts, scopes: Scopes, challenge: str, ends: float = math.inf) -> Principal:
    has_account = facts.account_enabled is not None
    rights = scopes.rights(facts.scopes, admin=facts.role == "admin")
    models = rights.models
    limits: tuple[Limit, ...] = ()
    if has_account:
        models = common(models, tuple(facts.models or ()))
        limits = msgspec.convert(facts.limits, KeyLimits).limits(f"user:{facts.owner}")
    claims: dict[str, Any] = {"client_id": facts.client, "scope": " ".join(facts.scopes)}
    if ends < math.inf:
        claims["exp"] = int(ends)
    return Principal(
        id=facts.grant,
        name=facts.client_name,
        owner=(facts.owner or "") if has_account else "",
        models=models,
        routes=rights.routes,
        scopes=rights.scopes,
        limits=limits,
        claims=claims,
        challenge=challenge,
    )
