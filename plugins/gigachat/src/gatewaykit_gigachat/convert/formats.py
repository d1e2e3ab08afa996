"""The form of the answer: JSON of a schema by the service's own mode, by a forced function, or by asking for it."""

from __future__ import annotations

from typing import Any

import msgspec

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, ResponseFormat
from gatewaykit_gigachat.convert.references import inline_references
from gatewaykit_gigachat.convert.schema import clean_parameters
from gatewaykit_gigachat.convert.tools import ANSWER_FUNCTION
from gatewaykit_gigachat.convert.translation import ConvertOptions

_SCHEMA = "response_format.json_schema.schema"
_JSON_ONLY = "Answer with one JSON object and nothing else: no text around it, no code fence."


class Form(msgspec.Struct, frozen=True):
    """How the form is asked for: ``response_format`` of the body, a ``function`` to force, or an ``instruction``.

    ``honoured`` is false when the service can only be asked.
    """

    response_format: dict[str, Any] | None = None
    function: dict[str, Any] | None = None
    instruction: str = ""
    honoured: bool = True


TEXT = Form()


def form_of(request: ChatRequest, options: ConvertOptions, *, with_functions: bool) -> Form:
    """The form of the answer. ``with_functions``: the model may call, and then the service takes no schema.

    Raises :class:`~gatewaykit.errors.BadRequest` for a form that the options refuse or a schema that cannot be sent.
    """
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return TEXT
    if wanted.type == "json_object":
        if options.json_object == "refuse":
            raise BadRequest("GigaChat has no JSON mode without a schema: use 'json_schema'.", param="response_format")
        return Form(instruction=_JSON_ONLY, honoured=False)
    return _of_schema(wanted, options, with_functions)


def _of_schema(wanted: ResponseFormat, options: ConvertOptions, with_functions: bool) -> Form:
    if not wanted.schema:
        raise BadRequest("The answer's JSON Schema must not be empty.", param=_SCHEMA)
    if options.json_schema == "function" and not with_functions:
        parameters = clean_parameters(wanted.schema, _SCHEMA)
        description = f"Gives the answer: {wanted.name}" if wanted.name else "Gives the answer."
        return Form(function={"name": ANSWER_FUNCTION, "description": description, "parameters": parameters})
    schema = inline_references(wanted.schema, _SCHEMA)
    if with_functions:
        text = msgspec.json.encode(schema).decode()
        return Form(
            instruction=f"When you answer in words: {_JSON_ONLY} It fits this JSON Schema: {text}", honoured=False
        )
    form: dict[str, Any] = {"type": "json_schema", "schema": schema}
    if wanted.strict is not None:
        form["strict"] = wanted.strict
    return Form(form)


__all__ = ["TEXT", "Form", "form_of"]
