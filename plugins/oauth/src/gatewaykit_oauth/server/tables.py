"""The tables of the authorization server. Revisions that make them are in ``gatewaykit_oauth.migrations``.

No token, code or secret stands in any of them: digests by the pepper do, and private keys are sealed with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from ..tables import Base


class SigningKeyRow(Base):
    """A key that signs tokens. ``state`` is next, active, verify or revoked; ``private`` is sealed with ``pepper``, and
    gone once the key signs no longer. ``since`` is when it came into its state.
    """

    __tablename__ = "oauth_signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    algorithm: Mapped[str]
    state: Mapped[str]
    public: Mapped[dict[str, Any]]
    private: Mapped[bytes | None]
    pepper: Mapped[str]
    created: Mapped[datetime]
    since: Mapped[datetime]


class ClientRow(Base):
    """A program that asks for tokens. ``origin`` is static, dynamic (RFC 7591) or document (its id is an address).

    ``secret`` is a digest by ``pepper``, ``jwks`` are public keys with which it signs instead (RFC 7523); a public
    client has neither. ``owner`` is the account on whose behalf it acts with its own credentials. ``access_seconds`` is
    the life of its tokens where it differs from the usual one.
    """

    __tablename__ = "oauth_clients"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    origin: Mapped[str]
    secret: Mapped[bytes | None]
    pepper: Mapped[str | None]
    hint: Mapped[str | None]
    redirect_uris: Mapped[list[str]]
    grants: Mapped[list[str]]
    scopes: Mapped[list[str]]
    owner: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    access_seconds: Mapped[int | None]
    bound: Mapped[bool]
    enabled: Mapped[bool]
    created: Mapped[datetime] = mapped_column(index=True)
    created_by: Mapped[str]
    last_used: Mapped[datetime | None]
    registration: Mapped[bytes | None]
    version: Mapped[int]
    jwks: Mapped[dict[str, Any] | None]


class GrantRow(Base):
    """What somebody allowed a client; without ``account``, what the client does on its own. Its tokens are a family:
    they end with it. ``thumbprint`` is that of the key to which they are bound (RFC 9449).
    """

    __tablename__ = "oauth_grants"

    id: Mapped[str] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("oauth_clients.id"), index=True)
    account: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    scopes: Mapped[list[str]]
    resources: Mapped[list[str]]
    access_seconds: Mapped[int]
    thumbprint: Mapped[str | None]
    auth_time: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(index=True)
    expires: Mapped[datetime | None]
    last_used: Mapped[datetime | None]
    ended: Mapped[datetime | None] = mapped_column(index=True)
    reason: Mapped[str | None]


class AccessTokenRow(Base):
    """An access token that was issued, by its ``jti``; never its text."""

    __tablename__ = "oauth_access_tokens"

    jti: Mapped[str] = mapped_column(primary_key=True)
    grant: Mapped[str] = mapped_column(ForeignKey("oauth_grants.id"), index=True)
    kid: Mapped[str]
    scopes: Mapped[list[str]]
    audience: Mapped[list[str]]
    issued: Mapped[datetime] = mapped_column(index=True)
    expires: Mapped[datetime] = mapped_column(index=True)
    revoked: Mapped[datetime | None]


class RefreshTokenRow(Base):
    """A refresh token. Once it is ``used``, ``successor`` is the next one's text, sealed with this one's own."""

    __tablename__ = "oauth_refresh_tokens"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    grant: Mapped[str] = mapped_column(ForeignKey("oauth_grants.id"), index=True)
    issued: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)
    used: Mapped[datetime | None]
    repeated: Mapped[int]
    successor: Mapped[bytes | None]


class CodeRow(Base):
    """An authorization code, and all that it is bound to. ``grant`` is what it was redeemed for."""

    __tablename__ = "oauth_codes"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    client: Mapped[str]
    account: Mapped[str]
    redirect_uri: Mapped[str]
    challenge: Mapped[str]
    scopes: Mapped[list[str]]
    resources: Mapped[list[str]]
    access_seconds: Mapped[int]
    thumbprint: Mapped[str | None]
    nonce: Mapped[str | None]
    auth_time: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)
    used: Mapped[datetime | None]
    grant: Mapped[str | None]


class InteractionRow(Base):
    """A request that waits for somebody's consent, as it was checked: what is agreed to is what was shown."""

    __tablename__ = "oauth_interactions"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[str]
    request: Mapped[dict[str, Any]]
    expires: Mapped[datetime] = mapped_column(index=True)


class DeviceRow(Base):
    """A device that waits (RFC 8628). ``state`` is pending, approved, denied or used; ``interval`` only grows."""

    __tablename__ = "oauth_devices"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    user_code: Mapped[bytes] = mapped_column(unique=True)
    client: Mapped[str]
    scopes: Mapped[list[str]]
    resources: Mapped[list[str]]
    thumbprint: Mapped[str | None]
    state: Mapped[str]
    account: Mapped[str | None]
    auth_time: Mapped[datetime | None]
    access_seconds: Mapped[int | None]
    interval: Mapped[int]
    asked: Mapped[datetime | None]
    expires: Mapped[datetime] = mapped_column(index=True)


class CutoffRow(Base):
    """Tokens of ``subject`` that were issued up to ``before`` are refused: ``user:ID``, ``client:ID``, or ``all``."""

    __tablename__ = "oauth_cutoffs"

    subject: Mapped[str] = mapped_column(primary_key=True)
    before: Mapped[datetime]


class ProofRow(Base):
    """What counts once and was used, until it could not be used anyway: a proof of possession, a client's assertion, an
    attempt to sign in elsewhere.
    """

    __tablename__ = "oauth_proofs"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    expires: Mapped[datetime] = mapped_column(index=True)


metadata = Base.metadata
"""All tables of this package."""
