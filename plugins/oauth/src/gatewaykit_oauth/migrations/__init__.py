"""Alembic revisions of accounts and keys."""
