"""All routes of the pages, in one list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import NotFound

from ..signin.sessions import Session
from .entering import entering_routes
from .rendering import render
from .site import Site, redirect, sign_in_first, signed_in
from .static import PREFIX, static_file


def page_routes(site: Site) -> list[Route]:
    """What ``gateway_routes`` returns of the pages."""
    return [
        Route("/admin", site.open_page(_first)),
        Route(f"{PREFIX}/{{tag}}/{{name}}", static_file),
        *entering_routes(site),
        Route("/admin/", site.page(_overview)),
        Route("/admin/{path:path}", site.open_page(_nothing)),
    ]


async def _first(request: Request) -> Response:
    return redirect(request, "/admin/")


async def _overview(request: Request, session: Session) -> Response:
    return render(request, "overview.html")


async def _nothing(request: Request) -> Response:
    if await signed_in(request) is None:
        return sign_in_first(request)
    raise NotFound("There is no such page.")
