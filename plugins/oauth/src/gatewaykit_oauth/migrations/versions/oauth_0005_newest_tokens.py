"""Access tokens in the order in which they were issued, for processes that read the newest ahead."""

from __future__ import annotations

from alembic import op

revision = "oauth_0005"
down_revision = "oauth_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_oauth_access_tokens_issued", "oauth_access_tokens", ["issued"])


def downgrade() -> None:
    op.drop_index("ix_oauth_access_tokens_issued", "oauth_access_tokens")
