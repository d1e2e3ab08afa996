"""ID tokens of a provider (OpenID Connect Core 1.0, 3.1.3.7): read only when all that they must be is so."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import jwt

from .failures import ProviderWrong

ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "RS384", "ES384", "PS384", "RS512", "ES512", "PS512")
"""Signatures with a public key; whatever a provider says, never ``none``, and none by a secret that both know."""

LEEWAY = 60
LONGEST = 16 * 1024
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]


def kid_of(text: str) -> str | None:
    """The key that an ID token says it was signed with. Raises :class:`~.failures.ProviderWrong`."""
    kid = _header(text).get("kid")
    return kid if isinstance(kid, str) else None


def claims_of(
    text: str, keys: list[jwt.PyJWK], *, issuer: str, client_id: str, nonce: str, access_token: str
) -> dict[str, Any]:
    """The claims of an ID token that is for us and for this sign-in. Raises :class:`~.failures.ProviderWrong`."""
    header = _header(text)
    algorithm = str(header["alg"])
    key = _chosen(keys, header.get("kid"), algorithm)
    try:
        claims: dict[str, Any] = jwt.decode(
            text,
            key.key,
            algorithms=[algorithm],
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": _REQUIRED},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ProviderWrong(f"ID token: {type(error).__name__}") from None
    _check(claims, client_id, nonce)
    given = claims.get("at_hash")
    if given is not None and not _is_hash(given, access_token, algorithm):
        raise ProviderWrong("ID token: at_hash is another token's")
    return claims


def _header(text: str) -> Mapping[str, Any]:
    try:
        if len(text) > LONGEST:
            raise ValueError
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise ProviderWrong("ID token: not a JWT") from None
    if header.get("alg") not in ALGORITHMS or "crit" in header:
        raise ProviderWrong("ID token: its algorithm is not accepted")
    return header


def _chosen(keys: list[jwt.PyJWK], kid: object, algorithm: str) -> jwt.PyJWK:
    family = {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]] if algorithm != "EdDSA" else "OKP"
    fitting = [key for key in keys if key.key_type == family and (kid is None or key.key_id == kid)]
    if len(fitting) != 1:
        raise ProviderWrong("ID token: its key is not among the provider's")
    return fitting[0]


def _check(claims: Mapping[str, Any], client_id: str, nonce: str) -> None:
    audience, party = claims["aud"], claims.get("azp")
    if party not in {None, client_id} if isinstance(party, str | None) else True:
        raise ProviderWrong("ID token: azp is somebody else")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise ProviderWrong("ID token: for several, and none is named as its party")
    given, subject = claims.get("nonce"), claims["sub"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), nonce.encode()):
        raise ProviderWrong("ID token: the nonce is another sign-in's")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or "\0" in subject:
        raise ProviderWrong("ID token: sub is nobody's name")
    if type(claims.get("auth_time", 0)) is not int:
        raise ProviderWrong("ID token: auth_time is no moment")


def _is_hash(given: object, access_token: str, algorithm: str) -> bool:
    """Core 3.1.3.6: the left half of the digest; for Ed25519 that is SHA-512."""
    digest = _HASHES["512" if algorithm == "EdDSA" else algorithm[-3:]](access_token.encode()).digest()
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
    return isinstance(given, str) and hmac.compare_digest(expected, given.encode("utf-8", "replace"))
