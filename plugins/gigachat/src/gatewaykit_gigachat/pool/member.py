"""One credential of the pool: how many places it has, how many are taken, and whether it is of use now."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from gatewaykit.errors import (
    GatewayError,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderBusy,
    ProviderDenied,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)

from ..attachments import Attachments

if TYPE_CHECKING:
    from ..connection import Connection

UNPAID_SECONDS = 60.0
DENIED_SECONDS = 60.0
MISSING_SECONDS = 600.0
"""How long a credential is not asked for a model that it has no tokens for, may not use, or does not know; the first is
also ended by a balance."""

_BUSY_SECONDS = 1.0
_LONGEST_BUSY = 30.0
_FAILURES = 3
_MOST_LACKS = 256
logger = logging.getLogger(__name__)


class Health(StrEnum):
    """``REFUSED``: the service does not accept the credential. ``FAILING``: three calls in a row got no answer."""

    GOOD = "good"
    REFUSED = "refused"
    FAILING = "failing"


class Lack(Struct, frozen=True):
    """Why a member is not asked for some model, and until when (monotonic)."""

    reason: str
    until: float


class Member:
    """A credential and its places. ``slots`` is how many requests it may have at a time, 0 for any number.

    ``shared_name`` tells it from others wherever places are counted, and does not tell the credential.
    """

    def __init__(self, name: str, connection: Connection, attachments: Attachments, *, slots: int) -> None:
        self.name = name
        self.connection = connection
        self.attachments = attachments
        self.slots = slots
        self.scope = connection.scope
        self.shared_name = connection.shared_name
        self.in_use = 0
        self.taken_by_all = 0
        """Places taken in all processes, as far as this one has heard; 0 if it is alone."""
        self.health = Health.GOOD
        self.lacks: dict[str, Lack] = {}
        self.balance: Mapping[str, int] | None = None
        """Tokens left, by model; ``None`` if the API does not tell, or was not asked yet."""
        self.calls = 0
        self._failures = 0
        self._busy_until = -math.inf

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.in_use}/{self.slots or '∞'} {self.health}>"

    @property
    def has_room(self) -> bool:
        """Whether this process may take one more place."""
        return not self.slots or self.in_use < self.slots

    @property
    def load(self) -> float:
        """Which share of its places would be taken with one more."""
        return (max(self.in_use, self.taken_by_all) + 1) / self.slots if self.slots else 0.0

    @property
    def is_good(self) -> bool:
        """Whether it is in the pool, at least for some models."""
        return self.health is Health.GOOD

    @property
    def unpaid(self) -> bool:
        """Whether it has run out of tokens for some model."""
        return any(lack.reason == "unpaid" for lack in self.lacks.values())

    def is_of_use(self, model: str) -> bool:
        """Whether a call of ``model`` is well placed here, as far as is known."""
        if self.health is not Health.GOOD:
            return False
        if not self.lacks and self._busy_until < 0:
            return True
        now = time.monotonic()
        lack = self.lacks.get(_base(model))
        return now >= self._busy_until and (lack is None or now >= lack.until)

    @property
    def rests_until(self) -> float:
        """When it is next of use for more than now, because some time is over (monotonic); infinite if never."""
        if not self.lacks and self._busy_until < 0:
            return math.inf
        now = time.monotonic()
        ends = (self._busy_until, *(lack.until for lack in self.lacks.values()))
        return min((end for end in ends if end > now), default=math.inf)

    def worked(self) -> None:
        """A call was answered."""
        if self._failures or self.health is not Health.GOOD:
            self.comes_back()

    def failed(self, model: str, error: GatewayError) -> bool:
        """A call failed with ``error``; whether that is this credential's matter, so that another may do better."""
        match error:
            case ProviderAuthFailed():
                self.leaves(Health.REFUSED, error)
            case ProviderUnpaid():
                self._lack(model, "unpaid", UNPAID_SECONDS)
            case ProviderDenied():
                self._lack(model, "denied", DENIED_SECONDS)
            case ModelNotFound():
                self._lack(model, "missing", MISSING_SECONDS)
            case ProviderBusy():
                wait = error.retry_after or _BUSY_SECONDS
                self._busy_until = time.monotonic() + min(wait, _LONGEST_BUSY)
            case ProviderUnavailable() | ProviderTimeout():
                self._failures += 1
                if self._failures >= _FAILURES:
                    self.leaves(Health.FAILING, error)
                return False
            case _:
                self._failures = 0
                return False
        return True

    def leaves(self, health: Health, error: GatewayError) -> None:
        """Calls go to others, while there are any."""
        if self.health is Health.GOOD:
            logger.warning("gigachat: the credential %s leaves the pool, it is %s: %s", self.name, health, error)
        self.health = health

    def comes_back(self) -> None:
        """Calls may come again."""
        if not self.is_good:
            logger.warning("gigachat: the credential %s is back in the pool", self.name)
        self.health, self._failures = Health.GOOD, 0

    def tells_balance(self, balance: Mapping[str, int] | None, lasts: float) -> None:
        """What the API says is left, to be believed for ``lasts`` seconds; nothing if it does not say."""
        self.balance = balance
        for model, tokens in (balance or {}).items():
            base = _base(model)
            if tokens <= 0:
                self._lack(base, "unpaid", lasts)
            elif (lack := self.lacks.get(base)) is not None and lack.reason == "unpaid":
                del self.lacks[base]

    def forgets_old_lacks(self) -> None:
        """What is over is not remembered."""
        now = time.monotonic()
        for model in [model for model, lack in tuple(self.lacks.items()) if now >= lack.until]:
            self.lacks.pop(model, None)

    def _lack(self, model: str, reason: str, seconds: float) -> None:
        """Models are called by clients: no more of them are remembered than anybody can need."""
        base = _base(model)
        if self.lacks.pop(base, None) is None and reason == "unpaid":
            logger.warning("gigachat: the credential %s has no tokens left for %s", self.name, base)
        self.lacks[base] = Lack(reason, time.monotonic() + seconds)
        if len(self.lacks) > _MOST_LACKS:
            del self.lacks[next(iter(self.lacks))]


def _base(model: str) -> str:
    """A model without the build that may stand behind it."""
    return model.partition(":")[0]
