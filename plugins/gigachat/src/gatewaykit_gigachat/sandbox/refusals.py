"""Answers that are not success, each as an exception that renders itself."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

INVALID_JSON = "Your request contains invalid JSON syntax."

_MESSAGES = {
    400: INVALID_JSON,
    401: "Unauthorized",
    403: "Permission denied",
    404: "No such model",
    413: "Payload too large",
    422: "Unprocessable Entity",
    429: "Too many requests",
}


class Refusal(Exception):
    """An answer with an error status; ``body`` is sent as it is."""

    def __init__(
        self, status: int, body: bytes, content_type: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = dict(headers or {})

    def response(self, headers: Mapping[str, str]) -> Response:
        """Render with ``headers`` added."""
        merged = {**headers, **self.headers}
        if self.content_type is not None:
            merged["content-type"] = self.content_type
        return Response(self.body, self.status, merged)


def phrase(status: int) -> str:
    """The reason phrase of ``status``, or ``Error`` where none is registered."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _json_refusal(
    status: int, payload: Mapping[str, Any], content_type: str, headers: Mapping[str, str] | None = None
) -> Refusal:
    return Refusal(status, msgspec.json.encode(payload) + b"\n", content_type, headers)


def api_refusal(status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> Refusal:
    """``{"status":…,"message":…}`` with a trailing newline, as the API writes it."""
    text = message if message is not None else _MESSAGES.get(status, phrase(status))
    return _json_refusal(status, {"status": status, "message": text}, "application/json; charset=utf-8", headers)


def invalid(message: str) -> Refusal:
    """A value error: 422 ``Invalid params: …``."""
    return api_refusal(422, f"Invalid params: {message}")


def oauth_refusal(status: int, code: int, message: str) -> Refusal:
    """``{"code":…,"message":…}``, as the OAuth endpoint writes it."""
    return _json_refusal(status, {"code": code, "message": message}, "application/json")


def user_agent_refusal() -> Refusal:
    """What a request without ``User-Agent`` gets: 403 without a ``status`` field."""
    return _json_refusal(403, {"message": "Unauthorized"}, "application/json; charset=utf-8")


def html_refusal(status: int) -> Refusal:
    """A page of the front-end server."""
    title = f"{status} {phrase(status)}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Refusal(status, page.encode(), "text/html")


def empty_refusal(status: int) -> Refusal:
    """A status with no body."""
    return Refusal(status, b"", None)
