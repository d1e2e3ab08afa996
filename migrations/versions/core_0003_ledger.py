"""Money in the records of calls, sums by hour and day, price lists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "core_0003"
down_revision = "core_0002"
branch_labels = None
depends_on = None

_TEXTS = ("principal", "owner", "model", "provider", "provider_model", "currency")
_KEY = ("begins", *_TEXTS)
_INDEXES = {"usage_hours": ("principal",), "usage_days": ("principal", "owner", "model")}
_SUMS = """
INSERT INTO {table}
SELECT {begins}, coalesce(principal, ''), '', CASE WHEN provider IS NULL THEN '' ELSE coalesce(model, '') END,
    coalesce(provider, ''), coalesce(provider_model, ''), '',
    count(*),
    sum(CASE WHEN outcome = 'done' THEN 1 ELSE 0 END),
    sum(CASE WHEN outcome IN ('refused', 'blocked') THEN 1 ELSE 0 END),
    sum(CASE WHEN outcome = 'client_gone' THEN 1 ELSE 0 END),
    sum(CASE WHEN outcome NOT IN ('done', 'refused', 'blocked', 'client_gone') THEN 1 ELSE 0 END),
    {tokens},
    sum(CASE WHEN estimated THEN 1 ELSE 0 END),
    count(input_tokens),
    0,
    0,
    sum(seconds),
    sum(coalesce(first_event_seconds, 0)),
    count(first_event_seconds)
FROM call_records
GROUP BY 1, 2, 4, 5, 6
"""
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
_MOST_TOKENS = 2**40


def upgrade() -> None:
    op.add_column("call_records", sa.Column("owner", sa.String(), nullable=True))
    op.add_column("call_records", sa.Column("cost", sa.BigInteger(), nullable=True))
    op.add_column("call_records", sa.Column("currency", sa.String(), nullable=True))
    op.add_column("call_records", sa.Column("spend", sa.BigInteger(), nullable=True))
    op.add_column("call_records", sa.Column("price_version", sa.String(), nullable=True))
    for name in ("owner", "model"):
        op.create_index(f"ix_call_records_{name}_began", "call_records", [name, "began"])
    op.create_table(
        "price_lists",
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_price_lists")),
    )
    for table, unit in (("usage_hours", "hour"), ("usage_days", "day")):
        _make(table)
        _fill(table, unit)


def _make(table: str) -> None:
    op.create_table(
        table,
        sa.Column("begins", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("client_gone", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("spend", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("first_event_seconds", sa.Double(), nullable=False),
        sa.Column("first_events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name=op.f(f"pk_{table}")),
    )
    for column in _INDEXES[table]:
        op.create_index(f"ix_{table}_{column}_begins", table, [column, "begins"])


def _fill(table: str, unit: str) -> None:
    """Sums of the calls that are recorded already: their owners and prices are not known."""
    if op.get_bind().dialect.name == "sqlite":
        length = {"hour": 13, "day": 10}[unit]
        begins = f"substr(began, 1, {length}) || substr(' 00:00:00.000000', {length - 9})"
    else:
        begins = f"date_trunc('{unit}', began AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    each = (f"CASE WHEN {name} > {_MOST_TOKENS} THEN {_MOST_TOKENS} ELSE {name} END" for name in _TOKENS)
    tokens = ", ".join(f"coalesce(sum({one}), 0)" for one in each)
    op.get_bind().exec_driver_sql(_SUMS.format(table=table, begins=begins, tokens=tokens))


def downgrade() -> None:
    for table in ("usage_days", "usage_hours", "price_lists"):
        op.drop_table(table)
    for name in ("model", "owner"):
        op.drop_index(f"ix_call_records_{name}_began", "call_records")
    with op.batch_alter_table("call_records") as records:
        for name in ("owner", "cost", "currency", "spend", "price_version"):
            records.drop_column(name)
