"""Small changes to the client's request body that leave every other byte as it came.

Equal bytes are what prompt caches at the upstream go by, so a body is never decoded and written anew: values of its
top-level members are replaced in place, and new members are put at its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.errors import BadRequest

MAX_MEMBERS = 1000

_SPACE = rb"[ \t\n\r]*"
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_KEY = re.compile(_SPACE + rb",?" + _SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_MODEL = re.compile(rb'"model"' + _SPACE + rb":" + _SPACE + rb"(" + _STRING + rb")", re.DOTALL)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def prepare(
    body: bytes, *, model: str | None = None, ask_for_usage: bool = False, content: bytes = b'"messages"'
) -> bytes:
    """``body``, a JSON object with a member ``model``, as the upstream is to get it.

    ``model`` replaces the model's name; ``None`` leaves it. ``ask_for_usage`` sets ``stream_options.include_usage``.
    ``content`` is the member, in quotes, that holds what is asked.
    Raises :class:`~gatewaykit.errors.BadRequest` where the members that matter are ambiguous: a name that stands there
    twice, or in two spellings, is one thing to the gateway and may be another to the upstream.
    """
    lowered = body.lower()
    simple = b"\\u00" not in lowered and lowered.count(b'"model"') == 1 and lowered.count(content) <= 1
    if simple and model is None and not ask_for_usage:
        return body
    if ask_for_usage and b'"stream_options"' in lowered:
        simple = False
    spans = (_model_alone(body) if simple else None) or find_members(body)
    changes: dict[str, Any] = {} if model is None else {"model": model}
    if ask_for_usage:
        changes["stream_options"] = {**_object(body, spans.get("stream_options")), "include_usage": True}
    return _replace(body, spans, changes)


def find_members(body: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each top-level member of a JSON object stands: its first byte, and the one after its last.

    The decoder of msgspec says how long each value is, so nothing below the top level is walked through here.
    """
    try:
        values = _members(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body of the request is not a JSON object.") from None
    if len(values) > MAX_MEMBERS:
        raise BadRequest(f"The body of the request has more than {MAX_MEMBERS} fields.")
    spans: dict[str, tuple[int, int]] = {}
    spellings: set[str] = set()
    position = body.index(b"{") + 1
    while key := _KEY.match(body, position):
        name = msgspec.json.decode(key[1], type=str)
        value = bytes(values[name])
        if name.lower() in spellings or not body.startswith(value, key.end()):
            raise _ambiguous(name)
        spellings.add(name.lower())
        position = key.end() + len(value)
        spans[name] = (key.end(), position)
    if body[position:].strip() != b"}":
        raise _ambiguous(next(reversed(spans), ""))
    return spans


def merged(document: Mapping[str, Any], extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """``document`` with the client's further fields, which replace none of it.

    Raises :class:`~gatewaykit.errors.BadRequest` for a field that is in the document in another spelling.
    """
    for name in extra:
        if name not in document and name.lower() in document:
            raise _ambiguous(name)
    return {**extra, **document}


def _model_alone(body: bytes) -> dict[str, tuple[int, int]] | None:
    """The model's name in a body that spells ``"model"`` only once, and that as a key: no other member can be it."""
    found = _MODEL.search(body)
    return {"model": found.span(1)} if found else None


def _ambiguous(name: str) -> BadRequest:
    return BadRequest("A field is given more than once.", param=name[:100])


def _object(body: bytes, span: tuple[int, int] | None) -> Mapping[str, Any]:
    value = msgspec.json.decode(body[slice(*span)]) if span else None
    return value if isinstance(value, dict) else {}


def _replace(body: bytes, spans: Mapping[str, tuple[int, int]], changes: Mapping[str, Any]) -> bytes:
    end = body.rindex(b"}")
    edits = []
    for name, value in changes.items():
        new = msgspec.json.encode(value)
        if name in spans:
            edits.append((*spans[name], new))
        else:
            edits.append((end, end, b"," + msgspec.json.encode(name) + b":" + new))
    for start, stop, new in sorted(edits, reverse=True):
        body = body[:start] + new + body[stop:]
    return body
