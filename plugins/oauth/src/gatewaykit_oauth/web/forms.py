"""Forms as browsers send them, read once, and their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from gatewaykit.errors import BadRequest
from gatewaykit.guarding import read_bytes

from ..settings import AdminSettings
from .safety import require_form_token, require_own_page

TOKEN = "csrf"  # noqa: S105 - the name of a field
_FORM = "gatewaykit_oauth.form"
_MOST_FIELDS = 500


class Form(Mapping[str, str]):
    """The fields of a form: one value each, the last, or with :meth:`all` every one. Values are stripped of spaces."""

    def __init__(self, fields: Sequence[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self._fields.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._fields[name][-1].strip()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, name: str) -> str:
        """The value; empty without one."""
        return self.get(name, "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of this name, as boxes that are ticked give them."""
        return tuple(value.strip() for value in self._fields.get(name, ()))

    def raw(self, name: str) -> str:
        """The value as it was typed: spaces are part of a password."""
        return self._fields.get(name, [""])[-1]


async def form_of(request: Request) -> Form:
    """The form of the request. Raises :class:`~gatewaykit.errors.BadRequest` for what is none."""
    known: Form | None = request.scope.get(_FORM)
    if known is None:
        known = request.scope[_FORM] = await _read(request)
    return known


async def believed_form(request: Request, settings: AdminSettings) -> Form:
    """The same, if it came from our own page. Raises :class:`~gatewaykit.errors.PermissionDenied`."""
    require_own_page(request, settings)
    form = await form_of(request)
    require_form_token(request, form.text(TOKEN), settings)
    return form


async def _read(request: Request) -> Form:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise BadRequest("This is no form.")
    body = await read_bytes(request)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
        if any("\0" in value for _, value in fields):  # Postgres takes none
            raise ValueError
    except ValueError:
        raise BadRequest("This form cannot be read.") from None
    return Form(fields)
