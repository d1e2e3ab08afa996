"""What an object from a hook must look like, and what is wrong with one that does not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute

from gatewaykit import protocols
from gatewaykit.migration import MigrationSource
from gatewaykit.settings import Section

KINDS: Mapping[str, type] = {
    "gateway_authenticators": protocols.Authenticator,
    "gateway_limiters": protocols.Limiter,
    "gateway_dialects": protocols.Dialect,
    "gateway_routers": protocols.Router,
    "gateway_transforms": protocols.Transform,
    "gateway_around_calls": protocols.AroundCall,
    "gateway_providers": protocols.Provider,
    "gateway_observers": protocols.Observer,
    "gateway_readings": protocols.Readable,
}
"""The hooks whose objects have names, and the protocol of each."""

_ITERATED = {"stream", "around"}
"""What returns an asynchronous iterator, and so is often an ``async def`` with ``yield``."""

_OF_ANY = ("lifespan", "readings", "reload")
"""Methods that objects of every kind may have, and that nobody awaits."""

_OPTIONAL = {"challenge", "flush", "foretell", "judged", "knows", "look_up", "routed", "seal", "standings"}


def misshapen(hook: str, item: Any) -> str | None:
    """What is wrong with an object from ``hook``, in words; ``None`` if nothing is."""
    if hook == "gateway_settings":
        return None if _is_section(item) else f"{item!r}; return subclasses of Section"
    if hook == "gateway_migrations":
        return None if isinstance(item, MigrationSource) else f"{item!r}; return MigrationSource objects"
    if hook == "gateway_routes":
        return None if isinstance(item, BaseRoute) else f"{item!r}; return Starlette routes"
    kind = KINDS.get(hook)
    if kind is None:
        return None
    if inspect.isclass(item):
        return f"the class {item.__name__}; return an instance"
    what = f"a {type(item).__name__} object"
    if not isinstance(getattr(item, "name", None), str) or not item.name:
        return f"{what} without a name"
    problem = _missing_methods(kind, item) or _async_by_mistake(kind, item) or _bad_attribute(item)
    return problem and f"{what} {problem}"


def _is_section(item: Any) -> bool:
    return inspect.isclass(item) and issubclass(item, Section)


def _methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}


def _missing_methods(kind: type, item: Any) -> str | None:
    known = list(_methods(kind))
    missing = [method for method in known if not callable(getattr(item, method, None))]
    if kind is protocols.Transform:
        return f"with none of {', '.join(known)}" if missing == known else None
    needed = [method for method in missing if method not in _OPTIONAL]
    return f"without {', '.join(needed)}; subclass {kind.__name__}" if needed else None


def _async_by_mistake(kind: type, item: Any) -> str | None:
    """The first method whose coroutine nobody would await: a guard that is one would guard nothing."""
    awaited = {name for name, method in _methods(kind).items() if inspect.iscoroutinefunction(method)}
    for name in (*_methods(kind), *_OF_ANY):
        method = getattr(item, name, None)
        if inspect.isasyncgenfunction(method) and name not in _ITERATED:
            return f"whose {name!r} is an 'async def' with 'yield'"
        if inspect.iscoroutinefunction(method) and name not in awaited:
            return f"whose {name!r} is an 'async def'{' without yield' if name in _ITERATED else ''}; nobody awaits it"
    return None


def _bad_attribute(item: Any) -> str | None:
    """The first attribute that would mean something else than its author expects."""
    for attribute, (is_right, rule) in _ATTRIBUTES.items():
        value = getattr(item, attribute, None)
        if value is not None and not is_right(value):
            return f"whose {attribute!r} {rule}"
    return None


def _are_names(value: Any) -> bool:
    return not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(name, str) for name in value)


def _are_routes(value: Any) -> bool:
    return isinstance(value, Sequence) and all(_are_names(route) and len(route) == 2 for route in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


_ATTRIBUTES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "before": (_are_names, "is not a list of names"),
    "after": (_are_names, "is not a list of names"),
    "tier": (_is_number, "is not a number"),
    "on_error": (lambda value: value in {"open", "closed"}, "is neither 'open' nor 'closed'"),
    "reload": (callable, "is no method"),
    "reloads": (_are_names, "are not names of sections"),
    "deadline": (lambda value: _is_number(value) and value > 0, "is not a number of seconds"),
    "routes": (_are_routes, "are not pairs of method and path"),
}
