"""Limits of requests, tokens, concurrency and money; see ``docs/keys-and-limits.md``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gatewaykit.builtin.limits.limiter import Limits
from gatewaykit.builtin.limits.plans import Estimator, Plans
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import Unavailable
from gatewaykit.hookspecs import hookimpl
from gatewaykit.limiting import choose_backend
from gatewaykit.limits import Limit
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Limiter
from gatewaykit.settings import Section


class Books:
    """What was spent before a store began to count, from the ledger; nothing is known without a database."""

    def __init__(self, gateway: GatewayContext) -> None:
        self._storage = gateway.storage

    async def spent(self, limit: Limit, begins: float) -> int:
        """Micro-units of the currency of accounting, since ``begins``, the unix time at which the limit's period did.

        Whoever counts says when that was: this machine's clock may be in another period. Raises
        :class:`~gatewaykit.errors.Unavailable` while the database is, and while spending of before waits for it.
        """
        if self._storage is None or limit.unit != "money":
            return 0
        if not self._storage.settled.is_set():
            raise Unavailable(retry_after=1.0, detail="database: it does not have all that was spent before the start")
        from gatewaykit.storage.spending import spent

        since = datetime.fromtimestamp(begins, UTC)
        return await self._storage.read(lambda session: spent(session, limit.subject, since))


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[limits]``."""
    return [LimitsSettings]


@hookimpl
def gateway_limiters(gateway: GatewayContext) -> Iterable[Limiter]:
    """The limiter. It is there without any limit in the configuration, too: keys bring their own."""
    settings = gateway.settings.get(LimitsSettings)
    book = PriceBook.of(gateway)
    estimator = Estimator(book, output_tokens=settings.output_tokens)
    backend = choose_backend(
        gateway,
        settings.store,
        setting="limits.store",
        lease=settings.lease,
        on_failure=settings.on_failure,
        instances=settings.instances,
    )
    return [Limits(Plans(settings), estimator, backend, Books(gateway).spent, book.currency, settings.budget_warning)]
