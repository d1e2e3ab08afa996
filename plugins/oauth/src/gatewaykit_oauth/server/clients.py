"""What can be done with clients, on a session of the database. Every change leaves a line in the audit log and one in
the feed of changes, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..faults import Fault, Refusal
from ..ids import new_id
from ..keys.audit import record, take_turn
from ..keys.checks import (
    RESERVED,
    SCOPES,
    SHORTEST_ACCESS,
    check_account_id,
    check_idempotency_key,
    check_name,
)
from ..keys.format import CLIENT
from ..keys.model import Actor, Page
from ..keys.repetitions import remember, repeated
from ..keys.rights import require_whole, scopes_of
from ..keys.rows import described
from ..keys.secrets import NewSecret, Secrets
from ..keys.store import holder_of
from ..tables import AccountRow
from ..words import NN_, counted, filled
from .assertions import MOST_KEYS, is_key_set
from .model import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    GRANT_TYPES,
    REFRESH_TOKEN,
    Client,
    ClientChanges,
    ClientSpec,
    NewClient,
    Origin,
)
from .redirects import MOST, is_safe
from .scopes import Scopes
from .settings import OAuthSettings
from .tables import ClientRow

PREFIX = RESERVED
"""How the ids of registered clients begin; no account may be called so, for both are subjects of tokens."""

_REDIRECT_URIS = NN_(
    "There can be %(n)s redirect URI: https, http on a loopback address, or a scheme like com.example.app:/",
    "There can be %(n)s redirect URIs: https, http on a loopback address, or a scheme like com.example.app:/",
)
_KEYS = NN_(
    "The keys are %(n)s public key of a confidential client, as a JWK set.",
    "The keys are 1 to %(n)s public keys of a confidential client, as a JWK set.",
)
_LIFE = NN_(
    "The life of access tokens is %(shortest)s to %(n)s second.",
    "The life of access tokens is %(shortest)s to %(n)s seconds.",
)


def get(session: Session, client_id: str) -> Client:
    """The client. Raises :class:`~gatewaykit.errors.NotFound`."""
    return shown(_row(session, client_id))


def find(session: Session, *, after: str | None = None, limit: int = 50) -> Page[Client]:
    """Clients by id; ``after`` is the id at which the part before ended."""
    query = select(ClientRow).order_by(ClientRow.id).limit(limit + 1)
    if after is not None:
        query = query.where(ClientRow.id > after)
    rows = list(session.scalars(query))
    items = tuple(shown(row) for row in rows[:limit])
    return Page(items, items[-1].id if len(rows) > limit else None)


def create(
    session: Session,
    actor: Actor,
    spec: ClientSpec,
    *,
    secrets: Secrets,
    settings: OAuthSettings,
    origin: Origin = "static",
    registration: bytes | None = None,
    idempotency_key: str | None = None,
    now: datetime | None = None,
) -> NewClient:
    """Make a client; a repetition, known by its idempotency key, makes none and has no secret.

    Raises :class:`~gatewaykit.errors.BadRequest` naming the field that is wrong.
    """
    now = now or datetime.now(UTC)
    check(spec, settings)
    take_turn(session)
    asked = msgspec.json.encode(spec)
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
        if (known := repeated(session, actor, "client.create", idempotency_key, asked, now)) is not None:
            return NewClient(get(session, known), None)
    _require_covered(session, actor, spec, settings, now)
    _check_owner(session, spec.owner)
    secret = secrets.new(CLIENT) if spec.confidential and spec.jwks is None else None
    row = ClientRow(
        id=new_id(PREFIX),
        origin=origin,
        **_columns(spec),
        **_secret_columns(secret, secrets),
        enabled=True,
        created=now,
        created_by=actor.id,
        registration=registration,
        version=0,
    )
    session.add(row)
    client = _recorded(session, actor, "client.create", row, None, now)
    if idempotency_key is not None:
        remember(session, actor, "client.create", idempotency_key, asked, client.id, now)
    return NewClient(client, secret.text if secret else None)


def update(
    session: Session,
    actor: Actor,
    client_id: str,
    changes: ClientChanges,
    *,
    settings: OAuthSettings,
    now: datetime | None = None,
) -> Client:
    """Change it, and leave the rest as it is. Disabling it ends its tokens; enabling it brings back those that live.
    Either is done also where the rest is not as the configuration would have it now.
    """
    now = now or datetime.now(UTC)
    take_turn(session)
    row = _row(session, client_id)
    before = shown(row)
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET}
    enabled = given.pop("enabled", row.enabled)
    known = {name: getattr(before, name) for name in ClientSpec.__struct_fields__}
    spec = ClientSpec(**{**known, **given})
    if (spec.jwks is None) != (before.jwks is None):
        raise BadRequest("A client has keys or has none for ever: make another one.", param="jwks")
    if given:
        check(spec, settings)
    _require_covered(session, actor, spec, settings, now)
    _check_owner(session, spec.owner)
    for name, value in _columns(spec).items():
        setattr(row, name, value)
    row.enabled = enabled
    if shown(row) == before:
        return before
    return _recorded(session, actor, "client.update", row, before, now)


def renew_secret(
    session: Session,
    actor: Actor,
    client_id: str,
    *,
    secrets: Secrets,
    settings: OAuthSettings,
    now: datetime | None = None,
) -> NewClient:
    """Give a confidential client another secret; the one before works no longer."""
    now = now or datetime.now(UTC)
    take_turn(session)
    row = _row(session, client_id)
    _require_covered(session, actor, shown(row), settings, now)
    if row.secret is None:
        raise BadRequest("A public client has no secret.")
    before, secret = shown(row), secrets.new(CLIENT)
    for name, value in _secret_columns(secret, secrets).items():
        setattr(row, name, value)
    return NewClient(_recorded(session, actor, "client.renew_secret", row, before, now), secret.text)


def check(spec: ClientSpec, settings: OAuthSettings) -> None:
    """Raise :class:`~gatewaykit.errors.BadRequest` for the first fault."""
    check_name(spec.name)
    _check_grants(spec)
    if len(spec.redirect_uris) > MOST or not all(is_safe(uri) for uri in spec.redirect_uris):
        raise Fault(counted(*_REDIRECT_URIS, MOST), param="redirect_uris")
    known = Scopes(settings).names
    if not spec.scopes or not set(spec.scopes) <= set(known):
        message = filled("A client has one or more of the scopes %(scopes)s.", scopes=", ".join(known))
        raise Fault(message, param="scopes")
    if spec.jwks is not None and not (spec.confidential and is_key_set(spec.jwks)):
        raise Fault(counted(*_KEYS, MOST_KEYS), param="jwks")
    longest = settings.longest_access_seconds
    if spec.access_seconds is not None and not SHORTEST_ACCESS <= spec.access_seconds <= longest:
        raise Fault(counted(*_LIFE, longest, shortest=SHORTEST_ACCESS), param="access_seconds")


def shown(row: ClientRow) -> Client:
    """The client of a row."""
    return msgspec.convert(
        {name: getattr(row, name) for name in Client.__struct_fields__ if name != "confidential"}
        | {"confidential": row.secret is not None or row.jwks is not None},
        Client,
    )


def _check_grants(spec: ClientSpec) -> None:
    grants = set(spec.grants)
    if not grants or not grants <= set(GRANT_TYPES):
        message = filled("A client has one or more of the grants %(grants)s.", grants=", ".join(GRANT_TYPES))
        raise Fault(message, param="grants")
    if AUTHORIZATION_CODE in grants and not spec.redirect_uris:
        raise BadRequest("A client with authorization_code needs a redirect URI.", param="redirect_uris")
    if CLIENT_CREDENTIALS in grants and not spec.confidential:
        raise BadRequest("A client with client_credentials must be confidential.", param="confidential")
    if REFRESH_TOKEN in grants and not grants & {AUTHORIZATION_CODE, DEVICE_CODE}:
        raise BadRequest("refresh_token needs authorization_code or the device code.", param="grants")


def _require_covered(
    session: Session, actor: Actor, spec: ClientSpec | Client, settings: OAuthSettings, now: datetime
) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` for a maker that is bound, and for rights that it has not and
    that the client would have by itself.
    """
    holder = holder_of(session, actor, now)
    if holder is None:
        return
    require_whole(holder)
    if CLIENT_CREDENTIALS in spec.grants:
        rights = Scopes(settings).rights(spec.scopes, admin=True)
        if not rights.scopes & set(SCOPES) <= scopes_of(holder.principal):
            message = filled("A key cannot allow more than the one that makes it: %(field)s.", field="scopes")
            raise Refusal(message, param="scopes")


def _check_owner(session: Session, owner: str | None) -> None:
    if owner is None:
        return
    check_account_id(owner, "owner")
    if session.get(AccountRow, owner) is None:
        raise BadRequest("There is no such account.", param="owner")


def _row(session: Session, client_id: str) -> ClientRow:
    row = session.get(ClientRow, client_id)
    if row is None:
        raise NotFound("There is no such client.")
    return row


def _columns(spec: ClientSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "redirect_uris": _list(spec.redirect_uris),
        "grants": _list(spec.grants),
        "scopes": _list(spec.scopes),
        "owner": spec.owner,
        "access_seconds": spec.access_seconds,
        "bound": spec.bound,
        "jwks": spec.jwks,
    }


def _list(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _secret_columns(secret: NewSecret | None, secrets: Secrets) -> dict[str, Any]:
    if secret is None:
        return {"secret": None, "pepper": None, "hint": None}
    return {"secret": secret.digest, "pepper": secrets.current, "hint": secret.hint}


def _recorded(
    session: Session, actor: Actor, action: str, row: ClientRow, before: Client | None, now: datetime
) -> Client:
    row.version += 1
    session.flush()
    client = shown(row)
    record(
        session,
        actor,
        action,
        f"client:{client.id}",
        before=None if before is None else described(before),
        after=described(client),
        now=now,
    )
    return client
