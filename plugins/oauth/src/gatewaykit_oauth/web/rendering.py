"""Templates: read at the first page that is asked for, once for each language, and filled in for a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ..words import N_
from .languages import LANGUAGES, Language, language
from .safety import form_token, secure_headers
from .static import static_path

if TYPE_CHECKING:
    from jinja2 import Environment

    from ..settings import AdminSettings
    from ..signin.sessions import Session

SITE, SESSION = "gatewaykit_oauth.site", "gatewaykit_oauth.session"
THEMES = ("auto", "light", "dark")


class Entry(Struct, frozen=True):
    """A page that the navigation leads to."""

    path: str
    label: str
    icon: str
    for_admins: bool = False


class Door(Protocol):
    """An outside provider, as far as it is seen on a page."""

    @property
    def name(self) -> str:
        """What it is called in addresses."""
        ...

    @property
    def label(self) -> str:
        """What people call it."""
        ...


class Frame(Protocol):
    """What all pages share, as far as it is seen on them."""

    settings: AdminSettings

    @property
    def identity_providers(self) -> Mapping[str, Door]:
        """Outside providers through which people sign in."""
        ...

    @property
    def entries(self) -> Sequence[Entry]:
        """Further pages that the navigation leads to."""
        ...

    def language_of(self, request: Request) -> str:
        """The code of the language to answer in."""
        ...

    def theme_of(self, request: Request) -> str:
        """One of :data:`THEMES`."""
        ...


NAVIGATION = (
    Entry("/admin/", N_("Overview"), "overview"),
    Entry("/admin/live", N_("Live"), "pulse", for_admins=True),
    Entry("/admin/keys", N_("API keys"), "key"),
    Entry("/admin/usage", N_("Usage"), "chart"),
    Entry("/admin/users", N_("Users"), "users", for_admins=True),
    Entry("/admin/providers", N_("Providers"), "server", for_admins=True),
    Entry("/admin/audit", N_("Audit log"), "list", for_admins=True),
    Entry("/admin/account", N_("My account"), "user"),
)
DONE: dict[str, str] = {
    "changed": N_("The changes are saved."),
    "disabled": N_("The key is disabled."),
    "enabled": N_("The key works again."),
    "revoked": N_("The key is revoked."),
    "cut": N_("The earlier secret no longer works."),
    "password": N_("The password is changed. All other sessions have ended."),
    "factor-removed": N_("The second factor is removed."),
    "session-ended": N_("The session has ended."),
    "sessions-ended": N_("All other sessions have ended."),
    "user-sessions-ended": N_("All sessions of this account have ended."),
    "user-changed": N_("The account is changed."),
    "user-disabled": N_("The account is disabled, and so are all its keys."),
    "user-enabled": N_("The account works again."),
    "grant-ended": N_("The access is withdrawn, and all its tokens are refused."),
    "token-revoked": N_("The token is revoked."),
    "client-made": N_("The program is registered."),
    "client-changed": N_("The program is changed."),
    "client-disabled": N_("The program is disabled, and so are all its tokens."),
    "client-enabled": N_("The program works again."),
    "client-withdrawn": N_("All access of the program is withdrawn, and all its tokens are refused."),
    "signed-out": N_("You are signed out."),
    "preferences": N_("The settings are saved."),
}
"""What a page says of the change that led to it, by the word in its address."""


def render(
    request: Request, template: str, *, status: int = 200, form_action: Iterable[str] = (), **values: Any
) -> Response:
    """The page that ``template`` makes of ``values``, in the language of the browser.

    For endpoints of :meth:`~gatewaykit_oauth.web.site.Site.page`. Templates see besides: ``session``, ``csrf``,
    ``lang``, ``theme``, ``url(path, **query)``, ``static(file)``, ``here``, ``now``. ``form_action`` are origins that
    the page's form may lead to.
    """
    site: Frame = request.scope[SITE]
    chosen = language(site.language_of(request))
    text = _environment(chosen.code).get_template(template).render(_context(request, site, chosen), **values)
    response = HTMLResponse(text, status, {"content-language": chosen.code})
    response.headers["vary"] = "accept-language, cookie"
    secure_headers(response, form_action)
    return response


def prepare() -> None:
    """Import what renders, and compile the templates. Blocks for a moment, once."""
    for code in LANGUAGES:
        environment = _environment(code)
        for name in environment.list_templates():
            environment.get_template(name)


def _context(request: Request, site: Frame, chosen: Language) -> Mapping[str, Any]:
    session: Session | None = request.scope.get(SESSION)
    root = request.scope.get("root_path", "")
    path = request.url.path.removeprefix(root)

    def url(path: str, **query: Any) -> str:
        given = {name: value for name, value in query.items() if value not in (None, "", ())}
        return f"{root}{path}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    return {
        "session": session,
        "csrf": form_token(request, site.settings),
        "lang": chosen,
        "languages": LANGUAGES,
        "theme": site.theme_of(request),
        "themes": THEMES,
        "url": url,
        "static": lambda name: f"{root}{static_path(name)}",
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "path": path,
        "navigation": [
            entry for entry in (*NAVIGATION, *site.entries) if session and (session.is_admin or not entry.for_admins)
        ],
        "done": DONE.get(request.query_params.get("done", "")),
        "unsent": request.query_params.get("unsent") == "yes",
        "identity_providers": site.identity_providers.values(),
        "now": datetime.now(UTC),
    }


@cache
def _environment(code: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    chosen = language(code)
    environment = Environment(
        loader=PackageLoader("gatewaykit_oauth", "web/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(chosen.catalogue, newstyle=True)  # type: ignore[attr-defined]
    for name in ("number", "money", "amount", "date", "moment", "ago", "short", "seconds", "size", "share", "about"):
        environment.filters[name] = getattr(chosen, name)
    return environment
