"""Backups of the database: made while it is written to, checked before they count, and put back with care.

Each is a folder of its own among others, named by its moment, with a manifest and one file. It is made under another
name, forced to the disk and renamed: what has a name is whole. See ``docs/backups.md``.
"""

from __future__ import annotations

from gatewaykit.storage.backup.backups import Backup, Backups, Checked, Restored
from gatewaykit.storage.backup.folder import BackupFolder, Busy
from gatewaykit.storage.backup.manifest import Manifest

__all__ = ["Backup", "BackupFolder", "Backups", "Busy", "Checked", "Manifest", "Restored"]
