"""The tables of accounts, sign-in and keys. Revisions that make them are in ``migrations``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gatewaykit.storage import UtcDateTime, new_metadata

Growing = BigInteger().with_variant(Integer(), "sqlite")
"""A number that the database gives: on SQLite only a plain integer key counts up by itself."""


class Base(DeclarativeBase):
    """Base of this package's models."""

    metadata = new_metadata()
    type_annotation_map = {  # noqa: RUF012 - as SQLAlchemy documents it
        int: BigInteger,
        str: String,
        bytes: LargeBinary,
        datetime: UtcDateTime,
        list[str]: JSON,
        dict[str, Any]: JSON(none_as_null=True),
    }


class AccountRow(Base):
    """Who owns keys."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    enabled: Mapped[bool]
    models: Mapped[list[str]]
    limits: Mapped[dict[str, Any]]
    created: Mapped[datetime]
    role: Mapped[str] = mapped_column(server_default="member")
    longest_access_seconds: Mapped[int | None]


class CredentialsRow(Base):
    """With what a person signs in: a password, as argon2id's text, and perhaps a second factor.

    ``factor`` is the sealed secret of one-time codes, ``factor_step`` the last step of time whose code was used,
    ``recovery`` the digests, in hexadecimal, of recovery codes that are left.
    """

    __tablename__ = "credentials"

    account: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    password: Mapped[str]
    changed: Mapped[datetime]
    factor: Mapped[bytes | None]
    factor_step: Mapped[int]
    recovery: Mapped[list[str]]


class SessionRow(Base):
    """Somebody who is signed in at a browser. ``digest`` is that of the cookie's token.

    ``authenticated`` is when the password was given last, ``ends`` when the session is over however busy it is.
    ``pending`` ones still lack the second factor, and open nothing.
    """

    __tablename__ = "sessions"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    pending: Mapped[bool]
    created: Mapped[datetime]
    authenticated: Mapped[datetime]
    seen: Mapped[datetime]
    ends: Mapped[datetime] = mapped_column(index=True)
    address: Mapped[str | None]
    agent: Mapped[str]


class IdentityRow(Base):
    """Who, by the ``subject`` of an outside OpenID provider, an account belongs to."""

    __tablename__ = "identities"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    created: Mapped[datetime]
    last_used: Mapped[datetime]


class SetupLinkRow(Base):
    """A link with which somebody chooses a password, once. Without an account it is that of the first admin."""

    __tablename__ = "setup_links"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    created: Mapped[datetime]
    ends: Mapped[datetime]


class AttemptsRow(Base):
    """Failed attempts to sign in, by what they are counted for: an account, an address, a browser."""

    __tablename__ = "sign_in_attempts"

    subject: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last: Mapped[datetime] = mapped_column(index=True)


class KeyRow(Base):
    """A key, without its secrets."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    scopes: Mapped[list[str]]
    models: Mapped[list[str]]
    routes: Mapped[list[str]]
    networks: Mapped[list[str]]
    expires: Mapped[datetime | None]
    limits: Mapped[dict[str, Any]]
    note: Mapped[str]
    created: Mapped[datetime] = mapped_column(index=True)
    created_by: Mapped[str]
    enabled: Mapped[bool]
    revoked: Mapped[datetime | None]
    last_used: Mapped[datetime | None]
    last_used_from: Mapped[str | None]
    version: Mapped[int]


class SecretRow(Base):
    """A secret of a key: its digest by a pepper. ``ends`` is None, or when it opens the key no longer."""

    __tablename__ = "api_key_secrets"

    id: Mapped[int] = mapped_column(Growing, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    digest: Mapped[bytes] = mapped_column(unique=True)
    pepper: Mapped[str] = mapped_column(index=True)
    hint: Mapped[str]
    created: Mapped[datetime]
    ends: Mapped[datetime | None]

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - as SQLAlchemy documents it


class ChangeRow(Base):
    """The feed: ``subject``, ``key:ID`` or ``user:ID``, is not as it was. ``seq`` grows in the order of commits."""

    __tablename__ = "key_changes"

    seq: Mapped[int] = mapped_column(Growing, primary_key=True)
    subject: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class AuditRow(Base):
    """One line of the audit log; triggers refuse to change or delete it."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(Growing, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(index=True)
    client: Mapped[str | None]
    request_id: Mapped[str | None]
    action: Mapped[str]
    object: Mapped[str] = mapped_column(index=True)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class RepetitionRow(Base):
    """What an idempotency key stands for. ``id`` and ``request`` are SHA-256 digests: of whose key it is, for which
    action, and of what was asked; ``key_id`` is the key or client that was made, or the key that was rotated.
    """

    __tablename__ = "key_repetitions"

    id: Mapped[bytes] = mapped_column(primary_key=True)
    request: Mapped[bytes]
    key_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)


metadata = Base.metadata
"""All tables of this package."""
