"""Reading the configuration file and secret files: bounded, as UTF-8, with every problem reported as a fault."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from gatewaykit.errors import ConfigFault
from gatewaykit.settings.lines import KeyPath, key_lines
from gatewaykit.settings.messages import printable
from gatewaykit.settings.tree import Leaf, Tree, grow, too_deep

CONFIG_NAME = "gatewaykit.toml"
CONFIG_VARIABLE = "GATEWAYKIT_CONFIG"
CONFIG_LIMIT = 1024 * 1024
SECRET_LIMIT = 64 * 1024
_TOO_DEEP = "tables and arrays are nested too deeply"


def find_config(explicit: Path | None, environ: Mapping[str, str], directory: Path = Path()) -> Path | None:
    """The configuration file to load: ``explicit``, else what ``GATEWAYKIT_CONFIG`` names, else ``gatewaykit.toml`` in
    ``directory`` if there is one, else None. The first two need not exist: loading them reports it.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    default = directory / CONFIG_NAME
    return default if default.exists() else None


class ConfigFile(Struct, frozen=True):
    """What a file gives: its values, and for each path the place as messages name it (``gatewaykit.toml:12``).
    Not ``usable``: it could not be read, which is reported, and counts as empty.
    """

    tree: Tree = field(default_factory=dict)
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    usable: bool = True


def read_config(path: Path, faults: list[ConfigFault]) -> ConfigFile:
    """Reads a TOML file; a file that cannot be used is reported and counts as empty."""
    name = printable(str(path))
    raw = _read(path, CONFIG_LIMIT)
    if isinstance(raw, str):
        faults.append(ConfigFault(raw, name))
        return ConfigFile(usable=False)
    text = ""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        faults.append(ConfigFault("is not UTF-8 text", f"{name}:{line}"))
    except ValueError as error:
        faults.append(_syntax_fault(str(error), name, text))
    except RecursionError:
        faults.append(ConfigFault(_TOO_DEEP, name))
    else:
        if not too_deep(document):
            return _placed(document, {key: f"{name}:{line}" for key, line in key_lines(text).items()})
        faults.append(ConfigFault(_TOO_DEEP, name))
    return ConfigFile(usable=False)


def read_secret(path: Path, where: str, subject: str, faults: list[ConfigFault]) -> str | None:
    """The text of a secret file without its last newline; None if it is unusable, which is reported for ``subject``."""
    text = _read(path, SECRET_LIMIT)
    problem = text if isinstance(text, str) else ""
    if isinstance(text, bytes):
        try:
            if text := re.sub(r"\r?\n\Z", "", text.decode()):
                return text
            problem = "is empty"
        except UnicodeDecodeError:
            problem = "is not UTF-8 text"
    faults.append(ConfigFault(f"{subject}: secret file {str(path)!r} {problem}", where))
    return None


def _read(path: Path, limit: int) -> bytes | str:
    """The bytes of a file; a text says why there are none."""
    try:
        if path.is_fifo():
            return "is a pipe, which can be read once only: write it to a file"
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "cannot be read: not a file name"
    return raw if len(raw) <= limit else f"is larger than {limit // 1024} KiB"


def _syntax_fault(message: str, name: str, text: str) -> ConfigFault:
    """tomllib tells the line only in words, and none for a number that is too long for Python."""
    problem, _, position = message.partition(" (at ")
    if match := re.match(r"line (\d+)", position):
        return ConfigFault(f"not valid TOML: {problem}", f"{name}:{match[1]}")
    if position:
        last = text.count("\n") + 1
        return ConfigFault(f"not valid TOML: {problem}, at the end of the file", f"{name}:{last}")
    return ConfigFault("not valid TOML: a value is out of range", name)


def _placed(document: Mapping[str, object], places: Mapping[KeyPath, str]) -> ConfigFile:
    tree = {
        key: grow(value, lambda item, path: Leaf(item, places[path], from_file=True), (key,))
        for key, value in document.items()
    }
    return ConfigFile(tree, places)
