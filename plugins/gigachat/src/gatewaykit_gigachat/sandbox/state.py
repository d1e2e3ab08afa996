"""Everything that one sandbox remembers; nothing is shared between two of them."""

from __future__ import annotations

from collections import Counter

from .cache import PromptCache
from .catalogue import Catalogue
from .faults import FaultQueue
from .limits import ParallelLimit, TokenRate
from .refusals import api_refusal
from .settings import CORP, SandboxSettings
from .stats import Journal, Stats
from .store import FileStore
from .tokens import Grant, TokenVault


class Sandbox:
    """The state of one sandbox application, reachable as ``app.state.sandbox``."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.stats = Stats()
        self.journal = Journal(settings.journal_size)
        self.faults = FaultQueue()
        self.tokens = TokenVault(settings.token_lifetime, settings.clock)
        self.token_rate = TokenRate(settings.token_requests_per_second, settings.clock)
        self.parallel = ParallelLimit(settings.parallel, self.stats)
        self.catalogue = Catalogue(settings.models)
        self.files = FileStore(settings)
        self.cache = PromptCache(settings.cache_lifetime, settings.clock)
        self._spent: Counter[tuple[str, str]] = Counter()

    def now(self) -> int:
        """Unix seconds."""
        return int(self.settings.clock())

    def balance(self, grant: Grant, model: str) -> int:
        """Prepaid tokens left to the client for ``model``."""
        return max(0, self.settings.package_tokens - self._spent[grant.client_id, model])

    def require_balance(self, grant: Grant, model: str) -> None:
        """402 when the client's package for ``model`` is used up."""
        if grant.scope != CORP and self.balance(grant, model) == 0:
            raise api_refusal(402)

    def spend(self, grant: Grant, model: str, tokens: int) -> None:
        """Take ``tokens`` off the client's package for ``model``."""
        self._spent[grant.client_id, model] += tokens
