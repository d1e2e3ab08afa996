"""The models on offer, as providers list them: asked for when a page needs them, and remembered for a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gatewaykit.admission import matches
from gatewaykit.protocols import Provider
from gatewaykit.types import Model

_PATIENCE = 3.0
_REMEMBERED = 60.0
logger = logging.getLogger(__name__)


class Offer(Struct, frozen=True):
    """What one provider has: ``failed`` if it could not be asked."""

    provider: str
    models: Sequence[Model] = ()
    failed: bool = False


class Models:
    """The offers of all providers."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._known: list[Offer] = []
        self._asked = -_REMEMBERED

    async def offers(self) -> Sequence[Offer]:
        """What each provider has; one that takes too long counts as failed."""
        if time.monotonic() - self._asked >= _REMEMBERED:
            asked = (self._ask(name, provider) for name, provider in sorted(self._providers.items()))
            self._known = await asyncio.gather(*asked)
            self._asked = time.monotonic()
        return self._known

    async def names(self) -> list[str]:
        """The names of all models."""
        return sorted({model.id for offer in await self.offers() for model in offer.models})

    async def example(self, globs: Sequence[str]) -> str:
        """A model that a key with these globs may use, for an example."""
        plain = [glob for glob in globs if not set(glob) & set("*?")]
        if plain:
            return plain[0]
        known = [name for name in await self.names() if matches(globs, name)]
        chatty = [name for name in known if "embed" not in name.lower()]
        return (chatty or known or ["MODEL"])[0]

    async def _ask(self, name: str, provider: Provider) -> Offer:
        try:
            async with asyncio.timeout(_PATIENCE):
                return Offer(name, sorted(await provider.models(), key=lambda model: model.id))
        except Exception as error:  # noqa: BLE001 - a page about providers must survive them
            logger.info("provider %s does not list its models: %s", name, type(error).__name__)
            return Offer(name, failed=True)
