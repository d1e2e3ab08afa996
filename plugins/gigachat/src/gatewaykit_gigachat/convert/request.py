"""A request of the gateway as the body of GigaChat's ``POST /chat/completions`` (v1). Only known fields are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, ContentPart, Tool, ToolCall
from gatewaykit_gigachat.convert.formats import TEXT, Form, form_of
from gatewaykit_gigachat.convert.messages import convert_messages
from gatewaykit_gigachat.convert.parameters import not_honoured, own_fields, sampling
from gatewaykit_gigachat.convert.tools import (
    NO_CHOICE,
    Choice,
    ToolNames,
    check_names,
    choose,
    function_of,
    is_built_in,
)
from gatewaykit_gigachat.convert.translation import ConvertOptions, Translation

_MAX_STOPS = 16
_MAX_STOP_LENGTH = 1024
_NO_NAMES = ToolNames(())


def translate(
    request: ChatRequest, model: str, options: ConvertOptions, files: Mapping[ContentPart, str]
) -> Translation:
    """``request`` for ``model``; ``files`` are the ids of its uploaded parts.

    Raises :class:`~gatewaykit.errors.BadRequest`, naming the field, for what cannot be sent.
    """
    if request.n != 1:
        raise BadRequest("GigaChat gives one answer to a request: 'n' must be 1.", param="n")
    if request.tools:
        check_names(request.tools)
    if request.stop:
        _check_stop(request.stop)
    past_calls = [call for message in request.messages for call in message.tool_calls]
    names = ToolNames(_names(request.tools, past_calls)) if request.tools or past_calls else _NO_NAMES
    choice, form = NO_CHOICE, TEXT
    if request.tools or request.tool_choice:
        choice = choose(request.tool_choice, request.tools, names)
    if request.response_format is not None:
        form = form_of(request, options, with_functions=bool(request.tools) and choice.function_call != "none")
    body: dict[str, Any] = {
        "model": model,
        "messages": convert_messages(
            request.messages,
            files,
            names,
            instructions=[*filter(None, (choice.instruction, form.instruction))],
            send_state_id=options.send_state_id,
        ),
        **sampling(request, options),
        **own_fields(request, options),
    }
    if choice is not NO_CHOICE or form is not TEXT:
        body.update(_functions(request, choice, form, names))
    return Translation(
        body=body,
        ignored=_ignored(request, options, choice, form),
        names=names.originals,
        stop=request.stop,
        answer_function=form.function["name"] if form.function else None,
        must_call=choice.must_call,
        call_ids=frozenset([call.id for call in past_calls]) if past_calls else frozenset(),
        options=options,
    )


def _check_stop(stop: tuple[str, ...]) -> None:
    """The text is searched here, so there must not be too much to search for."""
    if len(stop) > _MAX_STOPS or max(map(len, stop)) > _MAX_STOP_LENGTH:
        raise BadRequest(
            f"At most {_MAX_STOPS} stop sequences of at most {_MAX_STOP_LENGTH} characters are possible.", param="stop"
        )


def _names(tools: Sequence[Tool], past_calls: Sequence[ToolCall]) -> list[str]:
    """The names of all tools of which the conversation speaks; built-in functions have no need of an alias."""
    return [*(tool.name for tool in tools if not is_built_in(tool)), *(call.name for call in past_calls)]


def _functions(request: ChatRequest, choice: Choice, form: Form, names: ToolNames) -> dict[str, Any]:
    """The functions, the choice among them, and the answer's form, which the service does not take together."""
    if form.function:
        return {"functions": [form.function], "function_call": {"name": form.function["name"]}}
    fields: dict[str, Any] = {}
    if request.tools and form.response_format is None:
        fields["functions"] = [function_of(tool, index, names) for index, tool in enumerate(request.tools)]
    if choice.function_call is not None:
        fields["function_call"] = choice.function_call
    if form.response_format is not None:
        fields["response_format"] = form.response_format
    return fields


def _ignored(request: ChatRequest, options: ConvertOptions, choice: Choice, form: Form) -> tuple[str, ...]:
    ignored = [] if choice.honoured else ["tool_choice"]
    if not form.honoured:
        ignored.append("response_format")
    ignored += not_honoured(request, options)
    if not ignored:
        return ()
    if options.unsupported == "refuse":
        raise BadRequest(f"GigaChat does not support: {', '.join(ignored)[:200]}.", param=ignored[0])
    return tuple(dict.fromkeys(ignored))


__all__ = ["ConvertOptions", "Translation", "translate"]
