"""Access tokens as JWTs (RFC 9068; RFC 8725, 3): signing what was written down, and reading what a client sends.

Only this server's own keys count, each with its one algorithm; a header names a key and can bring none. A token whose
signature is good is not yet in force: :mod:`.recognising` looks whether it still is.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec

from .model import Issued
from .signing_keys import LEEWAY, KeySet, Signer

LONGEST = 4096
TYPE = "at+jwt"
_TYPES = {TYPE, f"application/{TYPE}"}
_REFUSED_HEADERS = ("crit", "jku", "jwk", "x5u", "x5c", "x5t", "b64", "enc", "zip")
_REQUIRED = ["iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "gid"]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says. Numbers are whole seconds."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    client_id: str
    exp: int
    iat: int
    jti: str
    scope: str
    gid: str
    cnf: dict[str, Any] = msgspec.field(default_factory=dict)


class Verified(msgspec.Struct, frozen=True):
    """An access token that this server has signed."""

    jti: str
    kid: str
    expires: int
    thumbprint: str | None
    claims: Claims


def sign(signer: Signer, issuer: str, issued: Issued) -> str:
    """The text of an access token."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": issued.account or issued.client,
        "aud": issued.audience[0] if len(issued.audience) == 1 else list(issued.audience),
        "client_id": issued.client,
        "exp": issued.expires,
        "iat": issued.issued,
        "jti": issued.jti,
        "scope": " ".join(issued.scopes),
        "gid": issued.grant,
    }
    if issued.auth_time is not None:
        claims["auth_time"] = issued.auth_time
    if issued.thumbprint is not None:
        claims["cnf"] = {"jkt": issued.thumbprint}
    return encode(signer, claims, TYPE)


def encode(signer: Signer, claims: Mapping[str, Any], kind: str) -> str:
    """A JWT of this server, which names its key."""
    return jwt.encode(
        dict(claims), signer.private, algorithm=signer.algorithm, headers={"kid": signer.kid, "typ": kind}
    )


def verify(text: str, keys: KeySet, issuer: str) -> Verified | None:
    """The token, if this server has signed it and it has not expired; None for anything else."""
    if len(text) > LONGEST:
        return None
    try:
        header = jwt.get_unverified_header(text)
        kid = header.get("kid")
        known = keys.public.get(kid) if isinstance(kid, str) else None
        if known is None or header.get("alg") != known[0] or not _is_plain(header):
            return None
        payload = jwt.decode(
            text,
            known[1],
            algorithms=[known[0]],
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": _REQUIRED, "verify_aud": False, "strict_aud": False},
        )
        claims = msgspec.convert(payload, Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    thumbprint = claims.cnf.get("jkt")
    if thumbprint is not None and not isinstance(thumbprint, str):
        return None
    return Verified(claims.jti, str(kid), claims.exp, thumbprint, claims)


def claimed_id(text: str, issuer: str) -> str | None:
    """The ``jti`` of a text that looks like a JWT and says it is this server's, empty if it names none; None for
    anything else. That is no proof of anything.
    """
    parts = text.split(".")
    if len(text) > LONGEST or len(parts) != 3:
        return None
    try:
        payload = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(payload, dict) or payload.get("iss") != issuer:
        return None
    jti = payload.get("jti")
    return jti if isinstance(jti, str) else ""


def identity(signer: Signer, issuer: str, issued: Issued, access_token: str) -> str:
    """The ID token that goes with an access token (OpenID Connect Core 1.0, 2 and 3.1.3.6): the hash in it is that of
    the signature, SHA-512 for Ed25519.
    """
    digest = (hashlib.sha512 if signer.algorithm == "EdDSA" else hashlib.sha256)(access_token.encode()).digest()
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": issued.account,
        "aud": issued.client,
        "exp": issued.issued + 3600,
        "iat": issued.issued,
        "auth_time": issued.auth_time,
        "at_hash": base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode(),
    }
    if issued.nonce is not None:
        claims["nonce"] = issued.nonce
    if "profile" in issued.scopes and issued.name:
        claims["name"] = issued.name
    return encode(signer, claims, "JWT")


def left(expires: int) -> int:
    """Seconds until then."""
    return max(0, expires - int(time.time()))


def _is_plain(header: Mapping[str, Any]) -> bool:
    kind = header.get("typ")
    return isinstance(kind, str) and kind.lower() in _TYPES and not any(name in header for name in _REFUSED_HEADERS)
