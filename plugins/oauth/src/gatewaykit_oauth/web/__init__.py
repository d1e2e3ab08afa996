"""The pages under ``/admin/``, and what other pages of this package are built on.

::

    site = Site.of(gateway)                       # None where there are no pages

    async def consent(request: Request) -> Response:
        session = await signed_in(request)
        if session is None:
            return sign_in_first(request)         # and then back to this address
        return render(request, "oauth/consent.html", client=client, form_action=["https://client.example"])

    Route("/oauth/authorize", site.open_page(consent))

``site.page(endpoint)`` is for endpoints that take the session as second argument. Both refuse forms that did not come
from a page of ours, turn errors into pages, and set the headers. A template extends ``base.html`` or ``plain.html``;
every form in it holds ``{{ forms.token(csrf) }}``.
"""

from __future__ import annotations

from ..signin.sessions import Session
from .forms import Form, believed_form, form_of
from .rendering import render
from .site import Site, acting, confirm_first, go_next, redirect, refused, said, sign_in_first, signed_in, site_of

__all__ = [
    "Form",
    "Session",
    "Site",
    "acting",
    "believed_form",
    "confirm_first",
    "form_of",
    "go_next",
    "redirect",
    "refused",
    "render",
    "said",
    "sign_in_first",
    "signed_in",
    "site_of",
]
