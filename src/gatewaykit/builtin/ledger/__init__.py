"""One record of each call in the database, whatever happens to the process: who, what, when, how long, how many tokens
and what they cost; never what was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from gatewaykit.builtin.ledger.settings import LedgerSettings
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Observer
from gatewaykit.settings import Section


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[ledger]``."""
    return [LedgerSettings]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The ledger, where there is a database. Raises :class:`~gatewaykit.errors.ConfigError` if it would forget what
    budgets count from.
    """
    if gateway.storage is None:
        return []
    settings = gateway.settings.get(LedgerSettings)
    with suppress(KeyError):  # the plugin that has budgets may be blocked
        settings.check_budgets(gateway.settings.get(LimitsSettings))
    from gatewaykit.builtin.ledger.ledger import Ledger
    from gatewaykit.pricing import PriceBook

    return [Ledger(gateway.storage, settings, PriceBook.of(gateway))]


__all__ = ["LedgerSettings"]
