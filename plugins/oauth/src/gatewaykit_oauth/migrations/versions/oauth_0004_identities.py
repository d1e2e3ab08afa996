"""People of outside providers, the longest life of an account's tokens, clients that prove themselves with a key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "oauth_0004"
down_revision = "oauth_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("longest_access_seconds", sa.BigInteger(), nullable=True))
    op.add_column("oauth_clients", sa.Column("jwks", sa.JSON(), nullable=True))
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_identities_account"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
    )
    op.create_index("ix_identities_account", "identities", ["account"])
    op.create_index("ix_oauth_grants_ended", "oauth_grants", ["ended"])


def downgrade() -> None:
    op.drop_index("ix_oauth_grants_ended", "oauth_grants")
    op.drop_table("identities")
    op.drop_column("oauth_clients", "jwks")
    op.drop_column("accounts", "longest_access_seconds")
