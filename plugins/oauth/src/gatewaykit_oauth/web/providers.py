"""Providers, for admins: which there are, and which models they list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..signin.sessions import Session
from .rendering import render
from .site import site_of


async def show_providers(request: Request, session: Session) -> Response:
    """All of them."""
    return render(request, "providers.html", offers=await site_of(request).models.offers())
