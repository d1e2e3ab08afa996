"""The authorization server: signing keys, clients, grants and their tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "oauth_0003"
down_revision = "oauth_0002"
branch_labels = None
depends_on = None

_TABLES = (
    "oauth_proofs",
    "oauth_cutoffs",
    "oauth_devices",
    "oauth_interactions",
    "oauth_codes",
    "oauth_refresh_tokens",
    "oauth_access_tokens",
    "oauth_grants",
    "oauth_clients",
    "oauth_signing_keys",
)


def upgrade() -> None:
    _make_keys_and_clients()
    _make_grants()
    _make_codes()
    _make_devices()
    _make_cutoffs_and_proofs()


def _make_keys_and_clients() -> None:
    op.create_table(
        "oauth_signing_keys",
        _text("kid"),
        _text("algorithm"),
        _text("state"),
        _json("public"),
        _bytes("private", nullable=True),
        _text("pepper"),
        _moment("created"),
        _moment("since"),
        sa.PrimaryKeyConstraint("kid", name="pk_oauth_signing_keys"),
    )
    op.create_table(
        "oauth_clients",
        _text("id"),
        _text("name"),
        _text("origin"),
        _bytes("secret", nullable=True),
        _text("pepper", nullable=True),
        _text("hint", nullable=True),
        _json("redirect_uris"),
        _json("grants"),
        _json("scopes"),
        _text("owner", nullable=True),
        sa.Column("access_seconds", sa.BigInteger(), nullable=True),
        sa.Column("bound", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        _moment("created"),
        _text("created_by"),
        _moment("last_used", nullable=True),
        _bytes("registration", nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["accounts.id"], name="fk_oauth_clients_owner"),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_clients"),
    )
    op.create_index("ix_oauth_clients_created", "oauth_clients", ["created"])
    op.create_index("ix_oauth_clients_owner", "oauth_clients", ["owner"])


def _make_grants() -> None:
    op.create_table(
        "oauth_grants",
        _text("id"),
        _text("client"),
        _text("account", nullable=True),
        _json("scopes"),
        _json("resources"),
        sa.Column("access_seconds", sa.BigInteger(), nullable=False),
        _text("thumbprint", nullable=True),
        _moment("auth_time", nullable=True),
        _moment("created"),
        _moment("expires", nullable=True),
        _moment("last_used", nullable=True),
        _moment("ended", nullable=True),
        _text("reason", nullable=True),
        sa.ForeignKeyConstraint(["client"], ["oauth_clients.id"], name="fk_oauth_grants_client"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_oauth_grants_account"),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_grants"),
    )
    for column in ("client", "account", "created"):
        op.create_index(f"ix_oauth_grants_{column}", "oauth_grants", [column])
    op.create_table(
        "oauth_access_tokens",
        _text("jti"),
        _text("grant"),
        _text("kid"),
        _json("scopes"),
        _json("audience"),
        _moment("issued"),
        _moment("expires"),
        _moment("revoked", nullable=True),
        sa.ForeignKeyConstraint(["grant"], ["oauth_grants.id"], name="fk_oauth_access_tokens_grant"),
        sa.PrimaryKeyConstraint("jti", name="pk_oauth_access_tokens"),
    )
    op.create_table(
        "oauth_refresh_tokens",
        _bytes("digest"),
        _text("grant"),
        _moment("issued"),
        _moment("expires"),
        _moment("used", nullable=True),
        sa.Column("repeated", sa.BigInteger(), nullable=False),
        _bytes("successor", nullable=True),
        sa.ForeignKeyConstraint(["grant"], ["oauth_grants.id"], name="fk_oauth_refresh_tokens_grant"),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_refresh_tokens"),
    )
    for table in ("oauth_access_tokens", "oauth_refresh_tokens"):
        for column in ("grant", "expires"):
            op.create_index(f"ix_{table}_{column}", table, [column])


def _make_codes() -> None:
    op.create_table(
        "oauth_codes",
        _bytes("digest"),
        _text("client"),
        _text("account"),
        _text("redirect_uri"),
        _text("challenge"),
        _json("scopes"),
        _json("resources"),
        sa.Column("access_seconds", sa.BigInteger(), nullable=False),
        _text("thumbprint", nullable=True),
        _text("nonce", nullable=True),
        _moment("auth_time"),
        _moment("expires"),
        _moment("used", nullable=True),
        _text("grant", nullable=True),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_codes"),
    )
    op.create_table(
        "oauth_interactions",
        _bytes("digest"),
        _text("account"),
        _json("request"),
        _moment("expires"),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_interactions"),
    )
    for table in ("oauth_codes", "oauth_interactions"):
        op.create_index(f"ix_{table}_expires", table, ["expires"])


def _make_devices() -> None:
    op.create_table(
        "oauth_devices",
        _bytes("digest"),
        _bytes("user_code"),
        _text("client"),
        _json("scopes"),
        _json("resources"),
        _text("thumbprint", nullable=True),
        _text("state"),
        _text("account", nullable=True),
        _moment("auth_time", nullable=True),
        sa.Column("access_seconds", sa.BigInteger(), nullable=True),
        sa.Column("interval", sa.BigInteger(), nullable=False),
        _moment("asked", nullable=True),
        _moment("expires"),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_devices"),
        sa.UniqueConstraint("user_code", name="uq_oauth_devices_user_code"),
    )
    op.create_index("ix_oauth_devices_expires", "oauth_devices", ["expires"])


def _make_cutoffs_and_proofs() -> None:
    op.create_table(
        "oauth_cutoffs",
        _text("subject"),
        _moment("before"),
        sa.PrimaryKeyConstraint("subject", name="pk_oauth_cutoffs"),
    )
    op.create_table(
        "oauth_proofs",
        _bytes("digest"),
        _moment("expires"),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_proofs"),
    )
    op.create_index("ix_oauth_proofs_expires", "oauth_proofs", ["expires"])


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=nullable)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
