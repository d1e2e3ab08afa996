"""The device flow (RFC 8628): a program without a browser shows a code, and somebody with a browser agrees to it."""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.errors import NotFound
from gatewaykit.guarding import incoming_of

from ..keys.audit import take_turn
from ..keys.format import DEVICE, is_secret
from ..keys.model import Actor
from .answering import document
from .authority import Authority
from .authorizing import keep_document
from .client_auth import authenticated
from .errors import (
    AccessDeniedError,
    AuthorizationPendingError,
    ExpiredTokenError,
    OAuth2Error,
    SlowDownError,
    invalid_grant,
)
from .forms import read_form
from .grants import Office, Wanted, changed, end_grant, issue, life, open_grant, usable
from .model import DEVICE_CODE, Client, Issued
from .tables import ClientRow, DeviceRow

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come out (RFC 8628, 6.1); eight of them are 34.5 bits."""

PAGE = "/oauth/device"
INTERVAL, SLOWER = 5, 5
_LENGTH = 8


class Waiting(Struct, frozen=True):
    """A device that waits for somebody's word."""

    digest: bytes
    client: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]


class DeviceEndpoint:
    """``POST /oauth/device``: the two codes (RFC 8628, 3.1)."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def __call__(self, request: Request) -> Response:
        """Both codes, and where to go with the second."""
        authority, form = self._authority, await read_form(request)
        client = await authenticated(authority, request, form, DEVICE_CODE)
        authority.running.pace.take(f"device {origin(incoming_of(request).client)}", 30, 60)
        scopes = authority.scopes.asked(form.get("scope"), client.scopes)
        resources = authority.resources.asked(form.all("resource"))
        secrets, lasting = authority.running.secrets, authority.settings.device_seconds
        device, user = secrets.new(DEVICE), "".join(random.choice(LETTERS) for _ in range(_LENGTH))
        row = DeviceRow(
            digest=device.digest,
            user_code=secrets.digest(user),
            client=client.id,
            scopes=list(scopes),
            resources=list(resources),
            state="pending",
            interval=INTERVAL,
            expires=datetime.now(UTC) + timedelta(seconds=lasting),
        )
        await authority.write(lambda session: session.add(row))
        page, shown = f"{authority.issuer}{PAGE}", f"{user[:4]}-{user[4:]}"
        return document(
            {
                "device_code": device.text,
                "user_code": shown,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={shown}",
                "expires_in": int(lasting),
                "interval": INTERVAL,
            }
        )


def find_device(session: Session, typed: str, office: Office) -> Waiting:
    """The device whose code somebody typed, in any case and with any dashes.

    Raises :class:`~gatewaykit.errors.NotFound`.
    """
    code = "".join(letter for letter in typed.upper() if letter in LETTERS)
    query = select(DeviceRow).where(
        DeviceRow.user_code.in_(office.secrets.digests(code)),
        DeviceRow.state == "pending",
        DeviceRow.expires > office.now,
    )
    row = session.scalar(query)
    if row is None:
        raise NotFound("This code is not known, or no longer valid.")
    return Waiting(row.digest, row.client, tuple(row.scopes), tuple(row.resources))


def decide_device(
    session: Session,
    waiting: Waiting,
    client: Client,
    account: str,
    auth_time: datetime,
    *,
    allow: bool,
    seconds: int,
    now: datetime,
) -> bool:
    """What somebody said; whether the device still waited for it."""
    take_turn(session)
    if allow and client.origin == "document":
        keep_document(session, client, now)
    query = update(DeviceRow).where(
        DeviceRow.digest == waiting.digest, DeviceRow.state == "pending", DeviceRow.expires > now
    )
    values = {"state": "approved" if allow else "denied", "account": account, "auth_time": auth_time}
    return bool(changed(session, query.values(**values, access_seconds=seconds)))


def redeem_device(
    session: Session, actor: Actor, client: Client, code: str, thumbprint: str | None, office: Office
) -> Issued | OAuth2Error:
    """The tokens of a device code, once; before that the error, to be raised, that says why there are none yet."""
    take_turn(session)
    digests: Sequence[bytes] = office.secrets.digests(code) if is_secret(code, DEVICE) else ()
    row = session.scalar(select(DeviceRow).where(DeviceRow.digest.in_(digests)))
    if row is None or row.client != client.id:
        return invalid_grant()
    if row.expires <= office.now:
        return ExpiredTokenError("The device code has expired.")
    if row.state == "denied":
        return AccessDeniedError("The user said no.")
    if row.state == "pending":
        return _not_yet(row, office.now)
    once = update(DeviceRow).where(DeviceRow.digest == row.digest, DeviceRow.state == "approved")
    registered = session.get(ClientRow, client.id)
    if not changed(session, once.values(state="used")) or registered is None:
        return invalid_grant()
    seconds = row.access_seconds or life(registered, office.settings)
    bound = None if client.confidential else thumbprint
    wanted = Wanted(row.account, row.scopes, row.resources, seconds, bound, row.auth_time)
    grant = open_grant(session, actor, registered, wanted, office)
    if usable(session, grant, office.now, office.now) is None:
        end_grant(session, actor, grant.id, "the account or the client is disabled", office.now)
        return invalid_grant()
    return issue(session, grant, registered, office, scopes=row.scopes, audience=row.resources, thumbprint=thumbprint)


def _not_yet(row: DeviceRow, now: datetime) -> OAuth2Error:
    """RFC 8628, 3.5: who asks too often has to wait longer from then on."""
    too_soon = row.asked is not None and now - row.asked < timedelta(seconds=row.interval)
    row.asked = now
    if too_soon:
        row.interval += SLOWER
        return SlowDownError("Ask less often.")
    return AuthorizationPendingError("The user has not decided yet.")
