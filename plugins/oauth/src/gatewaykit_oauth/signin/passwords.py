"""Passwords: argon2id, with the parameters of OWASP's cheat sheet, off the event loop and a few at a time.

Each check takes 19 MiB and some 40 ms of a processor. Two run at the same time, 32 may wait; what comes on top is told
to come back, so that guessing strangers cannot take the gateway's processors or memory.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from gatewaykit.errors import BadRequest, Unavailable

from ..words import N_

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
SHORTEST, LONGEST = 12, 1024
LENGTH = N_("A password has 12 to 1024 characters.")
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
_AT_ONCE, _WAITING = 2, 32
_FEWEST_DIFFERENT = 5


class Passwords:
    """Makes and checks digests of passwords, in threads of its own that start with the first one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "gatewaykit-password")
        self._under_way = 0

    async def hashed(self, password: str) -> str:
        """The digest to keep, which says how it was made. Raises :class:`~gatewaykit.errors.Unavailable`."""
        return await self._run(lambda: hashed(password))

    async def verify(self, known: str | None, password: str) -> bool:
        """Whether it is the password; as slow for an account without one (``None``), so that time tells nothing.

        Raises :class:`~gatewaykit.errors.Unavailable` when too many wait.
        """
        return await self._run(lambda: _verify(known, password))

    async def renewed(self, known: str, password: str) -> str | None:
        """A new digest of a password that was just verified, where the known one was made in an older way."""
        return await self._run(lambda: hashed(password) if _hasher().check_needs_rehash(known) else None)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._under_way >= _AT_ONCE + _WAITING:
            raise Unavailable(retry_after=1.0, detail="passwords: too many are being checked")
        self._under_way += 1
        done = self._threads.submit(work)
        done.add_done_callback(lambda _: self._finished())
        return await asyncio.wrap_future(done)

    def _finished(self) -> None:
        self._under_way -= 1


def hashed(password: str) -> str:
    """The digest to keep. Blocks."""
    return _hasher().hash(_normal(password))


def check_password(password: str, account_id: str) -> None:
    """Raise :class:`~gatewaykit.errors.BadRequest` for one that is too easy to guess."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadRequest(LENGTH, param="password")
    folded = password.casefold()
    if len(set(folded)) < _FEWEST_DIFFERENT or folded in account_id.casefold() * LONGEST:
        raise BadRequest("This password is too easy to guess.", param="password")


def _verify(known: str | None, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(known or _decoy(), _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return known is not None


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


@cache
def _decoy() -> str:
    """What a password of nobody is compared with."""
    return hashed("nobody's password")


def _normal(password: str) -> str:
    """Keyboards write the same letters in different ways (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
