"""Limits: one row for each slice of time, and one for each call that holds something."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "core_0004"
down_revision = "core_0003"
branch_labels = None
depends_on = None

_LIVES = ("amount", "until", "expires")


def upgrade() -> None:
    """What is held at this moment is forgotten: it would have ended within a minute."""
    op.create_table(
        "limit_sums",
        sa.Column("limit", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("limit", "number", name=op.f("pk_limit_sums")),
    )
    op.create_index("ix_limit_sums_expires", "limit_sums", ["expires"])
    op.create_table(
        "limit_holds",
        sa.Column("hold", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("taken", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("hold", name=op.f("pk_limit_holds")),
    )
    op.create_index("ix_limit_holds_expires", "limit_holds", ["expires"])
    old = sa.table("limit_counts", *map(sa.column, ("limit", "hold", "number", *_LIVES)))
    new = sa.table("limit_sums", *map(sa.column, ("limit", "number", *_LIVES)))
    kept = sa.select(old.c.limit, old.c.number, *(old.c[name] for name in _LIVES)).where(old.c.hold == "")
    op.execute(new.insert().from_select(["limit", "number", *_LIVES], kept))
    op.drop_table("limit_counts")


def downgrade() -> None:
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
    old = sa.table("limit_sums", *map(sa.column, ("limit", "number", *_LIVES)))
    new = sa.table("limit_counts", *map(sa.column, ("limit", "hold", "number", *_LIVES)))
    kept = sa.select(old.c.limit, sa.literal(""), old.c.number, *(old.c[name] for name in _LIVES))
    op.execute(new.insert().from_select(["limit", "hold", "number", *_LIVES], kept))
    op.drop_table("limit_holds")
    op.drop_table("limit_sums")
