"""What the model says: text, a function call or a JSON document, by fixed rules.

The rules are told in the docstring of the package.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from .chat_request import ChatRequest, ForcedCall, FunctionSpec
from .faults import Fault
from .instances import instance_of
from .refusals import api_refusal
from .schema_check import Unsatisfiable
from .settings import ModelCard, SandboxSettings
from .store import StoredFile
from .text import cut_to_tokens, is_russian

MOST_WORDS = 10_000
BLACKLISTED = "На эту тему я говорить не могу. Давайте сменим её."

_REPEAT = re.compile(r"\s*(?:repeat|повтори): ?(.*)", re.IGNORECASE | re.DOTALL)
_SAY = re.compile(r"\s*(?:say|скажи)\s+(\d{1,6})\s+(words?|слов[оа]?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class FunctionCalled:
    """The call of a function; ``state_id`` is its ``functions_state_id``."""

    name: str
    arguments: dict[str, Any]
    state_id: str


@dataclass(frozen=True)
class Answer:
    """What the model says, before it is written in either format."""

    text: str
    finish: str = "stop"
    reasoning: str | None = None
    call: FunctionCalled | None = None


def compose(
    request: ChatRequest,
    card: ModelCard,
    attached: Sequence[StoredFile],
    settings: SandboxSettings,
    fault: Fault,
) -> Answer:
    """The answer to ``request``; ``attached`` are the files of its last user message."""
    answer = _answer(request, attached, settings)
    if request.reasoning_effort is not None and card.reasoning:
        answer = replace(answer, reasoning=_reasoning(request))
    if request.max_tokens is not None and answer.call is None:
        text = cut_to_tokens(answer.text, request.max_tokens)
        if text != answer.text:
            answer = replace(answer, text=text, finish="length")
    return _finished(answer, fault.finish)


def _finished(answer: Answer, finish: str | None) -> Answer:
    """``answer`` as a scripted finish reason leaves it."""
    if finish is None:
        return answer
    if finish == "blacklist":
        return replace(answer, text=BLACKLISTED, call=None, finish=finish)
    if finish == "length":
        return replace(answer, text=answer.text[: len(answer.text) // 2], call=None, finish=finish)
    if finish == "error":
        return replace(answer, text="", call=None, finish=finish)
    return replace(answer, finish=finish)


def _answer(request: ChatRequest, attached: Sequence[StoredFile], settings: SandboxSettings) -> Answer:
    function = _chosen(request, settings.call_trigger)
    if function is not None:
        return _call(request, function)
    wanted = request.response_format
    if wanted is not None and wanted.type == "json_schema":
        try:
            document = instance_of(wanted.schema, optional=wanted.strict is True)
        except Unsatisfiable as error:
            raise api_refusal(422) from error
        return Answer(json.dumps(document, ensure_ascii=False, indent=4))
    return Answer(_text(request, attached))


def _chosen(request: ChatRequest, trigger: str) -> FunctionSpec | None:
    """The function that the model calls now, if any."""
    own = [function for function in request.functions or () if function.parameters is not None]
    if isinstance(request.function_call, ForcedCall):
        wanted = request.function_call.name
        return next((function for function in own if function.name == wanted), None)
    asked = request.last_user
    if request.function_call == "none" or asked is None or request.messages[-1].role == "function":
        return None
    text = asked.text.lower()
    named = [function for function in own if function.name.lower() in text]
    triggered = own if trigger and trigger.lower() in text else []
    return next(iter(named or triggered), None)


def _call(request: ChatRequest, function: FunctionSpec) -> Answer:
    partial = request.function_call.partial_arguments if isinstance(request.function_call, ForcedCall) else None
    try:
        arguments = instance_of({"type": "object", **(function.parameters or {})}, optional=False)
    except Unsatisfiable:
        return Answer("", finish="error")
    arguments = {**arguments, **(partial or {})}
    seed = msgspec.json.encode([msgspec.to_builtins(request.messages), function.name, arguments])
    state = uuid.UUID(bytes=hashlib.sha256(seed).digest()[:16], version=4)
    return Answer("", "function_call", call=FunctionCalled(function.name, arguments, str(state)))


def _text(request: ChatRequest, attached: Sequence[StoredFile]) -> str:
    asked = request.last_user.text if request.last_user is not None else ""
    last = request.messages[-1]
    if last.role == "function":
        name = last.name or "?"
        known = f"Функция {name} вернула" if is_russian(asked) else f"The function {name} returned"
        return f"{known}: {last.text}"
    if match := _REPEAT.fullmatch(asked):
        return match[1]
    if match := _SAY.match(asked):
        word = "слово" if is_russian(match[2]) else "word"
        return " ".join(f"{word}{number}" for number in range(1, min(int(match[1]), MOST_WORDS) + 1))
    return _echo(asked.strip(), attached)


def _echo(asked: str, attached: Sequence[StoredFile]) -> str:
    russian = is_russian(asked)
    if not asked:
        text = "Hello! This is the GigaChat sandbox."
    elif russian:
        text = f"Здравствуйте! Вы написали: «{asked}». Вам отвечает песочница GigaChat."
    else:
        text = f"Hello! You wrote: “{asked}”. This is the GigaChat sandbox answering."
    if attached:
        label, unit = ("Вложения", "байт") if russian else ("Attachments", "bytes")
        listed = ", ".join(f"{file.filename} ({file.mime}, {len(file.content)} {unit})" for file in attached)
        text = f"{text} {label}: {listed}."
    return text


def _reasoning(request: ChatRequest) -> str:
    asked = request.last_user.text.strip() if request.last_user is not None else ""
    if is_russian(asked):
        return f"Меня спросили: «{asked}». Отвечаю по правилам песочницы."
    return f"I was asked: “{asked}”. I answer by the rules of the sandbox."
