"""Providers, for admins: which there are, which models they list, and how those do that have been asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ..signin.sessions import Session
from .live.standing import Target, targets
from .live.sums import Sums
from .rendering import render
from .site import site_of


async def show_providers(request: Request, session: Session) -> Response:
    """All of them, each with those of its models that were asked or that the configuration names."""
    site = site_of(request)
    found = targets(Sums(await site.desk.gateway.tally.read()))
    offers = await site.models.offers()
    by_provider: Mapping[str, Sequence[Target]] = {
        offer.provider: [target for target in found if target.provider == offer.provider] for offer in offers
    }
    return render(request, "providers.html", offers=offers, targets=by_provider)
