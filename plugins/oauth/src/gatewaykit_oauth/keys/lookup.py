"""Looking up API keys: from the text of a key to what it may do, and to the current pepper where it has another."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from gatewaykit.errors import AuthFailed, GatewayError
from gatewaykit.storage import Storage

from ..changes.feed import Feed, ended
from ..changes.lookup import Lookup
from ..settings import KeysSettings
from .rows import Entry, recognise, renew_digest
from .secrets import Secrets

logger = logging.getLogger(__name__)


class KeyLookup(Lookup[Entry]):
    """From the text of a key to its :class:`~gatewaykit_oauth.keys.rows.Entry`."""

    what = "API keys"

    def __init__(self, storage: Storage, feed: Feed, secrets: Secrets, settings: KeysSettings) -> None:
        super().__init__(feed, settings)
        self._storage = storage
        self._renewing: set[asyncio.Task[None]] = set()
        self.secrets = secrets

    def refusal(self) -> AuthFailed:
        """The one answer to every key that is not valid, whatever the reason."""
        return not_valid()

    async def load(self, text: str, digest: bytes) -> Entry:
        """The key of this text, whose digest is not remembered.

        Raises :class:`~gatewaykit.errors.AuthFailed` if there is none that may be used, and
        :class:`~gatewaykit.errors.Unavailable`.
        """
        return await self.loaded(digest, lambda: self._load(text, digest))

    async def stop(self) -> None:
        """End what is under way."""
        await super().stop()
        await ended([*self._renewing])

    async def _load(self, text: str, digest: bytes) -> Entry | None:
        digests = self.secrets.digests(text)
        found = await self.find(
            digest, lambda: self._storage.read(lambda session: recognise(session, digests, datetime.now(UTC)))
        )
        if found.outdated is not None:
            self._renew(found.outdated, digests)
        return found.entry

    def _renew(self, secret_id: int, digests: tuple[bytes, ...]) -> None:
        new, *old = digests
        task = asyncio.create_task(self._write_digest(secret_id, old, new), name="gatewaykit-key-digest")
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _write_digest(self, secret_id: int, old: list[bytes], new: bytes) -> None:
        try:
            pepper = self.secrets.current
            await self._storage.write(lambda session: renew_digest(session, secret_id, old, new, pepper))
        except GatewayError as error:
            logger.warning("a key keeps its old digest until it is loaded again: %s", error)


def not_valid() -> AuthFailed:
    """The one answer to every key that is not valid, whatever the reason."""
    return AuthFailed("This API key is not valid.")
