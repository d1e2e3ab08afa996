"""Settings from the environment: ``GATEWAYKIT_…``, names that users already have, secret files, systemd credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from gatewaykit.errors import ConfigFault
from gatewaykit.settings.files import CONFIG_VARIABLE, read_secret
from gatewaykit.settings.lines import KeyPath
from gatewaykit.settings.messages import printable
from gatewaykit.settings.shape import Node, Root, read_text
from gatewaykit.settings.tree import Leaf, Tree, dotted, find, grow, put

PREFIX = "GATEWAYKIT_"
_FILE = "_FILE"
_OF_COMMANDS = (CONFIG_VARIABLE, "GATEWAYKIT_ADMIN_KEY")
"""What the command line takes from the environment, and is no setting."""
_SERVICE_LINK = re.compile(r"GATEWAYKIT(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?)")
_SERVICE_ADDRESS = re.compile(r"GATEWAYKIT(_[A-Z0-9]+)*_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


def variable(path: Sequence[str]) -> str:
    """The variable that sets ``path``."""
    return PREFIX + "__".join(path).upper()


class Environment(Struct, frozen=True):
    """Reads ``environ`` for the sections of ``root``.

    ``known`` is what the file says: where a table has free keys, its spelling of a key is the one that counts.
    ``elsewhere`` tells of sections that are not in ``root`` and yet not wrong.
    """

    root: Root
    environ: Mapping[str, str]
    known: Tree
    elsewhere: Callable[[str], bool]
    faults: list[ConfigFault]

    def layers(self) -> Iterator[Tree]:
        """What each kind of source gives, the weakest first."""
        own, own_files = self._own()
        others, other_files = self._others()
        yield from (self._credentials(), other_files, own_files, others, own)

    def _own(self) -> tuple[Tree, Tree]:
        """``GATEWAYKIT_SECTION__FIELD``, and ``…_FILE`` that names a file with the value."""
        values: Tree = {}
        files: Tree = {}
        names = sorted((name for name in self.environ if _is_ours(name, self.environ[name])), key=_by_depth)
        seen: dict[KeyPath, str] = {}
        for name in names:
            words = name[len(PREFIX) :].split("__")
            path, is_file = self._target(words) if name.isprintable() else ((), False)
            where = f"environment {printable(name)}"
            if not path:
                if self.elsewhere(words[0].lower()):
                    values.setdefault(words[0].lower(), {})
                else:
                    self._unknown(name, words)
            elif (twin := seen.setdefault((*path, int(is_file)), name)) != name:
                self.faults.append(ConfigFault(f"{dotted(path)}: given a second time, also as {twin}", where))
            elif is_file:
                put(files, path, self._from_file(self.environ[name], path, where))
            else:
                put(values, path, self._from_text(self.environ[name], path, where))
        return values, files

    def _others(self) -> tuple[Tree, Tree]:
        """Names that a section declares in ``environment``; of two for one field the first declared wins."""
        values: Tree = {}
        files: Tree = {}
        declared = [
            (name, (section.section, *target.split(".")))
            for section in self.root.sections.values()
            for name, target in section.environment.items()
        ]
        taken = {name for name, _ in declared}
        for name, path in reversed(declared):
            if text := self.environ.get(name):
                put(values, path, self._from_text(text, path, f"environment {printable(name)}"))
            if name + _FILE in taken or not (text := self.environ.get(name + _FILE)):
                continue
            where = f"environment {name}{_FILE}"
            beside = (*path[:-1], path[-1] + _FILE.lower())
            if self._is_field(beside):
                put(values, beside, self._from_text(text, beside, where))
            else:
                put(files, path, self._from_file(text, path, where))
        return values, files

    def _credentials(self) -> Tree:
        """Files named ``gatewaykit.SECTION.FIELD`` in systemd's ``$CREDENTIALS_DIRECTORY``."""
        given: Tree = {}
        directory = self.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return given
        try:
            files = sorted(Path(directory).iterdir())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a file name"
            self.faults.append(ConfigFault(f"cannot list {directory!r}: {reason}", "environment CREDENTIALS_DIRECTORY"))
            return given
        for file in files:
            prefix, *words = file.name.split(".")
            if prefix.lower() + "_" != PREFIX.lower() or not words:
                continue
            where = f"secret file {printable(str(file))}"
            if path := self._resolve(words):
                put(given, path, self._from_file(str(file), path, where))
            elif self.elsewhere(words[0].lower()):
                given.setdefault(words[0].lower(), {})
            else:
                self.faults.append(ConfigFault("there is no such setting", where))
        return given

    def _target(self, words: Sequence[str]) -> tuple[KeyPath, bool]:
        """Which path a variable sets, and whether by naming a file; an empty path if it sets none."""
        path = self._resolve(words)
        if len(words) < 2 or not words[-1].upper().endswith(_FILE) or self._is_field(path):
            return path, False
        held = self._resolve([*words[:-1], words[-1][: -len(_FILE)]])
        node = self.root.at(held) if held else None
        if node is None or (path and not node.secret):
            return path, False
        return held, True

    def _is_field(self, path: KeyPath) -> bool:
        parent = self.root.at(path[:-1]) if path else None
        return parent is not None and path[-1] in parent.fields

    def _resolve(self, words: Sequence[str]) -> KeyPath:
        """The path that ``words`` mean, whatever their case; empty if there is none."""
        node: Node | None = self.root
        path: KeyPath = ()
        for word in words:
            key = self._key(node, path, word) if node is not None else None
            if node is None or key is None:
                return ()
            path = (*path, key)
            node = node.child(key)
        return path if node is not None else ()

    def _key(self, node: Node, path: KeyPath, word: str) -> str | None:
        table = find(self.known, path) if node.entry is not None else None
        names: tuple[str, ...] = (*node.fields, *(table if isinstance(table, dict) else ()))
        for name in names:
            if _folded(name) == _folded(word):
                return name
        return word.lower() if node.entry is not None and word else None

    def _from_text(self, text: str, path: KeyPath, where: str) -> Leaf | Tree:
        node = self.root.at(path) or Node(str)
        return grow(read_text(text, node), lambda value, _: Leaf(value, where))

    def _from_file(self, name: str, path: KeyPath, where: str) -> Leaf | Tree:
        text = read_secret(Path(name), where, dotted(path), self.faults) if name else None
        origin = f"secret file {printable(name)}"
        if text is None:
            if not name:
                self.faults.append(ConfigFault(f"{dotted(path)}: names no file", where))
            return Leaf(None, origin, broken=True)
        value = read_text(text, self.root.at(path) or Node(str))
        return grow(value, lambda item, _: Leaf(item, origin, confidential=True))

    def _unknown(self, name: str, words: Sequence[str]) -> None:
        known = [CONFIG_VARIABLE, *_variables(self.root, ())]
        for depth in range(len(words) - 1, 0, -1):
            if path := self._resolve(words[:depth]):
                node = self.root.at(path)
                known += [variable([*words[:depth], field]) for field in (node.fields if node else ())]
                break
        near = get_close_matches(name[len(PREFIX) :].upper(), [other[len(PREFIX) :] for other in known], 1, 0.5)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        self.faults.append(ConfigFault(f"unknown variable{hint}", f"environment {printable(name)}"))


def _is_ours(name: str, value: str) -> bool:
    """Ours to explain: Kubernetes adds names of its own for a service that is called like the gateway."""
    upper = name.upper()
    if not upper.startswith(PREFIX) or name in _OF_COMMANDS or _SERVICE_LINK.fullmatch(name):
        return False
    if _SERVICE_ADDRESS.fullmatch(name):
        return name.endswith("_PORT") and not re.match(r"(tcp|udp|sctp)://", value)
    return True


def _by_depth(name: str) -> tuple[int, str]:
    return name.count("__"), name


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _variables(node: Node, path: tuple[str, ...]) -> Iterator[str]:
    """The variables of all fields that do not lie below a free key."""
    if len(path) > 1:
        yield variable(path)
    if len(path) < 5:
        for name, child in node.fields.items():
            yield from _variables(child, (*path, name))
