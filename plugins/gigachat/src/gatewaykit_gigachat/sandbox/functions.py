"""Function definitions: what the service refuses about them, and ``/functions/validate``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.types import ASGIApp

from .body import shaped
from .call import Call
from .chat_request import FunctionSpec
from .refusals import api_refusal, invalid
from .replies import JsonReply
from .schema_check import conforms

BUILT_IN = frozenset(
    {"text2image", "text2model3d", "get_file_content", "web_search", "get_datetime", "code_interpreter"},
)
NAME_RULE = (
    "Invalid function names. Only Latin letters (A-Z or a-z), underscore (_), hyphen (-), dot (.) "
    "and digits (not leading) are allowed."
)
RULES_VERSION = "1.0.5"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def check_functions(functions: Sequence[FunctionSpec]) -> None:
    """422 for a name outside the alphabet or an object node without ``properties``."""
    wrong = [function.name for function in functions if not _NAME.fullmatch(function.name)]
    if wrong:
        raise invalid(f"{NAME_RULE}: [{', '.join(wrong)}]")
    for function in functions:
        for path in missing_fields(function):
            raise api_refusal(422, f"Field '{path}' is missing")


def missing_fields(function: FunctionSpec) -> Iterator[str]:
    """Paths of required fields that ``function`` lacks, counted from its ``parameters``."""
    if function.parameters is None:
        if function.name not in BUILT_IN:
            yield "parameters"
        return
    yield from _missing_properties({**function.parameters, "type": "object"}, "")


def _missing_properties(schema: dict[str, Any], path: str) -> Iterator[str]:
    properties = schema.get("properties")
    if schema.get("type") == "object" and not isinstance(properties, dict):
        yield f"{path}properties"
    if isinstance(properties, dict):
        for name, child in properties.items():
            if isinstance(child, dict):
                yield from _missing_properties(child, f"{path}properties.{name}.")
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _missing_properties(items, f"{path}items.")


async def validate_function(call: Call) -> ASGIApp:
    """``POST /functions/validate``: 200 with the verdict, whatever it is; 400 for another shape."""
    function = shaped(call.json(), FunctionSpec)
    errors = [_remark(f"Field '{path}' is missing", path) for path in missing_fields(function)]
    if not _NAME.fullmatch(function.name):
        errors.insert(0, _remark(NAME_RULE, "name"))
    verdict: dict[str, Any] = {
        "status": 200,
        "message": "Incorrect function syntax" if errors else "Function is valid",
        "json_ai_rules_version": RULES_VERSION,
    }
    if errors:
        return JsonReply(call, {**verdict, "errors": errors})
    return JsonReply(call, {**verdict, "warnings": _warnings(function)})


def _remark(description: str, location: str) -> dict[str, str]:
    return {"description": description, "schema_location": location}


def _warnings(function: FunctionSpec) -> list[dict[str, str]]:
    warnings = []
    if not function.description:
        warnings.append(_remark("description is missing", "description"))
    for index, example in enumerate(function.few_shot_examples or ()):
        if not conforms(function.parameters, example.get("params")):
            warnings.append(_remark("params do not fit the parameters", f"few_shot_examples.{index}.params"))
    return warnings
