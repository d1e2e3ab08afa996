"""All routes of the pages, in one list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import NotFound

from . import account, audit_log, key_changes, key_lists, providers, usage, users
from .entering import entering_routes
from .identity import identity_routes
from .live.page import show_live
from .site import OpenPage, Page, Site, redirect, sign_in_first, signed_in
from .static import PREFIX, static_file


def page_routes(site: Site) -> list[Route]:
    """What ``gateway_routes`` returns of the pages."""
    return [
        Route("/admin", site.open_page(_first)),
        Route(f"{PREFIX}/{{tag}}/{{name}}", static_file),
        *entering_routes(site),
        *identity_routes(site),
        _read("/", site.page(usage.show_overview)),
        _read("/live", site.page(show_live, admin=True, polled=True)),
        _read("/usage", site.page(usage.show_usage)),
        _read("/providers", site.page(providers.show_providers, admin=True)),
        _read("/audit", site.page(audit_log.show_audit, admin=True)),
        *_key_routes(site),
        *_user_routes(site),
        *_account_routes(site),
        Route("/admin/{path:path}", site.open_page(_nothing)),
    ]


def _key_routes(site: Site) -> list[Route]:
    one = "/keys/{id}"
    return [
        _read("/keys", site.page(key_lists.list_keys)),
        _both("/keys/new", site.page(key_changes.new_key, fresh=True)),
        _read(one, site.page(key_lists.show_key)),
        _both(f"{one}/edit", site.page(key_changes.edit_key, fresh=True)),
        _both(f"{one}/rotate", site.page(key_changes.rotate_key, fresh=True)),
        _both(f"{one}/revoke", site.page(key_changes.revoke_key)),
        *(
            _both(f"{one}/{name}", site.sent_page(key_changes.changed_by(name), f"/admin{one}"))
            for name in key_changes.CHANGES
        ),
    ]


def _user_routes(site: Site) -> list[Route]:
    one = "/users/{id}"

    def sent(name: str, endpoint: Page) -> Route:
        return _both(f"{one}/{name}", site.sent_page(endpoint, f"/admin{one}", admin=True, fresh=True))

    return [
        _read("/users", site.page(users.list_users, admin=True)),
        _both("/users/new", site.page(users.new_user, admin=True, fresh=True)),
        _read(one, site.page(users.show_user, admin=True)),
        _both(f"{one}/edit", site.page(users.edit_user, admin=True, fresh=True)),
        sent("link", users.link_user),
        *(sent(name, users.changed_by(name)) for name in users.CHANGES),
    ]


def _account_routes(site: Site) -> list[Route]:
    own = "/admin/account"
    return [
        _read("/account", site.page(account.show_account)),
        _both("/account/password", site.sent_page(account.change_password, own)),
        _both("/account/factor", site.page(account.add_factor, fresh=True)),
        _both("/account/factor/remove", site.sent_page(account.remove_factor, own)),
        _both("/account/sessions", site.sent_page(account.end_session, own)),
    ]


def _read(path: str, endpoint: OpenPage) -> Route:
    return Route(f"/admin{path}", endpoint)


def _both(path: str, endpoint: OpenPage) -> Route:
    return Route(f"/admin{path}", endpoint, methods=["GET", "POST"])


async def _first(request: Request) -> Response:
    return redirect(request, "/admin/")


async def _nothing(request: Request) -> Response:
    if await signed_in(request) is None:
        return sign_in_first(request)
    raise NotFound("There is no such page.")
