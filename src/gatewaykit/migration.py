"""What a plugin says of its migrations."""

from __future__ import annotations

import re

from msgspec import Struct

_LABEL = re.compile(r"[a-z][a-z0-9_]{0,39}")


class MigrationSource(Struct, frozen=True):
    """Alembic revisions of one owner of tables.

    ``label`` (lower-case letters, digits, underscores) names its version table, ``alembic_version_<label>``, and must
    never change. ``package`` is an importable package with a folder ``versions``. ``metadata`` says as
    ``module:attribute`` where the tables are declared, so that ``gatewaykit db check`` can compare.
    """

    label: str
    package: str
    metadata: str | None = None

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.label):
            raise ValueError(f"the label {self.label!r} of a MigrationSource does not match {_LABEL.pattern}")
