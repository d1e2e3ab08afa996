"""One record of each call in the database, whatever happens to the process: who, what, when, how long, how many tokens
and what they cost; never what was said.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatewaykit.builtin.ledger.settings import LedgerSettings
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Observer
from gatewaykit.settings import Section


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[ledger]``."""
    return [LedgerSettings]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The ledger, where there is a database."""
    if gateway.storage is None:
        return []
    from gatewaykit.builtin.ledger.ledger import Ledger
    from gatewaykit.pricing import PriceBook

    return [Ledger(gateway.storage, gateway.settings.get(LedgerSettings), PriceBook.of(gateway))]


__all__ = ["LedgerSettings"]
