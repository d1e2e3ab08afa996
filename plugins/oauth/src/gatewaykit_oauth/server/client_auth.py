"""Who a client is (RFC 6749, 2.3 and 3.2.1; OAuth 2.1, 2.4): by Basic, by the body, by what it signs (RFC 7523), or, if
public, by its name alone.

Unknown clients, wrong secrets and disabled clients get one answer, after the same work.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from urllib.parse import unquote_plus

from sqlalchemy import update
from sqlalchemy.orm import Session
from starlette.requests import Request

from gatewaykit.guarding import incoming_of

from ..once import spend
from . import assertions
from .answering import with_headers
from .assertions import METHOD
from .authority import Authority
from .clients import shown
from .documents import is_document_id
from .errors import InvalidRequestError, OAuth2Error, UnauthorizedClientError, invalid_client
from .forms import Form
from .model import Client
from .tables import ClientRow

METHODS = ("none", "client_secret_basic", "client_secret_post", METHOD)
_NOTHING = bytes(32)
_LONGEST = 1000
_name = re.compile(r"[!-~]{1,1000}").fullmatch


async def authenticated(authority: Authority, request: Request, form: Form, grant: str | None = None) -> Client:
    """The client that sent this form, which must have the ``grant``.

    Raises ``invalid_request`` for two ways at once, ``invalid_client`` and ``unauthorized_client``.
    """
    authorization = incoming_of(request).headers.get("authorization")
    basic = None if authorization is None else _basic(authorization)
    if form.get("client_assertion") is not None or form.get("client_assertion_type") is not None:
        if basic is not None or form.get("client_secret") is not None:
            raise InvalidRequestError("The client authenticates in two ways at once.")
        return _allowed(await _by_assertion(authority, request, form), grant)
    client_id, secret = basic or (form.get("client_id"), form.get("client_secret"))
    if basic is not None:
        if form.get("client_secret") is not None:
            raise InvalidRequestError("The client authenticates in two ways at once.")
        if form.get("client_id") not in {None, client_id}:
            raise InvalidRequestError("The two client ids are not the same.")
    if client_id is None:
        raise InvalidRequestError("The parameter client_id is missing.")
    client = await _proven(authority, client_id, secret)
    if client is None:
        raise _refusal(is_basic=basic is not None)
    return _allowed(client, grant)


def _allowed(client: Client, grant: str | None) -> Client:
    if grant is not None and grant not in client.grants:
        raise UnauthorizedClientError("The client may not use this grant type.")
    return client


async def find_client(authority: Authority, client_id: str) -> Client | None:
    """The client of this id, whether it proved to be itself or not; None if there is none that may be used."""
    if not _name(client_id):
        return None
    if is_document_id(client_id):
        return await authority.documents.client(client_id)
    row = await authority.read(lambda session: session.get(ClientRow, client_id))
    return shown(row) if row is not None and row.enabled else None


async def _by_assertion(authority: Authority, request: Request, form: Form) -> Client:
    """The client that has signed the assertion, which counts once, in whichever process."""
    text = form.get("client_assertion")
    if form.get("client_assertion_type") != assertions.TYPE or text is None:
        raise InvalidRequestError("The assertion is not one of RFC 7523.")
    given = assertions.read(text)
    if given is None or form.get("client_id") not in {None, given.client}:
        raise invalid_client()
    client = await find_client(authority, given.client)
    issuer = authority.issuer
    audiences = (issuer, f"{issuer}/oauth/token", f"{issuer}{incoming_of(request).path}")
    proved = assertions.check(given, client.jwks if client is not None else None, audiences)
    if client is None or client.jwks is None or proved is None:
        raise invalid_client()
    if not await authority.write(lambda session: spend(session, proved.digest, proved.expires)):
        raise invalid_client()
    return client


async def _proven(authority: Authority, client_id: str, secret: str | None) -> Client | None:
    if not _name(client_id):
        return None
    if is_document_id(client_id):
        found = await authority.documents.client(client_id) if secret is None else None
        return found if found is not None and not found.confidential else None
    secrets = authority.running.secrets
    digests = secrets.digests(secret if secret is not None else "")
    client, is_old = await authority.read(lambda session: _prove(session, client_id, digests, given=secret is not None))
    if is_old:
        renewed = update(ClientRow).where(ClientRow.id == client_id, ClientRow.secret.in_(digests))
        current = renewed.values(secret=digests[0], pepper=secrets.current)
        await authority.write(lambda session: session.execute(current))
    return client


def _prove(session: Session, client_id: str, digests: Sequence[bytes], *, given: bool) -> tuple[Client | None, bool]:
    """The client, if it proved to be itself, and whether its secret was digested with an old pepper."""
    row = session.get(ClientRow, client_id)
    known = row.secret if row is not None and row.secret is not None else _NOTHING
    is_right = any([hmac.compare_digest(known, digest) for digest in digests])  # noqa: C419 - each is compared
    if row is None or not row.enabled:
        return None, False
    is_proven = given and is_right if row.secret is not None else not given and row.jwks is None
    is_old = is_proven and row.secret is not None and row.secret != digests[0]
    return (shown(row) if is_proven else None), is_old


def _basic(authorization: str) -> tuple[str, str]:
    """Both halves are form-encoded (RFC 6749, 2.3.1). Raises authlib's ``InvalidClientError`` for anything else."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        name, colon, secret = text.partition(":")
        if not colon or len(text) > _LONGEST:
            raise ValueError
        return unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except (ValueError, binascii.Error):
        raise _refusal(is_basic=True) from None


def _refusal(*, is_basic: bool) -> OAuth2Error:
    error = invalid_client()
    return with_headers(error, www_authenticate='Basic realm="gatewaykit", charset="UTF-8"') if is_basic else error
