"""Putting the gateway together: from plugins and settings to the frozen parts of the request's way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from gatewaykit.admission import Door
from gatewaykit.attempts.breaker import BreakerRules
from gatewaykit.attempts.retries import RetryBudget, RetryRules
from gatewaykit.attempts.scope import Attempts
from gatewaykit.attempts.targets import Targets
from gatewaykit.errors import ConfigError, ConfigFault, PluginError
from gatewaykit.isolation import Costs, harmless, isolate, isolate_async, isolate_limiter, must_be
from gatewaykit.metrics import Reading
from gatewaykit.observing import ObserverQueue
from gatewaykit.ordering import solve
from gatewaykit.parts import DialectTable, Parts, TimeLimits
from gatewaykit.protocols import (
    AroundCall,
    Authenticator,
    Dialect,
    GatewayContext,
    Lifespan,
    Limiter,
    Named,
    Observer,
    Proceed,
    Provider,
    Reloaded,
    Router,
    Transform,
)
from gatewaykit.registry import Registry
from gatewaykit.relay import fused
from gatewaykit.routes import RouteTable
from gatewaykit.settings import (
    COMMAND_LINE,
    DEFAULT,
    BreakerSettings,
    HedgingSettings,
    RetrySettings,
    Section,
    ServerSettings,
    Settings,
    TimeoutSettings,
)
from gatewaykit.sources import Sources
from gatewaykit.types import Call, Event, Principal, Reply

if TYPE_CHECKING:
    pass

SectionT = TypeVar("SectionT", bound=Section)
_EVENT = (Event, NoneType)


class Assembly(Struct, frozen=True):
    """The gateway's insides. ``guarded`` says whether any authenticator stands at the door.

    ``lifespans`` are those of the objects, ``reloadable`` the objects that heed new settings; what ``gateway_lifespan``
    returns is collected at each start. ``readings`` are those of everything that has some, by the name of whose they
    are; ``knows`` the routers' answers to which models they know. ``on_request`` are the transforms' hooks by owner.
    """

    parts: Parts
    dialects: DialectTable
    routes: RouteTable
    observers: ObserverQueue
    lifespans: tuple[Callable[[], Lifespan], ...]
    reloadable: tuple[Any, ...]
    readings: tuple[tuple[str, Callable[[], Iterable[Reading]]], ...]
    knows: tuple[Callable[[str], bool], ...]
    on_request: tuple[tuple[Named, Callable[[Call], None]], ...]
    guarded: bool

    def awake(self) -> tuple[Callable[[Call], None], ...]:
        """The ``on_request`` hooks of those that have something to do now."""
        return tuple(hook for owner, hook in self.on_request if not getattr(owner, "idle", False))


_KINDS = ("observers", "dialects", "authenticators", "limiters", "routers", "transforms", "around_calls", "readings")
Objects = Mapping[str, tuple[Any, ...]]


class _Found:
    """What hooks return, in order, and which of those objects live, tell how they stand, and can be reloaded."""

    def __init__(self, registry: Registry, gateway: GatewayContext, costs: Costs) -> None:
        self._registry = registry
        self._gateway = gateway
        self.lifespans: list[Callable[[], Lifespan]] = []
        self.readings: list[tuple[str, Callable[[], Iterable[Reading]]]] = [("hooks", costs.readings)]
        self.reloadable: list[Any] = []

    def by(self, hook: str) -> tuple[Any, ...]:
        """The objects of one hook; none where their order is impossible, which is a fault of the registry then."""
        items = [item for _, item in self._registry.collect(hook, gateway=self._gateway)]
        self.lifespans += [item.lifespan for item in items if callable(getattr(item, "lifespan", None))]
        self.readings += [(item.name, item.readings) for item in items if callable(getattr(item, "readings", None))]
        self.reloadable += [item for item in items if callable(getattr(item, "reload", None))]
        try:
            return solve(items)
        except PluginError as error:
            self._registry.faults.append(ConfigFault(error.message, f"plugin {error.plugin}"))
            return ()


def assemble(
    registry: Registry,
    settings: Settings,
    gateway: GatewayContext,
    providers: dict[str, Provider],
    routers: dict[str, Router],
) -> Assembly:
    """Call every hook once and order what they return. Fills ``providers`` first, for the others may ask for them, and
    ``routers`` before it collects routes.

    Raises :class:`~gatewaykit.errors.ConfigError` with the faults of the registry and those found here.
    """
    registry.settled = not registry.faults
    costs = Costs()
    found = _Found(registry, gateway, costs)
    providers.update({provider.name: provider for provider in found.by("gateway_providers")})
    objects = {kind: found.by(f"gateway_{kind}") for kind in _KINDS}
    routers.update({router.name: router for router in objects["routers"]})
    dialects = objects["dialects"]
    registry.faults.extend(_shared_routes(dialects))
    if not dialects and not registry.faults:
        registry.faults.append(ConfigFault("no plugin brings a dialect: there is nothing to serve", "plugins"))
    routes = [route for _, route in registry.collect("gateway_routes", gateway=gateway)]
    if registry.faults:
        raise ConfigError([_located(fault, settings) for fault in registry.take_faults()])
    observers = ObserverQueue([item for item in objects["observers"] if _overrides(item, Observer, "record")])
    found.readings.append(("observers", observers.readings))
    parts = _parts(objects, providers, gateway.targets, observers, settings, costs)
    on_request = _owned(objects["transforms"], Transform, "on_request", lambda call: None, costs)
    routed = tuple(
        harmless(item, item.routed, costs) for item in objects["observers"] if _overrides(item, Observer, "routed")
    )
    return Assembly(
        parts,
        DialectTable(dialects),
        RouteTable(routes, dialects, routed),
        observers,
        lifespans=tuple(found.lifespans),
        reloadable=tuple(found.reloadable),
        readings=tuple(found.readings),
        knows=tuple(item.knows for item in objects["routers"] if _overrides(item, Router, "knows")),
        on_request=on_request,
        guarded=any(getattr(item, "identifies", True) for item in objects["authenticators"]),
    )


def reload(registry: Registry, sources: Sources, settings: Settings, assembly: Assembly) -> tuple[Settings, Reloaded]:
    """Read the settings again and put those into force that objects heed; ``settings`` are the ones before.

    Raises :class:`~gatewaykit.errors.ConfigError` with every fault; then nothing has changed.
    """
    fresh = sources.load_settings(registry)
    faults = list(registry.take_faults())
    commits: list[Callable[[], None]] = []
    for item in () if faults else assembly.reloadable:
        try:
            commits.append(item.reload(fresh))
        except ConfigError as error:
            faults += (_located(fault, fresh) for fault in error.faults)
    if faults:
        raise ConfigError(faults)
    for commit in commits:
        commit()
    heeded = {name for item in assembly.reloadable for name in item.reloads}
    changed = [name for name, section in fresh.sections.items() if section != settings.sections.get(name)]
    kept = {name: settings.sections[name] for name in settings.sections if name not in heeded}
    done = tuple(name for name in changed if name in heeded)
    return replace(fresh, sections={**fresh.sections, **kept}), Reloaded(
        done, tuple(name for name in changed if name not in heeded)
    )


def _parts(
    objects: Objects,
    providers: Mapping[str, Provider],
    targets: Targets,
    observers: ObserverQueue,
    settings: Settings,
    costs: Costs,
) -> Parts:
    """Every method that a request meets, isolated: what fails or hangs is its owner's, and does what that declares."""
    timeouts, transforms, limiters = settings.get(TimeoutSettings), objects["transforms"], objects["limiters"]
    routers, authenticators = objects["routers"], objects["authenticators"]

    def awaited(item: Named, method: Any) -> Any:
        return isolate_async(item, method, timeouts.hook, costs)

    def unharmed(item: Named, method: Any) -> Any:
        return harmless(item, method, costs)

    return Parts(
        door=Door(
            tuple(
                isolate_async(item, item.authenticate, timeouts.hook, costs, partial(must_be, Principal))
                for item in authenticators
            ),
            _own(authenticators, Authenticator, "judged", unharmed),
            _hooks(authenticators, Authenticator, "challenge", lambda incoming: None, costs, (str, NoneType)),
            _own(authenticators, Authenticator, "look_up", awaited),
        ),
        limiters=tuple(isolate_limiter(item, timeouts.hook, costs) for item in limiters),
        standings=_own(limiters, Limiter, "standings", awaited),
        forecasts=_own(limiters, Limiter, "foretell", awaited),
        routes=tuple(isolate(item, item.route, lambda call: (), costs) for item in routers),
        catalogues=tuple(awaited(item, item.models) for item in routers),
        on_event=fused(_hooks(transforms, Transform, "on_event", lambda call, event: event, costs, _EVENT)),
        on_reply=_hooks(transforms, Transform, "on_reply", lambda call, reply: reply, costs, Reply),
        around=_chain(objects["around_calls"]),
        attempts=_attempts(
            providers, targets, settings, _hooks(transforms, Transform, "on_attempt", lambda call, target: None, costs)
        ),
        seal=_own(objects["observers"], Observer, "seal", unharmed),
        observe=observers.record,
        limits=TimeLimits(
            timeouts.request_body,
            timeouts.between_events,
            timeouts.whole_call,
            timeouts.keepalive_comment,
        ),
        max_body_bytes=settings.get(ServerSettings).max_body_bytes,
    )


def make_targets(settings: Settings) -> Targets:
    """Where everything that is learnt of targets is kept, empty; a section with faults counts as not given."""
    breaker, retries = _given(settings, BreakerSettings), _given(settings, RetrySettings)
    hedging = _given(settings, HedgingSettings)
    slow = math.inf if breaker.slow is None else breaker.slow
    rules = BreakerRules(
        breaker.window, breaker.calls, breaker.error_share, slow, breaker.slow_share, breaker.cooldown, breaker.probes
    )
    return Targets(
        rules if breaker.enabled else None,
        RetryBudget(retries.budget, retries.reserve),
        RetryBudget(hedging.share, hedging.reserve),
    )


def _given(settings: Settings, section: type[SectionT]) -> SectionT:
    return section.model_validate({}) if section.section in settings.faulty else settings.get(section)


def _attempts(
    providers: Mapping[str, Provider], targets: Targets, settings: Settings, on_attempt: Sequence[Any]
) -> Attempts:
    retries, timeouts = settings.get(RetrySettings), settings.get(TimeoutSettings)
    return Attempts(
        providers,
        targets,
        RetryRules(retries.attempts, retries.backoff, retries.longest),
        first_event=timeouts.first_event,
        whole_call=timeouts.whole_call,
        on_attempt=on_attempt,
    )


def _located(fault: ConfigFault, settings: Settings) -> ConfigFault:
    """Where ``fault.where`` is a setting: the same fault at the file and line, or variable, that gave its value."""
    path = fault.where
    for known, origin in settings.origins.items():
        if (known == path or known.startswith(f"{path}.")) and origin not in (DEFAULT, COMMAND_LINE):
            return ConfigFault(f"{path}: {fault.message}", origin)
    return fault


def _shared_routes(dialects: Sequence[Dialect]) -> Iterator[ConfigFault]:
    owners: dict[tuple[str, str], str] = {}
    for dialect in dialects:
        for method, path in dialect.routes:
            owner = owners.setdefault((method, path), dialect.name)
            if owner != dialect.name:
                message = f"{method} {path} already belongs to the dialect {owner}"
                yield ConfigFault(message, f"dialect {dialect.name}")


def _hooks(
    items: Sequence[Named], protocol: type, method: str, otherwise: Any, costs: Costs, kinds: Any = object
) -> tuple[Any, ...]:
    """``method`` of those items that have one of their own: an inherited one would be called for nothing."""
    return tuple(hook for _, hook in _owned(items, protocol, method, otherwise, costs, kinds))


def _own(items: Sequence[Named], protocol: type, method: str, wrap: Callable[[Named, Any], Any]) -> tuple[Any, ...]:
    """The same, wrapped in some other way."""
    return tuple(wrap(item, getattr(item, method)) for item in items if _overrides(item, protocol, method))


def _owned(
    items: Sequence[Named], protocol: type, method: str, otherwise: Any, costs: Costs, kinds: Any = object
) -> tuple[tuple[Named, Any], ...]:
    return tuple(
        (item, isolate(item, getattr(item, method), otherwise, costs, kinds))
        for item in items
        if _overrides(item, protocol, method)
    )


def _overrides(item: Named, protocol: type, method: str) -> bool:
    """Whether the item has a ``method`` that is not the one it inherits from its protocol."""
    own = getattr(item, method, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(protocol, method)


def _chain(arounds: Sequence[AroundCall]) -> Any:
    """A function that puts all arounds, the first outermost, about the innermost call."""

    def bind(around: AroundCall, proceed: Proceed) -> Proceed:
        return lambda call: around.around(call, proceed)

    def wrap(proceed: Proceed) -> Proceed:
        for around in reversed(arounds):
            proceed = bind(around, proceed)
        return proceed

    return wrap
