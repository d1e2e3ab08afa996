"""Stylesheet, scripts and icon: served from the package, and kept by browsers for ever, for their bytes name them."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PREFIX = "/admin/static"
_FOR_EVER = "public, max-age=31536000, immutable"


def static_path(name: str) -> str:
    """Where a file is, below the mount point. Another content has another path."""
    return f"{PREFIX}/{_tag(name)}/{name}"


async def static_file(request: Request) -> Response:
    """One file; 404 for a name that is not one of ours."""
    name = request.path_params["name"]
    if name not in _names() or request.path_params["tag"] != _tag(name):
        raise HTTPException(404)
    suffix = name[name.rindex(".") :]
    headers = {"cache-control": _FOR_EVER, "x-content-type-options": "nosniff"}
    return Response(_content(name), headers=headers, media_type=TYPES[suffix])


@cache
def _names() -> frozenset[str]:
    return frozenset(
        entry.name for entry in _folder().iterdir() if any(entry.name.endswith(suffix) for suffix in TYPES)
    )


@cache
def _content(name: str) -> bytes:
    return (_folder() / name).read_bytes()


@cache
def _tag(name: str) -> str:
    return sha256(_content(name)).hexdigest()[:12]


def _folder() -> Traversable:
    return files("gatewaykit_oauth") / "web" / "static"
