"""Clients that prove themselves with a key instead of a secret: ``private_key_jwt`` (RFC 7523, 2.2 and 3; OpenID
Connect Core 1.0, 9). A client signs who it is, for whom, until when, and a name that it never uses again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct

from ..jwks import readable

METHOD = "private_key_jwt"
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
MOST_KEYS = 10
LONGEST_LIFE = 3600
"""Seconds: an assertion that lives longer is refused, for as long its name has to be remembered."""

_LEEWAY = 30
_LONGEST, _LONGEST_ID = 8192, 256
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_KINDS = frozenset({"EC", "OKP", "RSA"})
_SMALLEST_RSA = 2048


class Assertion(Struct, frozen=True):
    """What an assertion says before anybody has checked it: which client it speaks of."""

    text: str
    client: str


class Proved(Struct, frozen=True):
    """An assertion that its client has signed: by what it is known should it come again, and until when."""

    digest: bytes
    expires: float


def read(text: str) -> Assertion | None:
    """The assertion, unchecked; None for what is none."""
    if len(text) > _LONGEST:
        return None
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None
    name = claims.get("sub")
    return Assertion(text, name) if isinstance(name, str) and name == claims.get("iss") else None


def check(assertion: Assertion, jwks: Mapping[str, Any] | None, audiences: Sequence[str]) -> Proved | None:
    """The proof, if one of the client's keys has signed it for us and for now.

    Without keys the same work is done with a key of nobody's: how long it takes does not tell who exists.
    """
    try:
        header = jwt.get_unverified_header(assertion.text)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS or "crit" in header:
            return None
        key, signed_by = (_key(jwks, header.get("kid"), algorithm), algorithm) if jwks else (_nobodys(), "ES256")
        if key is None:
            return None
        claims = jwt.decode(
            assertion.text,
            key,
            algorithms=[signed_by],
            audience=list(audiences),
            leeway=_LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "jti"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    name, expires, now = claims["jti"], claims["exp"], time.time()
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or type(expires) not in {int, float}:
        return None
    if not now - _LEEWAY < expires <= now + LONGEST_LIFE + _LEEWAY:
        return None
    digest = hashlib.sha256(f"assertion\0{assertion.client}\0{name}".encode("utf-8", "replace")).digest()
    return Proved(digest, float(expires) + _LEEWAY)


def is_key_set(jwks: object) -> bool:
    """Whether these are public keys with which a client can sign (RFC 7517, 5)."""
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MOST_KEYS:
        return False
    return all(_is_key(key) for key in keys)


def _is_key(jwk: object) -> bool:
    if not isinstance(jwk, dict) or _PRIVATE & set(jwk) or jwk.get("kty") not in _KINDS:
        return False
    known = readable(jwk, _usual(jwk))
    return known is not None and (jwk["kty"] != "RSA" or bool(known.key.key_size >= _SMALLEST_RSA))


def _usual(jwk: Mapping[str, Any]) -> str:
    if jwk["kty"] == "EC":
        return "ES384" if jwk.get("crv") == "P-384" else "ES256"
    return "RS256" if jwk["kty"] == "RSA" else "EdDSA"


def _key(jwks: Mapping[str, Any], kid: object, algorithm: str) -> Any:
    """The key that is meant: by its name, or because no other one fits."""
    fitting = [
        jwk
        for jwk in jwks["keys"]
        if (kid is None or jwk.get("kid") == kid)
        and jwk.get("alg", algorithm) == algorithm
        and (algorithm == _usual(jwk) or (jwk["kty"] == "RSA" and algorithm == "PS256"))
    ]
    return jwt.PyJWK(fitting[0], algorithm=algorithm).key if len(fitting) == 1 else None


@cache
def _nobodys() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()
