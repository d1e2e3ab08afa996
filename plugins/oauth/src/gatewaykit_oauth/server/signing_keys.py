"""The life of signing keys, on a session of the database: next → active → verify → revoked.

``next`` is published before it signs, so that whoever remembers the public keys knows it by then. ``active`` signs.
``verify`` signs no longer, and stays until no token that it signed can be alive. ``revoked`` kills its tokens at once;
its public part is kept only so that nobody takes it for unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from sqlalchemy import select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, ConfigError, ConfigFault, NotFound

from ..faults import Fault
from ..ids import new_id
from ..keys.audit import record, take_turn
from ..keys.model import Actor
from ..keys.secrets import Secrets
from ..words import NN_, counted
from .sealing import PRIVATE_KEYS, seal, unseal
from .settings import YEAR, OAuthSettings
from .tables import SigningKeyRow

State: TypeAlias = Literal["next", "active", "verify", "revoked"]
SERVER = Actor("server")
"""Who rotates keys when it is time."""

_TOO_NEW = NN_(
    "The next key is too new: others can know it in %(n)s second.",
    "The next key is too new: others can know it in %(n)s seconds.",
)
ALGORITHMS = ("ES256", "EdDSA", "RS256")
"""What keys sign by. A key goes on with its own when another is configured, until it is replaced."""

LEEWAY = 30
"""Seconds by which clocks may differ."""


class SigningKey(msgspec.Struct, frozen=True):
    """A key as it is shown: without its private part."""

    kid: str
    algorithm: str
    state: State
    created: datetime
    since: datetime


class Signer(msgspec.Struct, frozen=True):
    """The key that signs now."""

    kid: str
    algorithm: str
    private: Any


class KeySet(msgspec.Struct, frozen=True):
    """All that is needed to sign and to verify: ``public`` are algorithm and key by kid, ``jwks`` is RFC 7517, 5."""

    signer: Signer
    public: dict[str, tuple[str, Any]]
    jwks: tuple[dict[str, Any], ...]


def maintain(session: Session, secrets: Secrets, settings: OAuthSettings, now: datetime) -> bool:
    """Make the keys that are missing, and move on those whose time has come; whether anything changed.

    Processes that do this at the same time wait for one another, and the second finds it done.
    """
    take_turn(session)
    rows = _rows(session)
    by_state: dict[str, list[SigningKeyRow]] = {}
    for row in rows:
        by_state.setdefault(row.state, []).append(row)
        _seal_anew(row, secrets)
    changed = _forget(session, by_state.get("verify", []), now)
    active = next(iter(by_state.get("active", [])), None)
    following = next(iter(by_state.get("next", [])), None)
    if active is None:
        _enter(session, following or _make(session, secrets, settings, now), "active", SERVER, now)
        following, changed = None, True
    elif following is not None and _is_due(active, following, settings, now):
        _advance(session, active, following, SERVER, now)
        following, changed = None, True
    if following is None:
        _make(session, secrets, settings, now)
        changed = True
    return changed


def rotate(session: Session, actor: Actor, secrets: Secrets, settings: OAuthSettings, now: datetime) -> None:
    """Let the next key sign from now on.

    Raises :class:`~gatewaykit.errors.BadRequest` until others, who remember the public keys for a while, can know it.
    """
    take_turn(session)
    rows = {row.state: row for row in _rows(session)}
    following = rows.get("next")
    if following is None:
        raise BadRequest("There is no next key yet: start the gateway first.")
    left = timedelta(seconds=settings.jwks_seconds) - (now - following.since)
    if left > timedelta(0):
        raise Fault(counted(*_TOO_NEW, math.ceil(left.total_seconds())))
    if "active" in rows:
        _advance(session, rows["active"], following, actor, now)
    else:
        _enter(session, following, "active", actor, now)
    _make(session, secrets, settings, now)


def revoke_key(
    session: Session, actor: Actor, kid: str, secrets: Secrets, settings: OAuthSettings, now: datetime
) -> SigningKey:
    """End a key and every token that it signed. The next key takes over at once if it was the active one."""
    take_turn(session)
    row = session.get(SigningKeyRow, kid)
    if row is None:
        raise NotFound("There is no such signing key.")
    if row.state != "revoked":
        row.private = None
        _enter(session, row, "revoked", actor, now)
        session.flush()
        maintain(session, secrets, settings, now)
    return _shown(row)


def list_keys(session: Session) -> tuple[SigningKey, ...]:
    """All of them, the newest first."""
    return tuple(_shown(row) for row in _rows(session))


def load(session: Session, secrets: Secrets) -> KeySet:
    """The keys in force. Raises :class:`~gatewaykit.errors.ConfigError` if the pepper is not the one they need."""
    signer: Signer | None = None
    public: dict[str, tuple[str, Any]] = {}
    jwks: list[dict[str, Any]] = []
    for row in _rows(session):
        if row.state == "revoked":
            continue
        public[row.kid] = (row.algorithm, _key_of(row.algorithm, row.public))
        jwks.append({**row.public, "kid": row.kid, "alg": row.algorithm, "use": "sig"})
        if row.state == "active":
            signer = Signer(row.kid, row.algorithm, _private(row, secrets))
    if signer is None:
        raise ConfigError([ConfigFault("no signing key is active", "oauth")])
    return KeySet(signer, public, tuple(jwks))


def _is_due(active: SigningKeyRow, following: SigningKeyRow, settings: OAuthSettings, now: datetime) -> bool:
    """Only a key that was public for longer than others remember the public keys may begin to sign."""
    published = now - following.since >= timedelta(seconds=2 * settings.jwks_seconds)
    return published and now - active.since >= timedelta(days=settings.key_days)


def _advance(session: Session, active: SigningKeyRow, following: SigningKeyRow, actor: Actor, now: datetime) -> None:
    active.private = None
    _enter(session, active, "verify", actor, now)
    _enter(session, following, "active", actor, now)


def _forget(session: Session, verifying: Sequence[SigningKeyRow], now: datetime) -> bool:
    old = [row for row in verifying if now - row.since > timedelta(seconds=YEAR + 2 * LEEWAY)]
    for row in old:
        session.delete(row)
    return bool(old)


def _make(session: Session, secrets: Secrets, settings: OAuthSettings, now: datetime) -> SigningKeyRow:
    private = _generate(settings.algorithm)
    kid = new_id()
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    row = SigningKeyRow(
        kid=kid,
        algorithm=settings.algorithm,
        state="",
        public=_jwk(settings.algorithm, private),
        private=seal(secrets.derived(PRIVATE_KEYS)[secrets.current], der, kid),
        pepper=secrets.current,
        created=now,
        since=now,
    )
    session.add(row)
    _enter(session, row, "next", SERVER, now)
    return row


def _enter(session: Session, row: SigningKeyRow, state: State, actor: Actor, now: datetime) -> None:
    before = {"state": row.state} if row.state else None
    row.state, row.since = state, now
    session.flush()
    record(session, actor, f"signing_key.{state}", f"kid:{row.kid}", before=before, after={"state": state}, now=now)


def _seal_anew(row: SigningKeyRow, secrets: Secrets) -> None:
    """A key that was sealed with an old pepper passes to the current one."""
    der = _unsealed(row, secrets) if row.pepper != secrets.current else None
    if der is not None:
        row.private = seal(secrets.derived(PRIVATE_KEYS)[secrets.current], der, row.kid)
        row.pepper = secrets.current


def _unsealed(row: SigningKeyRow, secrets: Secrets) -> bytes | None:
    key = secrets.derived(PRIVATE_KEYS).get(row.pepper)
    return unseal(key, row.private, row.kid) if key is not None and row.private is not None else None


def _private(row: SigningKeyRow, secrets: Secrets) -> Any:
    der = _unsealed(row, secrets)
    if der is None:
        raise ConfigError([ConfigFault("is not the one with which the signing keys were sealed", "keys.pepper")])
    return serialization.load_der_private_key(der, None)


def _rows(session: Session) -> list[SigningKeyRow]:
    return list(session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created.desc(), SigningKeyRow.kid)))


def _shown(row: SigningKeyRow) -> SigningKey:
    state: Any = row.state
    return SigningKey(row.kid, row.algorithm, state, row.created, row.since)


# What each algorithm needs (RFC 7518, 6; RFC 8037, 2)


def _generate(algorithm: str) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def _jwk(algorithm: str, private: PrivateKeyTypes) -> dict[str, Any]:
    public: Any = private.public_key()
    kind: Any = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm, "RS256": RSAAlgorithm}[algorithm]
    document: dict[str, Any] = msgspec.json.decode(kind.to_jwk(public))
    return {name: document[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in document}


def _key_of(algorithm: str, jwk: dict[str, Any]) -> Any:
    kind: Any = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm, "RS256": RSAAlgorithm}[algorithm]
    return kind.from_jwk(jwk)
