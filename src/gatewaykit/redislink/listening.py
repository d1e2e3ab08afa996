"""Messages from Redis: one connection that is kept alive, and made anew when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from gatewaykit.redislink.wire import Address, Wire, opened, packed, reason

logger = logging.getLogger(__name__)
_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_SILENCE = 1.0


class Listener:
    """Hands every message of ``channel`` to ``on_message``.

    What is published while the connection is lost is lost too. So ``on_connect`` is called each time it is there again,
    the first time as well: then is the moment to read anew what the messages are about. Silence is broken by a question
    every second; no answer within another second is a loss. The channel is a name of Redis, prefix included.
    """

    def __init__(
        self,
        address: Address,
        channel: str,
        on_message: Callable[[bytes], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._address = address
        self._channel = channel
        self._on_message = on_message
        self._on_connect = on_connect
        self._pause = _PAUSE
        self._lost = False

    async def run(self) -> None:
        """Listen until cancelled. The log says once that the connection is lost, and once that it is back."""
        while True:
            wire = self._address.connection()
            try:
                await self._subscribe(wire)
                self._back()
                await self._listen(wire)
            except Exception as error:  # noqa: BLE001 - redis-py raises anything over what is no answer of Redis
                self._missing(error)
            finally:
                await wire.disconnect(nowait=True)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    async def _subscribe(self, wire: Wire) -> None:
        async with asyncio.timeout(_SILENCE):
            await opened(wire)
            await wire.send_packed_command(packed(("SUBSCRIBE", self._channel)), check_health=False)
            await wire.read_response()

    async def _listen(self, wire: Wire) -> None:
        asked = False
        while True:
            answer = await wire.read_response(timeout=_SILENCE)
            if answer is None:
                if asked:
                    raise TimeoutError
                await wire.send_packed_command(packed(("PING",)), check_health=False)
            elif answer[0] == b"message":
                self._call(self._on_message, answer[2])
            asked = answer is None

    def _back(self) -> None:
        self._pause = _PAUSE
        if self._lost:
            self._lost = False
            logger.warning("%s: messages arrive again", self._address)
        self._call(self._on_connect)

    def _missing(self, error: BaseException) -> None:
        if not self._lost:
            self._lost = True
            logger.warning("%s: messages do not arrive: %s", self._address, reason(error))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """A listener that fails must not end the listening."""
        try:
            function(*arguments)
        except Exception as error:
            logger.error("a listener for messages failed", exc_info=error)
