"""Reading what comes in: parameters in a form or in a query, each at most once (RFC 6749, 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import Request

from gatewaykit.guarding import read_bytes

from .errors import InvalidRequestError

_MOST = 64
_LONGEST = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_REPEATABLE = frozenset({"resource"})


class Form:
    """Parameters by name. Those without a value count as left out (RFC 6749, 3.1)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"Form({sorted(self._values)})"

    def get(self, name: str) -> str | None:
        """The parameter, or None."""
        found = self._values.get(name)
        return found[0] if found else None

    def all(self, name: str) -> tuple[str, ...]:
        """All values of one that may be repeated."""
        return tuple(self._values.get(name, ()))

    def require(self, name: str) -> str:
        """The parameter. Raises authlib's ``InvalidRequestError`` if it is missing."""
        found = self.get(name)
        if found is None:
            raise InvalidRequestError(f"The parameter {name} is missing.")
        return found

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All of them, as they came."""
        return [(name, value) for name, found in self._values.items() for value in found]

    @property
    def repeated(self) -> tuple[str, ...]:
        """Parameters that came more than once and may not."""
        return tuple(name for name, found in self._values.items() if len(found) > 1 and name not in _REPEATABLE)


async def read_form(request: Request) -> Form:
    """The form in the request's body; parameters in the URL are not looked at.

    Raises authlib's ``InvalidRequestError`` for another content type, for what cannot be read and for a repetition.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise InvalidRequestError(f"The body must be {_FORM}.")
    form = parse(await read_bytes(request))
    if form.repeated:
        raise InvalidRequestError("A parameter is given more than once.")
    return form


def parse(text: bytes) -> Form:
    """The parameters in a query or a body. Raises authlib's ``InvalidRequestError`` for what is none."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        pairs = parse_qsl(text.decode("ascii"), encoding="utf-8", errors="strict", max_num_fields=_MOST)
        if any("\0" in name + value for name, value in pairs):
            raise ValueError
    except ValueError:
        raise InvalidRequestError("The parameters cannot be read.") from None
    return Form(pairs)
