"""The router: from the model that a client asks for to targets in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from gatewaykit.builtin.router.conditions import Rule
from gatewaykit.builtin.router.listing import Listing
from gatewaykit.builtin.router.managed import with_managed
from gatewaykit.builtin.router.settings import RouterSettings
from gatewaykit.builtin.router.table import Entry, Table, fixed, make_table
from gatewaykit.errors import Unavailable
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Router, Settings
from gatewaykit.types import Call, Model, Target

MIRROR = "mirror"
"""Where ``call.state`` has the mirror of the model that was found."""

_MOST_REMEMBERED = 4096


class Way(Struct, frozen=True):
    """What is to be done for one name of a model: rules to look at, and the entry if none of them fits."""

    rules: tuple[Rule, ...]
    entry: Entry


class Copies(Struct):
    """What became of the copies for one mirror, since the start."""

    answered: int = 0
    failed: int = 0
    left_out: int = 0


class ModelRouter(Router):
    """Finds targets in the table, by ``provider/model``, and in the lists of the providers, in this order.

    ``table`` is in force, made of ``settings``; the admin API keeps the ``managed`` models of it. ``copies`` tells of
    every mirror that it ever had.
    """

    name = "models"
    reloads = (RouterSettings.section,)

    def __init__(self, settings: RouterSettings, gateway: GatewayContext) -> None:
        self._gateway = gateway
        self._providers = gateway.providers
        self._ways: dict[str, Way] = {}
        self.listing = Listing(self._providers, gateway.targets, settings.refresh, self._ways.clear)
        self._default: str | None = None
        self._named: set[str] = set()
        self.table = Table({})
        self.copies: dict[Target, Copies] = {}
        given = with_managed(settings)
        self._use(settings, given, self.made(given))

    def route(self, call: Call) -> Sequence[Target]:
        """The targets of the first rule that fits, or else of the model that was asked for."""
        entry = self.choose(call)
        if entry.mirror is not None:
            call.state[MIRROR] = entry.mirror
        return entry.order(call)

    def choose(self, call: Call) -> Entry:
        """The entry of the table, or of the lists, that serves ``call``."""
        way = self.way(call.request.model)
        for rule in way.rules:
            if rule.fits(call):
                return self.way(rule.to).entry
        return way.entry

    def way(self, asked: str) -> Way:
        """What is to be done for a name; remembered."""
        known = self._ways.get(asked)
        if known is None:
            known = self._find(asked)
            if len(self._ways) < _MOST_REMEMBERED:
                self._ways[asked] = known
        return known

    async def models(self, call: Call) -> Sequence[Model]:
        """The models of the table and all listed ones.

        Raises :class:`~gatewaykit.errors.Unavailable` where there are none yet: that there are none would be untrue.
        """
        listed = await self.listing.models()
        found = [*(Model(name, "gatewaykit") for name in self.table.entries), *listed]
        if not found and self.listing.is_coming:
            raise Unavailable("The providers have not listed their models yet.", retry_after=1)
        return found

    def knows(self, model: str) -> bool:
        """What the table names, or the providers list, with and without the provider's name before it."""
        provider, slash, listed = model.partition("/")
        if slash and provider in self._providers and (listed in self._named or self.listing.owners(listed)):
            return True
        return model in self.table.entries or model in self._named or bool(self.listing.owners(model))

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Keeps the lists of models fresh."""
        return self.listing.lifespan()

    def reload(self, settings: Settings) -> Callable[[], None]:
        """Make another table; what is returned puts it into force."""
        configured = settings.get(RouterSettings)
        given = with_managed(configured)
        table = self.made(given)
        return lambda: self._use(configured, given, table)

    def made(self, settings: RouterSettings) -> Table:
        """The table of ``settings``, not in force. Raises :class:`~gatewaykit.errors.ConfigError`."""
        return make_table(settings, self._providers, self._gateway.targets, PriceBook.of(self._gateway))

    def _use(self, configured: RouterSettings, settings: RouterSettings, table: Table) -> None:
        self.settings = settings
        self.managed = sorted(
            name for name, model in settings.models.items() if configured.models.get(name) is not model
        )
        self._default = settings.default_provider
        self.listing.refresh = settings.refresh
        for target in self.table.targets - table.targets:
            self._gateway.targets.let_go(target)
        for target in table.targets:
            self._gateway.targets.keep(target)
        self.table = table
        for target in table.mirrored:
            self.copies.setdefault(target, Copies())
        self._named = {state.target.model for state in self._gateway.targets.all() if state.kept}
        self._ways.clear()

    def _find(self, asked: str) -> Way:
        entry = self.table.entries.get(asked) or fixed(asked, self._targets(asked))
        return Way(tuple(rule for rule in self.table.rules if rule.models(asked)), entry)

    def _targets(self, asked: str) -> Sequence[Target]:
        provider, slash, model = asked.partition("/")
        if slash and model and provider in self._providers:
            return (Target(provider, model),)
        return [Target(name, asked) for name in self.listing.owners(asked) or self._guess()]

    def _guess(self) -> Sequence[str]:
        if self._default is not None:
            return (self._default,)
        return tuple(self._providers) if len(self._providers) == 1 else self.listing.unknown()


__all__ = ["MIRROR", "Copies", "ModelRouter", "Way"]
