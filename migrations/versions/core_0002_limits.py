"""Limits: what is used of them, and what is held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limit_counts",
        sa.Column("limit", sa.String(), nullable=False),
        sa.Column("hold", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("limit", "hold", "number", name=op.f("pk_limit_counts")),
    )
    op.create_index("ix_limit_counts_expires", "limit_counts", ["expires"])


def downgrade() -> None:
    op.drop_table("limit_counts")
