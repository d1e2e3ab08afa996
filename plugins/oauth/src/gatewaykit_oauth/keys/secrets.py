"""Making secrets, and digesting them: of a key only ``HMAC-SHA256(pepper, key)`` is ever kept (RFC 2104).

A key has 190 bits that nobody can guess, so a fast digest is a safe one; the pepper, kept elsewhere, makes a stolen
table worthless even for checking a guess, and a digest is no credential.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from .format import hint, new_key, new_secret

_PURPOSE = b"gatewaykit: name of a pepper"


class NewSecret:
    """A secret that was just made: its text, its digest and what may be shown of it."""

    __slots__ = ("digest", "hint", "text")

    def __init__(self, text: str, digest: bytes) -> None:
        self.text = text
        self.digest = digest
        self.hint = hint(text)

    def __repr__(self) -> str:
        return f"NewSecret({self.hint})"


class Secrets:
    """Makes and digests secrets. ``pepper`` is the current one, ``old`` are those that digests may still be made with.

    A pepper is known by an id that is derived from it. ``env`` is what new keys carry after ``gk_``.
    """

    def __init__(self, pepper: str, old: Iterable[str] = (), env: str = "live") -> None:
        self._begun = _begun(pepper)
        self._env = env
        self.current = pepper_id(pepper)
        self._old = {pepper_id(one): _begun(one) for one in old if one != pepper}

    def __repr__(self) -> str:
        return f"Secrets(current={self.current!r}, old={sorted(self._old)})"

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all peppers."""
        return frozenset({self.current, *self._old})

    def new(self, prefix: str | None = None) -> NewSecret:
        """A new secret: of a key, or of the kind that begins with ``prefix``."""
        text = new_key(self._env) if prefix is None else new_secret(prefix)
        return NewSecret(text, self.digest(text))

    def digest(self, text: str) -> bytes:
        """32 bytes, by the current pepper."""
        return _ended(self._begun, text)

    def digests(self, text: str) -> tuple[bytes, ...]:
        """By each pepper, the current one first."""
        return (self.digest(text), *(_ended(begun, text) for begun in self._old.values()))

    def derived(self, purpose: str) -> dict[str, bytes]:
        """Keys of 32 bytes for another purpose, by the id of the pepper that each is derived from."""
        known = {self.current: self._begun, **self._old}
        return {name: _ended(begun, purpose) for name, begun in known.items()}


def _begun(pepper: str) -> hmac.HMAC:
    """An HMAC that has only its key. Copies of it are quicker than ``hmac.digest``, which also lets go of the lock of
    the interpreter, and then waits for whichever thread took it.
    """
    return hmac.new(pepper.encode(), digestmod="sha256")


def _ended(begun: hmac.HMAC, text: str) -> bytes:
    code = begun.copy()
    code.update(text.encode())
    return code.digest()


def pepper_id(pepper: str) -> str:
    """The name of a pepper: 8 hexadecimal digits that tell nothing else of it."""
    return hmac.digest(pepper.encode(), _PURPOSE, "sha256").hex()[:8]
