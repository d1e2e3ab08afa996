"""An OpenID provider that does as a test says: as good as any, or lying in one way or another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "gateway", "a secret of the gateway's at the provider"
PERSON = {"sub": "person-1", "email": "boris@example.com", "email_verified": True, "name": "Boris"}


class LyingProvider:
    """Everybody who comes is :data:`PERSON`. What a test sets is how the answers differ from good ones.

    ``claims``, ``user`` (info) and ``metadata`` replace members (None leaves them out), ``back`` parameters of the
    redirect, ``tokens`` those of the token answer; ``sign_with`` is key, algorithm and header of ID tokens; ``broken``
    is an answer of the token endpoint, ``broken_metadata`` one of the metadata; ``delay`` are seconds before answers.
    """

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = ""
        self.asked: list[dict[str, str]] = []
        self.reset()
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
                Route("/jwks", self._jwks),
            ]
        )

    def reset(self) -> None:
        """Be good again."""
        self.claims: dict[str, Any] = {}
        self.user: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.back: dict[str, str | None] = {}
        self.tokens: dict[str, Any] = {}
        self.sign_with: tuple[Any, str, dict[str, Any]] | None = None
        self.broken: Response | None = None
        self.broken_metadata: Response | None = None
        self.delay = 0.0
        self.used: set[str] = set()

    async def _metadata(self, request: Request) -> Response:
        await asyncio.sleep(self.delay)
        if self.broken_metadata is not None:
            return self.broken_metadata
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(_without_none({**found, **self.metadata}))

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        given = {"code": str(len(self.asked)), "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(_without_none({**given, **self.back}))}", 303)

    async def _token(self, request: Request) -> Response:
        await asyncio.sleep(self.delay)
        if self.broken is not None:
            return self.broken
        form = await request.form()
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        code = str(form["code"])
        if request.headers.get("authorization") != f"Basic {expected}" or code in self.used:
            return JSONResponse({"error": "invalid_client"}, 401)
        self.used.add(code)
        asked = self.asked[int(code) - 1]
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        found = {"access_token": "access", "token_type": "Bearer", "id_token": self._id_token(asked)}
        return JSONResponse(_without_none({**found, **self.tokens}))

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer access"
        return JSONResponse(_without_none({**PERSON, **self.claims, **self.user}))

    async def _jwks(self, request: Request) -> Response:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        useless = [{"kty": "new"}, 7, {**public, "kid": "k3", "alg": "none"}]
        return JSONResponse({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "ES256"}, *useless]})

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **PERSON}
        if "max_age" in asked:
            claims["auth_time"] = now
        key, algorithm, header = self.sign_with or (self.key, "ES256", {"kid": "k1"})
        return jwt.encode(_without_none({**claims, **self.claims}), key, algorithm=algorithm, headers=header)


def _without_none(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def plain(text: str, status: int = 200) -> Response:
    """An answer that is no JSON."""
    return PlainTextResponse(text, status)
