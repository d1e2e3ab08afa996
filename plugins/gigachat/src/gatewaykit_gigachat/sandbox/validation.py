"""What the service refuses about the values of a well-shaped chat request, in its own words."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from msgspec import UNSET

from .chat_request import ChatMessage, ChatRequest, ForcedCall, ResponseFormat
from .functions import check_functions
from .refusals import api_refusal, invalid
from .settings import ModelCard

_EFFORTS = ("low", "medium", "high")
_REASONS = {
    "Extra data": "The document root must not be followed by other values.",
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ',' delimiter": "Missing a comma after a value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
}


def check_request(request: ChatRequest, card: ModelCard) -> None:
    """Refuse with 400 or 422 what the service would refuse."""
    _check_ranges(request)
    check_history(request.messages)
    _check_functions(request, card)
    if request.response_format is not None:
        _check_format(request.response_format, card)


def _check_ranges(request: ChatRequest) -> None:
    for name in ("temperature", "max_tokens", "repetition_penalty"):
        value = getattr(request, name)
        if value is not None and not value > 0:
            raise invalid(f"{name} must be in range (0, +inf)")
    if request.top_p is not None and not 0 <= request.top_p <= 1:
        raise invalid("top_p must be in range [0, 1]")
    if request.update_interval is not None and not 0 <= request.update_interval <= 3600:
        raise invalid("update_interval must be in range [0, 3600]")
    if request.reasoning_effort is not None and request.reasoning_effort not in _EFFORTS:
        raise invalid(f"reasoning_effort must be one of {', '.join(_EFFORTS)}")


def check_history(messages: list[ChatMessage]) -> None:
    """One system message at the front, and every function call followed by its result."""
    if not messages:
        raise invalid("messages must not be empty")
    awaiting = False
    for index, message in enumerate(messages):
        if message.role == "system" and index > 0:
            raise invalid("system message must be the first message")
        if message.role == "function":
            _check_result(message, awaiting=awaiting)
        elif awaiting:
            raise invalid("every assistant function call must have a result in history")
        awaiting = message.role == "assistant" and message.function_call is not None
    if awaiting:
        raise invalid("every assistant function call must have a result in history")


def _check_result(message: ChatMessage, *, awaiting: bool) -> None:
    if not awaiting:
        raise invalid("every assistant function result must have an assistant function call in history")
    try:
        json.loads(message.text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"JSON parse error at line {error.lineno} column {error.colno}"
        reason = _REASONS.get(error.msg, "Invalid value.") if message.text.strip() else "The document is empty."
        raise invalid(f"invalid function result json string {message.text}, error: {where}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise invalid(f"invalid function result json string {message.text}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_functions(request: ChatRequest, card: ModelCard) -> None:
    functions = request.functions or []
    if functions and not card.functions:
        raise api_refusal(422, "Requested model does not support functions")
    check_functions(functions)
    wanted = request.function_call
    if isinstance(wanted, ForcedCall) and wanted.name not in {function.name for function in functions}:
        raise invalid(f"function_call names '{wanted.name}', which is not in functions")


def _check_format(wanted: ResponseFormat, card: ModelCard) -> None:
    if wanted.type == "text":
        if wanted.schema is not UNSET or wanted.regex is not UNSET or wanted.strict is not None:
            raise api_refusal(400)
        return
    if wanted.type != "json_schema" or not card.structured:
        raise api_refusal(400, f'Unknown type "{wanted.type}" in response_format')
    schema: Any = wanted.schema
    if schema is UNSET or not schema:
        raise api_refusal(400, "Empty schema with json format type is not supported")
    if not isinstance(schema, dict):
        raise api_refusal(400)
