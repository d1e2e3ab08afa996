"""Decoding request bodies, whatever they hold."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from .refusals import api_refusal

DEEPEST = 64

T = TypeVar("T")


def decode(raw: bytes) -> dict[str, Any]:
    """A JSON object of at most 64 levels; 400 for anything else."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise api_refusal(400) from error
    if not isinstance(value, dict) or not _is_shallow(value):
        raise api_refusal(400)
    return value


def shaped(value: dict[str, Any], shape: type[T]) -> T:
    """``value`` as ``shape``; 400 when a field has another type."""
    try:
        return msgspec.convert(value, shape)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise api_refusal(400) from error


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [child for node in level for child in _children(node)]
        if not level:
            return True
    return False


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, list) else []
