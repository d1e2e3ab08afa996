"""Proofs of possession (DPoP, RFC 9449): who sends a token also signs each request with the key it is bound to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
import msgspec

from ..keys.secrets import Secrets

ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
WINDOW = 60
"""Seconds by which a proof may be older or newer than this server's clock."""

NONCE_SECONDS = 300
"""How long one nonce is given out; it is good for as long again."""

_LONGEST, _LONGEST_ID = 8192, 256
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192
_PORTS = {"https": 443, "http": 80}


class Proof(msgspec.Struct, frozen=True):
    """A good proof: the thumbprint of its key (RFC 7638), what to know it by should it come again, and the nonce of
    ours that is in it.
    """

    thumbprint: str
    digest: bytes
    expires: int
    nonce: str | None = None


def check(text: str, method: str, url: str, access_token: str | None = None) -> Proof | None:
    """The proof, if it is one of a key for this request and, with ``access_token``, for that token."""
    if len(text) > _LONGEST:
        return None
    try:
        header = jwt.get_unverified_header(text)
        jwk = header.get("jwk")
        if header.get("typ") != "dpop+jwt" or header.get("alg") not in ALGORITHMS or "crit" in header:
            return None
        if not isinstance(jwk, dict) or not _is_public(jwk):
            return None
        key = jwt.PyJWK(jwk, algorithm=header["alg"])
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
        claims = jwt.decode(text, key, algorithms=[header["alg"]], options=options)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    made, name = claims.get("iat"), claims.get("jti")
    if type(made) is not int or abs(time.time() - made) > WINDOW or not isinstance(name, str):
        return None
    is_here = claims.get("htm") == method and _is_same(claims.get("htu"), url)
    if not 0 < len(name) <= _LONGEST_ID or not is_here:
        return None
    if access_token is not None and not _is_for(claims.get("ath"), access_token):
        return None
    print_, nonce = thumbprint(jwk), claims.get("nonce")
    digest = hashlib.sha256(f"{print_}\0{name}".encode("utf-8", "replace")).digest()
    return Proof(print_, digest, made + 2 * WINDOW, nonce if isinstance(nonce, str) else None)


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, 3."""
    members = {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}
    return _base64(hashlib.sha256(msgspec.json.encode(members)).digest())


class Nonces:
    """Nonces for proofs (RFC 9449, 8): a proof with one of them was made now, not in advance by a thief who was there.

    They come from the pepper and the time, so that every process knows those of the others and nobody keeps any.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def current(self) -> str:
        """The one to give out."""
        return self._of(self._secrets.digest(_span(0)))

    def is_good(self, nonce: str | None) -> bool:
        """Whether it was given out lately: at most ten minutes ago, by whichever pepper."""
        known = [self._of(digest) for back in (0, 1) for digest in self._secrets.digests(_span(back))]
        given = (nonce or "").encode("utf-8", "replace")
        return any([hmac.compare_digest(one.encode(), given) for one in known])  # noqa: C419 - each is compared

    @staticmethod
    def _of(digest: bytes) -> str:
        return _base64(digest[:18])


def _span(back: int) -> str:
    return f"gatewaykit: nonce of proofs {int(time.time() // NONCE_SECONDS) - back}"


class Replays:
    """Proofs that this process has seen, as long as they could be used again; when there are too many, none is good."""

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def is_new(self, proof: Proof) -> bool:
        """Whether it comes for the first time; from now on it does not."""
        now = time.time()
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if proof.digest in self._seen or len(self._seen) >= self._size:
            return False
        self._seen[proof.digest] = proof.expires
        return True


def _is_public(jwk: dict[str, Any]) -> bool:
    members = _MEMBERS.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members) or "d" in jwk or "k" in jwk:
        return False
    return jwk["kty"] != "RSA" or _SMALLEST_RSA <= len(jwk["n"]) * 6 <= _LARGEST_RSA + 16


def _is_same(given: object, url: str) -> bool:
    """RFC 9449, 4.3: without query and fragment, and however it is written (RFC 3986, 6.2.2 and 6.2.3)."""
    try:
        return isinstance(given, str) and _normal(given) == _normal(url)
    except ValueError:
        return False


def _normal(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), unquote(parts.path) or "/"


def _is_for(given: object, access_token: str) -> bool:
    expected = _base64(hashlib.sha256(access_token.encode()).digest())
    return isinstance(given, str) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
