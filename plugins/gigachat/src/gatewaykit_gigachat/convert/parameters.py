"""Sampling and other single parameters: their ranges, GigaChat's own fields, and what cannot be honoured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, ImagePart, Message
from gatewaykit_gigachat.convert.translation import ConvertOptions

_DETERMINISTIC = 0.0001
"""Stands for temperature 0, which the service refuses; below 0.001 it is deterministic."""

_LEAST_PENALTY = 0.01
_INT32 = 2**31 - 1
_MAX_INTERVAL = 3600.0
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_NO_EFFORT = frozenset({"none", "minimal"})
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "service_tier": ("auto", "default", "standard_only"),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}
"""Values by which a client only says what would happen anyway; so do null, false, zero and whatever is empty."""


def sampling(request: ChatRequest, options: ConvertOptions) -> dict[str, Any]:
    """The fields that steer how the answer is made.

    Raises :class:`~gatewaykit.errors.BadRequest` for a value out of range.
    """
    body: dict[str, Any] = {}
    if request.temperature is not None:
        temperature = _within(request.temperature, 0, 2, "temperature")
        body["temperature"] = temperature or _DETERMINISTIC
    if request.top_p is not None:
        body["top_p"] = _within(request.top_p, 0, 1, "top_p")
    if request.max_tokens is not None:
        if request.max_tokens < 1:
            raise BadRequest("'max_tokens' must be at least 1.", param="max_tokens")
        body["max_tokens"] = min(request.max_tokens, _INT32)
    if request.reasoning_effort in _EFFORTS:
        body["reasoning_effort"] = _EFFORTS[request.reasoning_effort]
    if request.frequency_penalty and options.frequency_penalty == "repetition_penalty":
        penalty = _within(request.frequency_penalty, -2, 2, "frequency_penalty")
        body["repetition_penalty"] = max(1 + penalty / 2, _LEAST_PENALTY)
    return body


def own_fields(request: ChatRequest, options: ConvertOptions) -> dict[str, Any]:
    """GigaChat's own fields: the operator's, and those that a client added to its request.

    Raises :class:`~gatewaykit.errors.BadRequest` for a value of the wrong kind.
    """
    body: dict[str, Any] = {}
    if request.extra:
        for name, read in _OWN.items():
            if (value := request.extra.get(name)) is not None:
                body[name] = read(value, name)
    if options.profanity_check is not None:
        body["profanity_check"] = options.profanity_check
    if options.flags:
        body["flags"] = list(dict.fromkeys([*options.flags, *body.get("flags", ())]))
    return body


def not_honoured(request: ChatRequest, options: ConvertOptions) -> Iterator[str]:
    """The names, as OpenAI has them, of the client's parameters that change nothing here although they should."""
    yield from _messages_not_honoured(request.messages)
    if request.tools and any(tool.strict for tool in request.tools):
        yield "tools.strict"
    if request.seed is not None:
        yield "seed"
    if request.frequency_penalty and options.frequency_penalty == "report":
        yield "frequency_penalty"
    if request.presence_penalty:
        yield "presence_penalty"
    if request.logprobs:
        yield "logprobs"
    if request.top_logprobs:
        yield "top_logprobs"
    if request.reasoning_effort is not None and request.reasoning_effort not in _EFFORTS.keys() | _NO_EFFORT:
        yield "reasoning_effort"
    if request.user:
        yield "user"
    if request.extra:
        yield from _extra_not_honoured(request, options)


def _messages_not_honoured(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        if message.name and message.role != "tool":
            yield "messages.name"
            break
    parts = (part for message in messages if not isinstance(message.content, str) for part in message.content)
    if any(isinstance(part, ImagePart) and part.detail not in (None, "auto") for part in parts):
        yield "messages.image_url.detail"


def _extra_not_honoured(request: ChatRequest, options: ConvertOptions) -> Iterator[str]:
    for name, value in request.extra.items():
        if name == "profanity_check":
            if options.profanity_check not in (None, value):
                yield name
        elif name not in _OWN and value and value not in _NEUTRAL.get(name, ()):
            yield name


def _within(value: float, low: float, high: float, name: str) -> float:
    if not low <= value <= high:
        raise BadRequest(f"'{name}' must be between {low} and {high}.", param=name)
    return value


# GigaChat's own fields


def _wrong(name: str, expected: str) -> BadRequest:
    return BadRequest(f"'{name}' must be {expected}.", param=name)


def _penalty(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise _wrong(name, "a number greater than 0")
    return float(value)


def _interval(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_INTERVAL:
        raise _wrong(name, f"a number of seconds from 0 to {_MAX_INTERVAL:.0f}")
    return float(value)


def _boolean(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise _wrong(name, "true or false")
    return value


def _flags(value: Any, name: str) -> list[str]:
    if type(value) is not list or len(value) > 32 or any(type(flag) is not str for flag in value):
        raise _wrong(name, "an array of at most 32 strings")
    return value


def _ranker(value: Any, name: str) -> dict[str, Any]:
    if type(value) is not dict or not value.keys() <= {"enabled", "top_n"}:
        raise _wrong(name, "an object with 'enabled' and 'top_n'")
    if type(value.get("enabled", True)) is not bool or type(value.get("top_n", 1)) is not int:
        raise _wrong(name, "an object with 'enabled' (true or false) and 'top_n' (an integer)")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(name, "an object")
    return value


_OWN: dict[str, Callable[[Any, str], Any]] = {
    "repetition_penalty": _penalty,
    "update_interval": _interval,
    "profanity_check": _boolean,
    "flags": _flags,
    "function_ranker": _ranker,
    "additional_data": _object,
}

__all__ = ["not_honoured", "own_fields", "sampling"]
