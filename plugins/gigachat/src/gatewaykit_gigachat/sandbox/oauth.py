"""Where tokens come from: OAuth with an authorization key, and ``/token`` with user and password."""

from __future__ import annotations

import base64
import hmac
import re
from urllib.parse import parse_qs

from starlette.types import ASGIApp

from .call import Call
from .refusals import api_refusal, empty_refusal, oauth_refusal
from .replies import JsonReply
from .settings import SCOPES, Account, Client
from .tokens import Grant

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"


async def oauth(call: Call) -> ASGIApp:
    """``POST /api/v2/oauth``: checks ``RqUID``, key and scope, in this order, and issues a token."""
    if not _UUID4.fullmatch(call.request.headers.get("rquid", "")):
        raise empty_refusal(400)
    name, secret = _basic(call)
    scope = _scope(call)
    client = _client(call, name, secret)
    call.sandbox.token_rate.count(client.client_id)
    if client.scope != scope:
        raise oauth_refusal(400, 7, "scope from db not fully includes consumed scope")
    token, grant = _issue(call, client.client_id, scope)
    factor = 1000 if call.sandbox.settings.expires_at_unit == "ms" else 1
    payload = {"access_token": token, "expires_at": int(grant.expires_at * factor)}
    return JsonReply(call, payload, "application/json")


async def token(call: Call) -> ASGIApp:
    """``POST /token``: user and password by Basic authorization; ``exp`` is in seconds."""
    user, password = _basic(call)
    account = _account(call, user, password)
    call.sandbox.token_rate.count(user)
    issued, grant = _issue(call, f"user:{user}", account.scope)
    return JsonReply(call, {"tok": issued, "exp": int(grant.expires_at)})


def _issue(call: Call, client_id: str, scope: str) -> tuple[str, Grant]:
    call.sandbox.stats.tokens_issued += 1
    return call.sandbox.tokens.issue(client_id, scope)


def _basic(call: Call) -> tuple[str, str]:
    scheme, _, encoded = call.request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError(scheme)
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError as error:
        raise oauth_refusal(401, 4, "Can't decode 'Authorization' header") from error
    if not colon:
        raise oauth_refusal(401, 4, "Can't decode 'Authorization' header")
    return name, secret


def _scope(call: Call) -> str:
    fields: dict[str, list[str]] = {}
    if call.request.headers.get("content-type", "").lower().startswith(_FORM):
        try:
            fields = parse_qs(call.body.decode(), max_num_fields=20)
        except ValueError as error:
            raise oauth_refusal(400, 1, "scope data format invalid") from error
    values = fields.get("scope", [])
    if not values:
        raise oauth_refusal(400, 5, "scope is empty")
    if values[0] not in SCOPES:
        raise oauth_refusal(400, 1, "scope data format invalid")
    return values[0]


def _client(call: Call, name: str, secret: str) -> Client:
    for client in call.sandbox.settings.clients:
        if client.client_id == name and hmac.compare_digest(client.secret.encode(), secret.encode()):
            return client
    raise oauth_refusal(401, 6, "credentials doesn't match db data")


def _account(call: Call, user: str, password: str) -> Account:
    for account in call.sandbox.settings.accounts:
        if account.user == user and hmac.compare_digest(account.password.encode(), password.encode()):
            return account
    raise api_refusal(401)
