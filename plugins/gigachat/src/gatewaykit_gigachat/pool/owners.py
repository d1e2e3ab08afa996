"""Whose a file is: a client that names files it uploaded itself can be served only by the credential they belong to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gatewaykit.errors import BadRequest, GatewayError, NotFound

if TYPE_CHECKING:
    from .member import Member

_MOST_REMEMBERED = 4096
_MOST_FILES = 32
"""Files that one request may name: each new one is asked about, and the service takes fewer anyway."""

_File = tuple[str, str]


class FileOwners:
    """Finds out which of ``members`` a file belongs to by asking each of them, which costs nothing, and remembers it.

    It belongs to one event loop. What nobody has is not remembered: it may be uploaded the next moment.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._known: OrderedDict[_File, frozenset[str]] = OrderedDict()
        self._asking: dict[_File, asyncio.Task[frozenset[str]]] = {}

    async def of_all(self, file_ids: Collection[str], client_id: str) -> frozenset[str]:
        """The names of the members to whom all these files belong, of which there is at least one.

        Raises :class:`~gatewaykit.errors.NotFound` for a file that nobody has, :class:`~gatewaykit.errors.BadRequest`
        for files of different members or too many of them, and what a member said that could not tell.
        """
        if len(file_ids) > _MOST_FILES:
            raise BadRequest(f"A request may name at most {_MOST_FILES} files.", param="messages")
        found = await asyncio.gather(*(self._of((client_id, file_id)) for file_id in file_ids))
        common = frozenset[str].intersection(*found)
        if not common:
            raise BadRequest(
                "The files of this request were uploaded to different GigaChat accounts: one request can name files of "
                "one account only.",
                param="messages",
            )
        return common

    def forget(self, file_ids: Collection[str], client_id: str) -> None:
        """One of these files was not there after all."""
        for file_id in file_ids:
            self._known.pop((client_id, file_id), None)

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _of(self, file: _File) -> frozenset[str]:
        known = self._known.get(file)
        if known is not None:
            self._known.move_to_end(file)
            return known
        task = self._asking.get(file)
        if task is None:
            task = self._asking[file] = asyncio.create_task(self._asked(file), name="gigachat-file")
            task.add_done_callback(lambda _: self._asking.pop(file, None))
        return await asyncio.shield(task)

    async def _asked(self, file: _File) -> frozenset[str]:
        client_id, file_id = file
        said = await asyncio.gather(
            *(member.attachments.has(file_id, client_id) for member in self._members), return_exceptions=True
        )
        owners = frozenset(member.name for member, has in zip(self._members, said, strict=True) if has is True)
        if not owners:
            raise next((error for error in said if isinstance(error, BaseException)), _unknown())
        self._known[file] = owners
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return owners


def _unknown() -> GatewayError:
    return NotFound("There is no such file.", param="messages")
