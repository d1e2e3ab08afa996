"""Arguments and results of tool calls in a conversation's history: JSON both ways, whatever the client has."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_FLAT = 100
"""So many brackets cannot nest too deep."""


def arguments_object(text: str) -> dict[str, Any]:
    """The arguments of a call as the object that the service wants in place of a string.

    Text that is no JSON object, which a model may have written, or nests too deep, is kept under the key ``arguments``.
    """
    if not text.strip():
        return {}
    try:
        value = _decoded(text)
    except (ValueError, RecursionError):
        return {"arguments": text}
    return value if type(value) is dict else {"arguments": value}


def result_document(text: str) -> str:
    """The result of a call as one JSON object, in plain UTF-8.

    A JSON object stays as it is; other JSON, and text that is none, comes under the key ``result``.
    """
    stripped = text.strip(" \t\r\n")
    try:
        value = _decoded(stripped)
    except (ValueError, RecursionError):
        return _written({"result": stripped})
    if type(value) is dict:
        # escapes are written out, for they cost tokens; otherwise not a byte changes
        return _written(value) if "\\u" in stripped else stripped
    return _written({"result": value})


def _decoded(text: str) -> Any:
    """What is in this JSON. Raises :class:`ValueError`, and :class:`RecursionError` also for what could be read and not
    be written again inside of a request.
    """
    value = _decode(text)
    if text.count("[") + text.count("{") > _FLAT:
        _written([[[[[[[[value]]]]]]]])
    return value


def _written(value: Any) -> str:
    return msgspec.json.encode(value).decode()


__all__ = ["arguments_object", "result_document"]
