"""One's own account: password, second factor, and where one is signed in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.errors import AuthFailed, BadRequest, GatewayError, RateLimited

from ..keys.audit import record, take_turn
from ..signin import sessions
from ..signin.credentials import Credentials, credentials_of
from ..signin.factors import new_secret, provisioning_uri
from ..signin.sealing import seal, unseal
from ..signin.sessions import Session
from ..words import N_
from .entering import entrance_of, visitor_of, welcome
from .forms import form_of
from .rendering import render
from .site import acting, redirect, refused, said, site_of

ENROLLING_SECONDS = 1800
"""How long the page with the QR code may stay open."""

TOO_LATE = N_("This page was open for too long. Begin again.")
NOT_SAME = N_("The two passwords are not the same.")
_ENROLMENT = "gatewaykit: second factors to be added"
_ISSUER = "gatewaykit"


async def show_account(
    request: Request, session: Session, *, error: GatewayError | None = None, where: str = ""
) -> Response:
    """The page; ``where`` is the form that ``error`` belongs to."""
    site, now = site_of(request), datetime.now(UTC)

    def read(database: Database) -> tuple[Credentials | None, Sequence[Session]]:
        known = credentials_of(database, session.account.id)
        return known, sessions.of_account(database, session.account.id, site.lives, now)

    known, opened = await site.desk.read(read)
    status = 200 if error is None else 400 if isinstance(error, AuthFailed) else error.status
    response = render(
        request,
        "account.html",
        status=status,
        credentials=known,
        sessions=opened,
        problem=said(request, error) if error else None,
        param=(error.param or "") if error else "",
        where=where,
    )
    if error is not None and error.retry_after is not None:
        response.headers["retry-after"] = str(int(error.retry_after) + 1)
    return response


async def change_password(request: Request, session: Session) -> Response:
    """A new password, for which the old one is needed."""
    form = await form_of(request)
    try:
        if form.raw("password") != form.raw("again"):
            raise BadRequest(NOT_SAME, param="again")
        renewed = await entrance_of(request).change_password(
            session, form.raw("old"), form.raw("password"), visitor_of(request)
        )
    except (AuthFailed, BadRequest, RateLimited) as error:
        if isinstance(error, AuthFailed):
            error.param = "old"
        return await show_account(request, session, error=error, where="password")
    return welcome(request, redirect(request, "/admin/account", done="password"), renewed)


async def add_factor(request: Request, session: Session) -> Response:
    """A secret for an app, and the code that proves that the app has it."""
    site = site_of(request)
    secrets = site.desk.secrets()
    if request.method != "POST":
        return _enrolment(request, session, new_secret(), None)
    form = await form_of(request)
    sealed = unseal(secrets, _ENROLMENT, form.text("sealed").encode("ascii", "replace"), ENROLLING_SECONDS)
    owner, _, secret = (sealed or "").partition(" ")
    if owner != session.account.id:
        return _enrolment(request, session, new_secret(), BadRequest(TOO_LATE, param="code"))
    try:
        codes = await entrance_of(request).add_factor(session, secret, form.text("code"), visitor_of(request))
    except BadRequest as error:
        return _enrolment(request, session, secret, error)
    return render(request, "recovery.html", codes=codes)


async def remove_factor(request: Request, session: Session) -> Response:
    """Back to the password alone."""
    form = await form_of(request)
    try:
        await entrance_of(request).remove_factor(session, form.raw("proof"), visitor_of(request))
    except (AuthFailed, BadRequest, RateLimited) as error:
        return await show_account(request, session, error=error, where="factor")
    return redirect(request, "/admin/account", done="factor-removed")


async def end_session(request: Request, session: Session) -> Response:
    """End one session, or with ``others`` all but this one."""
    form, actor, now = await form_of(request), acting(request, session), datetime.now(UTC)
    session_id, account_id = form.text("id"), session.account.id

    def work(database: Database) -> str:
        take_turn(database)
        if session_id:
            sessions.end(database, account_id, session_id)
        else:
            sessions.end_all(database, account_id, but=session.id)
        record(database, actor, "account.sessions.end", f"user:{account_id}", before=None, after=None, now=now)
        return "session-ended" if session_id else "sessions-ended"

    return redirect(request, "/admin/account", done=await site_of(request).desk.write(work))


def _enrolment(request: Request, session: Session, secret: str, error: BadRequest | None) -> Response:
    account_id = session.account.id
    sealed = seal(site_of(request).desk.secrets(), _ENROLMENT, f"{account_id} {secret}").decode()
    return render(
        request,
        "factor.html",
        secret=" ".join(secret[place : place + 4] for place in range(0, len(secret), 4)),
        sealed=sealed,
        picture=_qr(provisioning_uri(secret, account_id, _ISSUER)),
        **refused(request, error),
    )


def _qr(text: str) -> str:
    """A QR code as SVG without styles or scripts."""
    import segno

    stream = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        stream, kind="svg", xmldecl=False, svgns=False, omitsize=True, border=2, dark="#000", light="#fff"
    )
    return stream.getvalue().decode()
