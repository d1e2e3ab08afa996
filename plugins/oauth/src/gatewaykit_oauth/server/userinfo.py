"""``/oauth/userinfo`` (OpenID Connect Core 1.0, 5.3): who somebody is, for a token with the scope ``openid``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.errors import AuthFailed, NotFound
from gatewaykit.guarding import incoming_of
from gatewaykit.protocols import GatewayContext

from ..accounts import get_account
from .answering import document, refused, with_headers
from .authority import Authority
from .challenges import HEADER
from .errors import OAuth2Error
from .scopes import OPENID, PROFILE


class UserInfo:
    """Answers with the subject, and with the name where the token allows it."""

    def __init__(self, gateway: GatewayContext, authority: Authority) -> None:
        self._gateway = gateway
        self._authority = authority

    async def __call__(self, request: Request) -> Response:
        """The claims, as JSON."""
        try:
            principal = await self._gateway.authenticate(incoming_of(request))
        except AuthFailed as error:
            return refused(_not_valid(), error.headers)
        granted = str(principal.claims.get("scope", "")).split()
        if OPENID not in granted or not principal.owner:
            challenge = f'{principal.challenge or "Bearer"}, scope="{OPENID}"'
            raise with_headers(_insufficient(), **{HEADER.replace("-", "_"): challenge})
        try:
            account = await self._authority.read(lambda session: get_account(session, principal.owner))
        except NotFound:
            return refused(_not_valid())
        claims = {"sub": account.id}
        if PROFILE in granted and account.name:
            claims["name"] = account.name
        return document(claims)


def _not_valid() -> OAuth2Error:
    return OAuth2Error("The access token is not valid.", error="invalid_token", status_code=401)


def _insufficient() -> OAuth2Error:
    return OAuth2Error("The token has not the scope openid.", error="insufficient_scope", status_code=403)
