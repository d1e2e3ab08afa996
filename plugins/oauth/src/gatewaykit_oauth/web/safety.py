"""What protects the pages: where they may be used, whose forms are believed, and what browsers are told to refuse.

A form is believed when the browser says that it comes from our own page (Fetch Metadata, or else ``Origin``), and when
it carries a token that only our page can know: a digest of the cookie, of the session or, before somebody has signed
in, of the visit.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from secrets import token_urlsafe
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.errors import PermissionDenied

from ..settings import AdminSettings
from ..words import N_

HALF_A_YEAR = 180 * 86_400
SESSION, VISIT, BROWSER = "gatewaykit_session", "gatewaykit_visit", "gatewaykit_browser"
IDENTITY = "gatewaykit_identity"
LANGUAGE, THEME = "gatewaykit_language", "gatewaykit_theme"
FOREIGN = N_("This form did not come from a page of this gateway. Open the page again, and send it from there.")
HTTPS_ONLY = N_("People sign in over HTTPS only. Over plain HTTP the pages work on the gateway's own machine.")
_TOKEN = b"gatewaykit: forms"
_path_of_ours = re.compile(r"/(admin|oauth)(/[A-Za-z0-9_.~%/@+-]*)?(\?[!-~]*)?").fullmatch


def is_secure(request: Request, settings: AdminSettings) -> bool:
    """Whether the browser came over HTTPS, as far as is known."""
    return request.url.scheme == "https" or (settings.base_url or "").startswith("https:")


def require_secure(request: Request, settings: AdminSettings) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` where passwords and cookies would cross a network in clear."""
    if not (is_secure(request, settings) or settings.allow_http or _is_loopback(request.url.hostname or "")):
        raise PermissionDenied(HTTPS_ONLY)


def require_own_page(request: Request, settings: AdminSettings) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` for a form that another site's page has sent."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise PermissionDenied(FOREIGN)
        return
    origin = request.headers.get("origin")
    if origin is None:
        return
    own = {request.headers.get("host", "")}
    if settings.base_url is not None:
        own.add(urlsplit(settings.base_url).netloc)
    if urlsplit(origin).netloc not in own or origin == "null":
        raise PermissionDenied(FOREIGN)


def form_token(request: Request, settings: AdminSettings) -> str:
    """What forms of this session, or of this visit, carry."""
    return _token_of(cookie(request, SESSION, settings) or _visit(request, settings))


def require_form_token(request: Request, given: str, settings: AdminSettings) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` for a form without the right token."""
    known = cookie(request, SESSION, settings) or cookie(request, VISIT, settings)
    if known is None or not hmac.compare_digest(_token_of(known).encode(), given.encode("utf-8", "replace")):
        raise PermissionDenied(FOREIGN)


def safe_next(request: Request, target: str | None) -> str:
    """Where to go after signing in: a path of ours, or else the first page. Never another site."""
    root = request.scope.get("root_path", "")
    path = (target or "").removeprefix(root)
    if _path_of_ours(path) and "//" not in path.partition("?")[0] and ".." not in path.partition("?")[0]:
        return f"{root}{path}"
    return f"{root}/admin/"


# Cookies


def cookie(request: Request, name: str, settings: AdminSettings) -> str | None:
    """The value of one of our cookies."""
    return request.cookies.get(cookie_name(name, request, settings)) or None


def cookie_name(name: str, request: Request, settings: AdminSettings) -> str:
    """Over HTTPS ``__Host-``: then no neighbour on another subdomain, and nobody on the way, can have set it.

    Browsers refuse that over plain HTTP, which only this machine uses: there the name stands alone.
    """
    return f"__Host-{name}" if is_secure(request, settings) else name


def set_cookie(
    response: Response, request: Request, name: str, value: str, settings: AdminSettings, seconds: int | None = None
) -> None:
    """For the whole site, out of scripts' reach; without ``seconds`` until the browser is closed."""
    response.set_cookie(
        cookie_name(name, request, settings),
        value,
        max_age=seconds,
        path="/",
        secure=is_secure(request, settings),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response, request: Request, name: str, settings: AdminSettings) -> None:
    """Have the browser forget it."""
    set_cookie(response, request, name, "", settings, 0)


def keep_visit(response: Response, request: Request, settings: AdminSettings) -> None:
    """Give the visit's cookie to the browser, if a form was made for it just now; not with a refusal, which also those
    get who were sent here by another site, without the cookie that they have.
    """
    made = request.scope.get(_VISIT_MADE)
    if made is not None and response.status_code != 403:
        set_cookie(response, request, VISIT, made, settings)


_VISIT_MADE = "gatewaykit_oauth.visit"


def _visit(request: Request, settings: AdminSettings) -> str:
    known = cookie(request, VISIT, settings) or request.scope.get(_VISIT_MADE)
    if known is None:
        known = request.scope[_VISIT_MADE] = token_urlsafe(24)
    return str(known)


def _token_of(known: str) -> str:
    return hmac.new(known.encode("utf-8", "replace"), _TOKEN, "sha256").hexdigest()


# Headers


def secure_headers(response: Response, form_action: Iterable[str] = ()) -> None:
    """What browsers are to refuse. ``form_action`` are origins to which the answer to a form may redirect: Chromium
    holds redirects to the same rule.
    """
    targets = " ".join(("'self'", *form_action))
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
    )
    for name, value in (
        ("content-security-policy", policy),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),  # stricter ones make browsers send forms with the origin "null"
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
        ("cache-control", "no-store"),
    ):
        response.headers.setdefault(name, value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
