"""Alembic's environment, for the core and for every plugin: the program hands in connection and source."""

from __future__ import annotations

from alembic import context

from gatewaykit.storage.migrate import run_environment

run_environment(context)
