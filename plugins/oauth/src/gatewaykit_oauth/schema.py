"""All tables of this package, whichever module declares them."""

from __future__ import annotations

from .server import tables as server_tables
from .tables import Base

__all__ = ["metadata", "server_tables"]

metadata = Base.metadata
"""What ``gatewaykit db check`` compares the database with."""
