"""The routing table: which model is where, and which of its targets goes first. See ``docs/routing.md``.

A model is looked for in this order:

1. the models and aliases of ``[router]``, after its rules had their say;
2. ``provider/model`` with the name of a provider;
3. providers whose list of models has the name;
4. the default provider, the only provider, or else every provider whose list is not known (yet).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from starlette.routing import BaseRoute, Route

from gatewaykit.builtin.router.mirror import Mirrors
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.builtin.router.settings import RouterSettings
from gatewaykit.guarding import guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Router, Transform
from gatewaykit.settings import Section, TimeoutSettings
from gatewaykit.types import ADMIN

if TYPE_CHECKING:
    import click

_made: WeakKeyDictionary[GatewayContext, ModelRouter] = WeakKeyDictionary()


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[router]``."""
    return [RouterSettings]


@hookimpl
def gateway_routers(gateway: GatewayContext) -> Iterable[Router]:
    """The table of models."""
    router = _made[gateway] = ModelRouter(gateway.settings.get(RouterSettings), gateway)
    return [router]


@hookimpl
def gateway_transforms(gateway: GatewayContext) -> Iterable[Transform]:
    """What sends copies to mirrors; idle while no model has one, and then it costs a request nothing."""
    router = _made.get(gateway)
    if router is None:
        return []
    return [Mirrors(router, gateway.providers, gateway.settings.get(TimeoutSettings).whole_call)]


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """The table, its reload, explanations and the state of targets, for operators."""
    router = _made.get(gateway)
    if router is None:
        return []
    from gatewaykit.builtin.router.admin import Admin

    admin = Admin(router, gateway)
    return [
        Route("/api/admin/routes", guarded(gateway, ADMIN, admin.routes)),
        Route("/api/admin/routes/explain", guarded(gateway, ADMIN, admin.explain), methods=["POST"]),
        Route("/api/admin/routes/reload", guarded(gateway, ADMIN, admin.reload), methods=["POST"]),
        Route("/api/admin/routes/models/{name:path}", guarded(gateway, ADMIN, admin.put), methods=["PUT"]),
        Route("/api/admin/routes/models/{name:path}", guarded(gateway, ADMIN, admin.delete), methods=["DELETE"]),
        Route("/api/admin/providers", guarded(gateway, ADMIN, admin.providers)),
    ]


@hookimpl
def gateway_commands(cli: click.Group) -> None:
    """``gatewaykit routes``."""
    from gatewaykit.builtin.router.commands import routes

    cli.add_command(routes)
