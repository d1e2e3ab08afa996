"""The routing table, compiled: one :class:`Entry` a model. It is made whole or not at all, and then never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from msgspec import Struct

from gatewaykit.attempts.targets import Targets
from gatewaykit.builtin.router.conditions import Rule, compiled, prompt_tokens
from gatewaykit.builtin.router.orders import (
    Order,
    constant,
    in_turn,
    least_in_flight,
    least_latency,
    sticky,
    weighted,
)
from gatewaykit.builtin.router.settings import ModelTable, RouterSettings, TargetTable
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.pricing import PriceBook
from gatewaykit.types import Call, Hedge, Target

CODES: Mapping[str, frozenset[str]] = {
    "unavailable": frozenset({"provider_unavailable", "provider_error"}),
    "timeout": frozenset({"provider_timeout"}),
    "rate_limited": frozenset({"rate_limit_exceeded"}),
    "unpaid": frozenset({"insufficient_quota"}),
    "context_too_long": frozenset({"context_length_exceeded"}),
    "content_blocked": frozenset({"content_filter"}),
    "auth_failed": frozenset({"upstream_auth_failed"}),
    "denied": frozenset({"permission_denied"}),
    "bad_answer": frozenset({"provider_bad_answer"}),
    "no_such_model": frozenset({"model_not_found"}),
}
"""The kinds of failure of the settings, and the codes of the errors that they mean."""

_SYNONYMS = {"max_completion_tokens": "max_tokens"}
"""Parameters that requests have under another name, whichever of both their clients use."""

_USUAL_CALL = (3000, 1000)
"""Tokens asked and answered, by which targets are compared for their price."""


class Mirror(Struct, frozen=True):
    """Who gets a copy, and of which share of the requests."""

    target: Target
    share: float


class Entry(Struct, frozen=True):
    """One model: ``order`` gives its targets for a call, ``rows`` are they as configured, ``last`` those that wait for
    a kind of failure. ``how`` tells the strategy in words.
    """

    name: str
    order: Order
    rows: tuple[tuple[Target, TargetTable | None], ...]
    last: tuple[Target, ...] = ()
    how: str = "order"
    mirror: Mirror | None = None


class Table(Struct, frozen=True):
    """Everything that is configured."""

    entries: Mapping[str, Entry]
    rules: tuple[Rule, ...] = ()

    @property
    def targets(self) -> frozenset[Target]:
        """Those that answer."""
        return frozenset(
            target for entry in self.entries.values() for target in (*(target for target, _ in entry.rows), *entry.last)
        )

    @property
    def mirrored(self) -> frozenset[Target]:
        """Those that get copies."""
        return frozenset(entry.mirror.target for entry in self.entries.values() if entry.mirror is not None)


def make_table(settings: RouterSettings, providers: Iterable[str], targets: Targets, book: PriceBook) -> Table:
    """The table of ``settings``. Raises :class:`~gatewaykit.errors.ConfigError` when it names what is not there."""
    if faults := list(_faults(settings, set(providers))):
        raise ConfigError(faults)
    entries = {alias: fixed(alias, [place(to) for to in tos]) for alias, tos in settings.aliases.items()}
    for name, model in settings.models.items():
        entries[name] = _entry(name, model, targets, book)
    return Table(entries, compiled(settings.rules))


def fixed(name: str, targets: Sequence[Target]) -> Entry:
    """A model with its targets as they stand."""
    return Entry(name, constant(targets), tuple((target, None) for target in targets))


def place(text: str) -> Target:
    """The target that ``provider/model`` names."""
    provider, _, model = text.partition("/")
    return Target(provider, model)


def _entry(name: str, model: ModelTable, targets: Targets, book: PriceBook) -> Entry:
    stops = frozenset[str]().union(*(CODES[kind] for kind in model.fallback))
    hedge = None if model.hedge is None else Hedge(model.hedge.after, model.hedge.quantile)
    rows = [(_target(row, stops, hedge), row) for row in sorted(model.targets, key=lambda row: row.priority)]
    last = tuple(replace(place(to), after=CODES[kind]) for kind, places in model.fallback.items() for to in places)
    groups = [_group(model, list(group), targets, book) for _, group in groupby(rows, lambda row: row[1].priority)]
    longer = [place(to) for to in model.fallback.get("context_too_long", ())]
    order = _whole(groups, last, longer if any(row.context for _, row in rows) else None)
    mirror = None if model.mirror is None else Mirror(place(model.mirror.to), model.mirror.share)
    how = "sticky" if model.sticky else model.strategy
    return Entry(name, order, tuple(rows), last, how, mirror)


def _target(row: TargetTable, stops: frozenset[str], hedge: Hedge | None) -> Target:
    return replace(
        place(row.to),
        first_event=row.first_event,
        between_events=row.between_events,
        whole_call=row.whole_call,
        parameters={_SYNONYMS.get(name, name): value for name, value in row.parameters.items()},
        context=row.context,
        stops=stops,
        hedge=hedge,
    )


def _group(model: ModelTable, rows: Sequence[tuple[Target, TargetTable]], targets: Targets, book: PriceBook) -> Order:
    """The order among targets of the same priority."""
    places, weights = [target for target, _ in rows], [row.weight for _, row in rows]
    if len(places) == 1:
        return constant(places)
    if model.sticky and any(weights):
        return sticky(places, weights)
    if model.strategy == "weighted" and any(weights):
        return weighted(places, weights)
    if model.strategy == "cheapest":
        return constant(sorted(places, key=lambda target: _price(target, book)))
    states = [targets[target] for target in places]
    if model.strategy == "least_latency":
        return least_latency(places, states)
    if model.strategy == "least_in_flight":
        return least_in_flight(places, states, weights)
    return constant(places)


def _whole(groups: Sequence[Order], last: tuple[Target, ...], longer: Sequence[Target] | None) -> Order:
    """All groups, then those that wait for a kind of failure. Windows that are too short are left out, where any is
    known: where none is long enough ``longer`` are asked, those that wait for prompts that are too long.
    """
    order = in_turn([*groups, constant(last)] if last else groups)
    if longer is None:
        return order

    def fitting(call: Call) -> Sequence[Target]:
        found, length = order(call), prompt_tokens(call)
        fits = [target for target in found if target.context is None or target.context >= length]
        return fits if any(not target.after for target in fits) else longer or found

    return fitting


def _price(target: Target, book: PriceBook) -> float:
    known = book.ceiling((target,), *_USUAL_CALL)
    return float("inf") if known is None else known


def _faults(settings: RouterSettings, providers: set[str]) -> Iterator[ConfigFault]:
    known = ", ".join(sorted(providers)) or "none"
    for where, to in _places(settings):
        name = to.partition("/")[0]
        if name not in providers:
            yield ConfigFault(f"no provider is called {name!r}; there are: {known}", where)
    names = {*settings.aliases, *settings.models}
    for number, rule in enumerate(settings.rules):
        if rule.to not in names and rule.to.partition("/")[0] not in providers:
            yield ConfigFault(f"rules[{number}]: {rule.to!r} is no model, no alias and no provider's", "router.rules")


def _places(settings: RouterSettings) -> Iterator[tuple[str, str]]:
    """Where a target is named, and which. A fault is told once for each provider of an alias."""
    if settings.default_provider is not None:
        yield "router.default_provider", settings.default_provider
    yield from dict.fromkeys(
        ("router.aliases", to.partition("/")[0]) for tos in settings.aliases.values() for to in tos
    )
    for name, model in settings.models.items():
        where = f"router.models.{name}"
        yield from ((f"{where}.targets", row.to) for row in model.targets)
        yield from ((f"{where}.fallback", to) for tos in model.fallback.values() for to in tos)
        if model.mirror is not None:
            yield f"{where}.mirror", model.mirror.to
