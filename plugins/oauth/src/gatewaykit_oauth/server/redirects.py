"""Redirect URIs: which may be registered, and which of them a request may name (RFC 9700, 2.1; RFC 8252, 7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

LONGEST, MOST = 1000, 10
_visible = re.compile(r"[!-~]+").fullmatch
_forbidden = re.compile(r'[\\"<>^`{|}*]').search
_private = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+").fullmatch
_loopback = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]{1,5})?(/[^?#]*|)(\?[^#]*)?").fullmatch


def is_safe(uri: str) -> bool:
    """Whether it may be registered: https, http for loopback addresses, or a scheme of one's own with a dot in it.

    No fragment, no user, no wildcard, no dot segments, nothing that different programs read differently.
    """
    if len(uri) > LONGEST or not _visible(uri) or _forbidden(uri) or "#" in uri:
        return False
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.netloc or any(_is_dots(segment) for segment in parts.path.split("/")):
        return False
    if parts.scheme == "https":
        return bool(parts.hostname) and parts.netloc == parts.netloc.lower()
    if parts.scheme == "http":
        return is_loopback(uri)
    return _private(parts.scheme) is not None and uri.startswith(f"{parts.scheme}:/") and not parts.netloc


def is_loopback(uri: str) -> bool:
    """Whether it leads to this very machine, by plain http."""
    return _loopback(uri) is not None


def is_registered(uri: str, registered: Sequence[str]) -> bool:
    """Whether ``uri`` is one of those registered, letter by letter; the port of a loopback address is free."""
    if uri in registered:
        return True
    asked = _without_port(uri)
    return asked is not None and any(asked == _without_port(known) for known in registered)


def origin_of(uri: str) -> str:
    """Scheme and host, as a Content-Security-Policy names them; the scheme alone for a private one."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """``uri`` with more in its query; what was there stays as it was."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(parameters, quote_via=quote)}"


def _without_port(uri: str) -> tuple[str, str, str] | None:
    found = _loopback(uri) if len(uri) <= LONGEST and _visible(uri) and not _forbidden(uri) else None
    return (found[1], found[2], found[3] or "") if found else None


def _is_dots(segment: str) -> bool:
    return segment.lower().replace("%2e", ".") in {".", ".."}
