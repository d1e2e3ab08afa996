"""From the bytes of an OpenAI chat request to a :class:`~gatewaykit.types.ChatRequest`.

Null means "not given", everywhere. Unknown fields, and known ones for which the gateway has no word, are kept under
their own names. Source: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.dialects.openai_fields import (
    INT64,
    Reader,
    boolean,
    integer,
    invalid,
    mapping,
    missing,
    number,
    one_of,
    shallow,
    text,
    text_of,
    wrong_type,
)
from gatewaykit.dialects.openai_messages import read_messages
from gatewaykit.dialects.openai_tools import (
    read_function_call,
    read_functions,
    read_response_format,
    read_tool_choice,
    read_tools,
)
from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, Incoming

SESSION_HEADER = "x-session-id"

_decoder = msgspec.json.Decoder()
_stop_sequence = text_of(1, 65_536)


class FunctionsRequest(ChatRequest, frozen=True):
    """A chat request that came with the older ``functions``: its answer has ``function_call``, not tool calls."""


def decode_chat(incoming: Incoming, body: bytes) -> ChatRequest:
    """The request of ``body``; the conversation's name comes from the header ``X-Session-ID``.

    Raises :class:`~gatewaykit.errors.BadRequest` naming the field.
    """
    given: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in read_document(body).items():
        if value is not None:
            read = _READERS.get(name)
            if read is None:
                shallow(value, name[:64])
                extra[name] = value
            else:
                given[name] = read(value, name)
    for name in ("model", "messages"):
        if name not in given:
            raise missing(name)
    older = not _DEPENDENT.isdisjoint(given) and _settle(given)
    if extra:
        given["extra"] = extra
    if SESSION_HEADER in incoming.headers:
        given["session"] = _session(incoming.headers)
    return FunctionsRequest(**given) if older else ChatRequest(**given)


def read_document(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body`` (RFC 8259; NaN and infinities are none of it)."""
    try:
        document = _decoder.decode(body)
    except RecursionError:
        raise BadRequest("The body of the request is nested too deep.") from None
    except UnicodeDecodeError:
        raise BadRequest(f"The body of the request is not valid UTF-8{_bad_byte(body)}.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body of the request is not valid JSON: {error}.") from None
    if type(document) is not dict:
        raise wrong_type("body", "an object", document)
    return document


def _bad_byte(body: bytes) -> str:
    """Where ``body`` stops being UTF-8, in words; the JSON decoder counts from the beginning of the string only."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f" (byte {error.start})"
    return ""


def _session(headers: Mapping[str, str]) -> str | None:
    session = headers[SESSION_HEADER]
    if len(session) > 256 or not all("!" <= character <= "~" for character in session):
        raise BadRequest("The header 'X-Session-ID' may have at most 256 visible characters.", param=SESSION_HEADER)
    return session or None


# fields that depend on one another

_DEPENDENT = frozenset(
    {"stream_options", "max_completion_tokens", "top_logprobs", "tool_choice", "functions", "function_call"}
)


def _settle(given: dict[str, Any]) -> bool:
    """Say all of it in words that do not depend on others; whether those for tools were the older ones."""
    _settle_stream(given)
    _settle_limits(given)
    if older := "functions" in given or "function_call" in given:
        _settle_functions(given)
    else:
        _settle_tools(given)
    return older


def _settle_stream(given: dict[str, Any]) -> None:
    options = given.pop("stream_options", None)
    if options is None:
        return
    if not given.get("stream"):
        raise invalid("stream_options", "it is only allowed when 'stream' is enabled")
    given["include_usage"] = options


def _settle_limits(given: dict[str, Any]) -> None:
    limit = given.pop("max_completion_tokens", None)
    if limit is not None:
        given["max_tokens"] = limit
    if "top_logprobs" in given and not given.get("logprobs"):
        raise invalid("top_logprobs", "it is only allowed when 'logprobs' is enabled")


def _settle_tools(given: dict[str, Any]) -> None:
    choice = given.get("tool_choice")
    if choice is not None:
        given["tool_choice"], given["tools"] = read_tool_choice(choice, "tool_choice", given.get("tools", ()))


def _settle_functions(given: dict[str, Any]) -> None:
    """Say the older fields in the words of the newer ones; a request may use only one of the two ways."""
    functions = given.pop("functions", ())
    choice = given.pop("function_call", None)
    for name in ("tools", "tool_choice"):
        if name in given:
            raise invalid(name, "it is not allowed together with 'functions' or 'function_call'")
    given["tools"] = functions
    given["parallel_tool_calls"] = False
    if choice is not None:
        given["tool_choice"] = read_function_call(choice, "function_call", functions)


# fields that stand alone


def _as_it_is(value: Any, name: str) -> Any:
    """For what is read later, when the fields that it depends on are known."""
    return value


def _include_usage(value: Any, name: str) -> bool:
    wanted = mapping(value, name).get("include_usage")
    return wanted is not None and boolean(wanted, f"{name}.include_usage")


def _stop(value: Any, name: str) -> tuple[str, ...]:
    if type(value) is str:
        return (_stop_sequence(value, name),)
    if type(value) is not list:
        raise wrong_type(name, "a string or an array of strings", value)
    if len(value) > 4:
        raise invalid(name, "array too long. Expected an array with maximum length 4")
    return tuple(_stop_sequence(item, f"{name}[{index}]") for index, item in enumerate(value))


_tokens = integer(1, INT64 - 1)
_penalty = number(-2, 2)

_READERS: dict[str, Reader] = {
    "model": text_of(1, 256),
    "messages": read_messages,
    "stream": boolean,
    "stream_options": _include_usage,
    "tools": read_tools,
    "tool_choice": _as_it_is,
    "parallel_tool_calls": boolean,
    "functions": read_functions,
    "function_call": _as_it_is,
    "response_format": read_response_format,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "max_tokens": _tokens,
    "max_completion_tokens": _tokens,
    "stop": _stop,
    "n": integer(1, 128),
    "seed": integer(-INT64, INT64 - 1),
    "frequency_penalty": _penalty,
    "presence_penalty": _penalty,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "user": text,
}
