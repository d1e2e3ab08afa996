"""Limits of requests, tokens, concurrency and money; see ``docs/keys-and-limits.md``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gatewaykit.builtin.limits.limiter import Limits
from gatewaykit.builtin.limits.plans import Estimator, Plans
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.hookspecs import hookimpl
from gatewaykit.limiting import choose_backend
from gatewaykit.limits import Limit, period
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Limiter
from gatewaykit.settings import Section


class Books:
    """What was spent before a store began to count, from the ledger; nothing is known without a database."""

    def __init__(self, gateway: GatewayContext) -> None:
        self._storage = gateway.storage

    async def spent(self, limit: Limit) -> int:
        """Micro-units of the currency of accounting, since the limit's period began."""
        if self._storage is None or not isinstance(limit.span, str) or limit.unit != "money":
            return 0
        from gatewaykit.storage.spending import spent

        begins, _ = period(limit.span, datetime.now(UTC).timestamp())
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
