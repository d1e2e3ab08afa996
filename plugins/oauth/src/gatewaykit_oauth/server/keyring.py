"""The signing keys of one process: read once, and again when the feed of changes tells that they have changed."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from ..keys.secrets import Secrets
from .settings import OAuthSettings
from .signing_keys import KeySet, load, maintain

MAINTAIN_EVERY = 60.0
logger = logging.getLogger(__name__)


class Keyring:
    """Gives the keys in force. It follows the feed: after a change of any key nothing is believed until it is read."""

    def __init__(self, storage: Storage, secrets: Secrets, settings: OAuthSettings) -> None:
        self._storage = storage
        self._secrets = secrets
        self._settings = settings
        self._known: KeySet | None = None
        self._version = 0
        self._reading = asyncio.Lock()

    @property
    def known(self) -> KeySet | None:
        """The keys, if they need not be read."""
        return self._known

    async def keys(self) -> KeySet:
        """The keys. Raises :class:`~gatewaykit.errors.Unavailable` while they have to be read and cannot."""
        known = self._known
        while known is None:
            async with self._reading:
                known = self._known or await self._read()
        return known

    async def start(self) -> None:
        """Make the first keys, or those that are due. Raises :class:`~gatewaykit.errors.ConfigError`."""
        await self._maintain()
        await self.keys()

    async def run(self) -> None:
        """Move keys on when their time comes, for ever."""
        while True:
            await asyncio.sleep(MAINTAIN_EVERY)
            try:
                await self._maintain()
            except GatewayError as error:
                logger.warning("signing keys are not looked after: %s", error)

    def evict(self, subject: str, _seq: int | None) -> None:
        """A change: of a key, perhaps."""
        if subject.startswith("kid:"):
            self._changed()

    def clear(self) -> None:
        """Anything may have changed."""
        self._changed()

    async def _maintain(self) -> None:
        now = datetime.now(UTC)
        if await self._storage.write(lambda session: maintain(session, self._secrets, self._settings, now)):
            self._changed()

    async def _read(self) -> KeySet | None:
        version = self._version
        found = await self._storage.read(lambda session: load(session, self._secrets))
        if version != self._version:
            return None
        self._known = found
        return found

    def _changed(self) -> None:
        self._known = None
        self._version += 1
