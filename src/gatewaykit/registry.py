"""Finds plugins, loads them, refuses what cannot be right, and collects what their hooks return.

The only module that calls pluggy. It does so once, while the gateway is put together; a request never meets it.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Literal, TypeAlias

import pluggy
from msgspec import Struct

from gatewaykit import hookspecs
from gatewaykit.errors import ConfigError, ConfigFault, GatewayKitError, PluginError
from gatewaykit.hookspecs import PROJECT
from gatewaykit.shapes import KINDS, misshapen

GROUP = "gatewaykit"
BUILTIN: Mapping[str, str] = {
    "openai-dialects": "gatewaykit.builtin.openai_dialects",
    "auth-throttle": "gatewaykit.builtin.auth_throttle",
    "static-keys": "gatewaykit.builtin.static_keys",
    "limits": "gatewaykit.builtin.limits",
    "prices": "gatewaykit.builtin.prices",
    "model-router": "gatewaykit.builtin.router",
    "access-log": "gatewaykit.builtin.access_log",
    "cache": "gatewaykit.builtin.cache",
    "prompt-log": "gatewaykit.builtin.prompt_log",
    "health": "gatewaykit.builtin.health",
    "metrics": "gatewaykit.builtin.metrics",
    "tracing": "gatewaykit.builtin.tracing",
    "ledger": "gatewaykit.builtin.ledger",
    "usage": "gatewaykit.builtin.usage",
    "backup": "gatewaykit.builtin.backup",
}
"""The default plugins, by name; they are loaded first and use nothing that a third party could not."""

Status: TypeAlias = Literal["active", "blocked", "broken"]
logger = logging.getLogger(__name__)


class PluginInfo(Struct):
    """One plugin, as ``gatewaykit plugins`` shows it. ``distribution`` is the package that brings it."""

    name: str
    distribution: str
    version: str
    status: Status = "active"
    reason: str = ""
    hooks: tuple[str, ...] = ()


class Registry:
    """The loaded plugins; ``report`` lists the others too, and ``faults`` what must not be passed over.

    Not ``settled``: faults are known, and what a hook finds wrong with the configuration may only follow from them.
    """

    def __init__(self) -> None:
        self.report: list[PluginInfo] = []
        self.faults: list[ConfigFault] = []
        self.settled = True
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)

    # Loading

    def discover(self, *, required: Collection[str], blocked: Collection[str], configured: Collection[str]) -> None:
        """Load the default plugins and every entry point of the group.

        A plugin that is required or configured (its section has its name, with underscores) and does not load is a
        fault; any other is only reported. So is a name in ``required`` or ``blocked`` that no installed plugin has.
        """
        for name, module in BUILTIN.items():
            self._load(name, EntryPoint(name, module, GROUP), None, blocked, must=True)
        installed = installed_plugins()
        owners: dict[str, Distribution] = {}
        for entry, distribution in installed:
            if entry.name in owners or entry.name in BUILTIN:
                taken = owners[entry.name].name if entry.name in owners else PROJECT
                self._fault(entry.name, f"is provided by both {taken} and {distribution.name}")
                continue
            owners[entry.name] = distribution
            must = entry.name in required or entry.name.replace("-", "_") in configured
            self._load(entry.name, entry, distribution, blocked, must)
        known = {info.name for info in self.report}
        for kind, names in (("required", required), ("blocked", blocked)):
            for name in names:
                if name not in known:
                    fault = f"{name!r} is not installed; installed are {', '.join(sorted(known))}"
                    self.faults.append(ConfigFault(fault, f"plugins.{kind}"))

    def add(self, plugin: object, name: str | None = None) -> None:
        """Register a plugin object that was handed in by the program. Raises PluginError when it is refused."""
        name = name or getattr(plugin, "name", None) or getattr(plugin, "__name__", None) or type(plugin).__name__
        self._register(str(name), plugin)
        self.report.append(PluginInfo(str(name), "(program)", "", hooks=self._hooks(plugin)))

    def _load(
        self, name: str, entry: EntryPoint, distribution: Distribution | None, blocked: Collection[str], must: bool
    ) -> None:
        owner, version = (distribution.name, distribution.version) if distribution else (PROJECT, "")
        info = PluginInfo(name, owner, version)
        self.report.append(info)
        if name in blocked:
            info.status = "blocked"
            return
        try:
            plugin = entry.load() if distribution else import_module(entry.value)
            self._register(name, plugin)
            info.hooks = self._hooks(plugin)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything while it is imported
            info.status, info.reason = "broken", _reason(error)
            if must:
                self._fault(name, f"does not load: {info.reason}")
            else:
                logger.warning("plugin %s of %s does not load: %s", name, owner, info.reason)

    def _register(self, name: str, plugin: object) -> None:
        for hook, function in _implementations(plugin):
            _check_form(name, hook, function)
        if self._manager.has_plugin(name):
            raise PluginError(name, "another plugin has this name")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            self._manager.unregister(name=name)
            raise PluginError(name, str(error)) from None

    def _hooks(self, plugin: object) -> tuple[str, ...]:
        callers = self._manager.get_hookcallers(plugin) or []
        return tuple(sorted(caller.name for caller in callers))

    def _fault(self, plugin: str, message: str) -> None:
        self.faults.append(ConfigFault(message, f"plugin {plugin}"))

    # Collecting

    def names(self) -> list[str]:
        """Active plugins in the order they were loaded."""
        return [info.name for info in self.report if info.status == "active"]

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """What the plugins return from ``hook``, with each plugin's name; checked for shape and unique names.

        Problems are added to ``faults``, with the plugin's name.
        """
        found: list[tuple[str, Any]] = []
        owners: dict[str, str] = {}
        for name in self.names():
            for item in self._call(name, hook, arguments):
                if (problem := misshapen(hook, item)) is not None:
                    self._fault(name, f"{hook} returned {problem}")
                    continue
                label = getattr(item, "name", None)
                if hook in KINDS and label in owners:
                    self._fault(name, f"{hook}: the name {label!r} is already taken by plugin {owners[label]}")
                    continue
                owners[str(label)] = name
                found.append((name, item))
        return found

    def take_faults(self) -> list[ConfigFault]:
        """The faults until now, which are then forgotten: what fails at one start may succeed at the next."""
        taken, self.faults = self.faults, []
        return taken

    def _call(self, plugin: str, hook: str, arguments: Mapping[str, Any]) -> Iterable[Any]:
        caller = getattr(self._manager.hook, hook)
        mine = [implementation for implementation in caller.get_hookimpls() if implementation.plugin_name == plugin]
        try:
            results = [one.function(*(arguments[name] for name in one.argnames)) for one in mine]
            return [item for result in results for item in (() if result is None else result)]
        except ConfigError as error:
            self.faults.extend(error.faults if self.settled else ())
        except GatewayKitError as error:
            self._fault(plugin, str(error))
        except Exception as error:
            logger.debug("plugin %s failed in %s", plugin, hook, exc_info=error)
            self._fault(plugin, f"{hook} failed: {_reason(error)}")
        return ()


def installed_plugins() -> tuple[tuple[EntryPoint, Distribution], ...]:
    """Entry points of the group, by name: the order of the file system must not matter.

    Of a package that is there twice the first on the path counts, as with every import.
    """
    return _installed_on(tuple(sys.path))


@lru_cache(maxsize=4)
def _installed_on(path: tuple[str, ...]) -> tuple[tuple[EntryPoint, Distribution], ...]:
    """Every package's metadata is read, which takes longer than all else at a start: once for each path."""
    found: dict[tuple[str, str], tuple[EntryPoint, Distribution]] = {}
    for distribution in distributions(path=list(path)):
        for entry in distribution.entry_points.select(group=GROUP):
            found.setdefault((entry.name, distribution.name), (entry, distribution))
    return tuple(found[key] for key in sorted(found))


def _implementations(plugin: object) -> Iterator[tuple[str, Any]]:
    for name in dir(plugin):
        function = getattr(plugin, name, None)
        if inspect.isroutine(function) and getattr(function, f"{PROJECT}_impl", None) is not None:
            yield name, function


def _check_form(plugin: str, hook: str, function: Any) -> None:
    """Refuse forms that pluggy accepts and that would not do what their author expects."""
    options = getattr(function, f"{PROJECT}_impl")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            plugin, f"{hook} is 'async def'; hooks are called once at start: 'def {hook}(...): return [MyObject()]'"
        )
    if options.get("wrapper") or options.get("hookwrapper"):
        raise PluginError(
            plugin, f"{hook} is a wrapper; return an object instead: 'def {hook}(...): return [MyObject()]'"
        )


def _reason(error: BaseException) -> str:
    """One line: missing and broken modules are told apart by their own message."""
    if isinstance(error, PluginError):
        return error.message
    return f"{type(error).__name__}: {error}".splitlines()[0]
