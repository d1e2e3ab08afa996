"""The database: engine and transactions, tables, migrations.

A plugin that keeps something takes ``gateway.storage``, declares its tables with :func:`new_metadata` and
:class:`UtcDateTime`, and returns a :class:`~gatewaykit.migration.MigrationSource` from ``gateway_migrations``.
"""

from __future__ import annotations

from gatewaykit.storage.statements import insert_new
from gatewaykit.storage.store import Storage
from gatewaykit.storage.tables import StoredCall, UtcDateTime, new_metadata

__all__ = ["Storage", "StoredCall", "UtcDateTime", "insert_new", "new_metadata"]
