"""Where the pepper comes from: the configuration or, beside an SQLite database, a file that is made when it is missing.

The file holds 64 hexadecimal digits, is readable for its owner alone, and must be kept with the backups of the
database, but not in the same place: without it no key in there is valid.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.settings import DatabaseSettings

from ..settings import SHORTEST_PEPPER, KeysSettings
from .secrets import Secrets

if TYPE_CHECKING:
    from gatewaykit.storage import Storage

logger = logging.getLogger(__name__)
_WHERE = "keys.pepper"
_HOW = 'python -c "import secrets; print(secrets.token_hex(32))" makes one'


def check_peppers(keys: KeysSettings, database: DatabaseSettings) -> bool:
    """Whether keys can be kept: False without a database, and with Postgres as long as there is no pepper.

    Raises :class:`~gatewaykit.errors.ConfigError` for a pepper without a database. Opens nothing.
    """
    if database.url is None:
        if keys.pepper is None and not keys.old_peppers:
            return False
        raise _fault("is of no use without a database: set database.url")
    return keys.pepper is not None or database.url.get_secret_value().startswith("sqlite:")


def refuse_lost_keys(storage: Storage) -> None:
    """Raise :class:`~gatewaykit.errors.ConfigError` if keys are stored, which nobody can know without a pepper."""
    from .rows import peppers_in_use

    with storage.transaction(write=False) as session:
        if peppers_in_use(session):
            raise _missing()
    logger.warning("there are no API keys but those of the configuration until keys.pepper is set. %s", _HOW)


def load_secrets(keys: KeysSettings, database: DatabaseSettings, storage: Storage) -> Secrets:
    """The secrets of this installation; ``storage`` is open. Makes the file with the pepper if no key is stored yet.

    Raises :class:`~gatewaykit.errors.ConfigError` when the pepper is missing or others can read it. Blocks.
    """
    from .rows import peppers_in_use

    if not check_peppers(keys, database):
        raise _missing()
    with storage.transaction(write=False) as session:
        in_use = peppers_in_use(session)
    file = None if storage.file is None else storage.file.with_name(f"{storage.file.name}.pepper")
    filed = None
    if file is not None and (keys.pepper is None or file.exists()):
        filed = _read_or_make(file) if keys.pepper is None and not in_use else _read(file)
    given = keys.pepper.get_secret_value() if keys.pepper else filed
    if given is None:
        raise _fault("is not set")
    old = [pepper.get_secret_value() for pepper in keys.old_peppers.values()]
    made = Secrets(given, [*old, filed] if filed else old, keys.env)
    if in_use and not made.ids & in_use.keys():
        raise _fault(f"is not the one with which the stored keys were digested ({', '.join(sorted(in_use))})")
    if lost := sum(count for pepper, count in in_use.items() if pepper not in made.ids):
        logger.warning("%d secrets of API keys open nothing: their pepper is not configured", lost)
    return made


def _read_or_make(file: Path) -> str:
    """Several processes may be here at once: one of them links its own file to the name, complete as it is."""
    if not file.exists():
        ours = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(ours, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
                stream.write(secrets.token_hex(32) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):
                os.link(ours, file)
        except OSError as error:
            raise _unusable(file, f"cannot be made: {error.strerror}") from None
        finally:
            ours.unlink(missing_ok=True)
    return _read(file)


def _read(file: Path) -> str:
    try:
        with file.open() as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(4096).strip()
    except FileNotFoundError:
        raise _unusable(
            file, "is missing, and without it no stored key is valid: restore it, or set keys.pepper"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise _unusable(file, "cannot be read") from None
    if stat.S_IMODE(mode) & 0o077:
        raise _unusable(file, "can be read by others: chmod 600, and consider its pepper known")
    if len(text) < SHORTEST_PEPPER:
        raise _unusable(file, f"holds fewer than {SHORTEST_PEPPER} characters")
    return text


def _missing() -> ConfigError:
    return _fault(f"is not set; all processes need the same one, kept outside the database. {_HOW}")


def _fault(message: str) -> ConfigError:
    return ConfigError([ConfigFault(message, _WHERE)])


def _unusable(file: Path, message: str) -> ConfigError:
    return ConfigError([ConfigFault(message, str(file))])
