"""``POST /api/credentials/revoke``, if the operator has switched it on: whoever finds a credential in public ends it.

No account is needed: to hold a credential is enough to end it, and it does nothing else. The answer is 202 whatever was
sent, so that nobody learns which credentials are good; a stranger may not ask often.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.guarding import incoming_of, open_to_all, read_body

from .keys import store
from .keys.api_base import Desk
from .keys.audit import take_turn
from .keys.format import REFRESH, has_checksum, has_shape, is_secret
from .keys.model import Actor
from .server.grants import end_grant
from .server.pace import Pace
from .server.tables import RefreshTokenRow
from .tables import SecretRow

MOST = 100
"""Credentials in one report."""

_REPORTS, _AN_HOUR = 60, 3600.0
_REASON = "it was found in public"


class Report(Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials that somebody found: API keys and refresh tokens, as they are."""

    credentials: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(min_length=1, max_length=MOST)]

    def __repr__(self) -> str:
        return f"Report({len(self.credentials)} credentials)"


def leak_routes(desk: Desk) -> list[Route]:
    """The one route."""
    pace = Pace()

    async def report(request: Request) -> Response:
        incoming = incoming_of(request)
        pace.take(f"leaks {origin(incoming.client)}", _REPORTS, _AN_HOUR)
        found, secrets = await read_body(request, Report), desk.secrets()
        keys = [secrets.digests(text) for text in found.credentials if has_shape(text) and has_checksum(text)]
        tokens = [secrets.digests(text) for text in found.credentials if is_secret(text, REFRESH)]
        actor = Actor("leak", None, incoming.request_id, incoming.client)
        if keys or tokens:
            await desk.write(lambda session: _end(session, actor, tuple(chain(*keys)), tuple(chain(*tokens))))
        return Response(status_code=202)

    return [Route("/api/credentials/revoke", open_to_all(report), methods=["POST"])]


def _end(session: Session, actor: Actor, keys: tuple[bytes, ...], tokens: tuple[bytes, ...]) -> None:
    take_turn(session)
    now = datetime.now(UTC)
    for key_id in session.scalars(select(SecretRow.key_id).where(SecretRow.digest.in_(keys)).distinct()).all():
        store.revoke(session, actor, key_id, now=now)
    for grant in session.scalars(
        select(RefreshTokenRow.grant).where(RefreshTokenRow.digest.in_(tokens)).distinct()
    ).all():
        end_grant(session, actor, grant, _REASON, now)
