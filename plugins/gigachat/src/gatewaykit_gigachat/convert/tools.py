"""Tools as functions: names that the service accepts, definitions, and the choice among them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from gatewaykit.errors import BadRequest
from gatewaykit.types import NamedTool, Tool, ToolChoice
from gatewaykit_gigachat.convert.schema import clean_parameters

BUILT_IN = frozenset(
    {"code_interpreter", "get_datetime", "get_file_content", "text2image", "text2model3d", "web_search"}
)
"""Functions that the service runs itself. A client asks for one with a tool of that name and nothing else."""

ANSWER_FUNCTION = "give_answer"
"""The function whose arguments are an answer of a given schema."""

_RESERVED = BUILT_IN | {"image_generate", "model_3d_generate", "url_content_extraction", "memory", ANSWER_FUNCTION}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_NAME = 64
_DIGEST = 8
_LATIN = str.maketrans("абвгдеёзийклмнопрстуфыэ", "abvgdeeziyklmnoprstufye") | str.maketrans(
    {"ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ь": "", "ю": "yu", "я": "ya"}
)


class ToolNames:
    """A reversible table between the clients' names of tools and names that every model accepts. ``originals`` leads
    from these to those.

    A name of Latin letters, digits and underscores, up to 64, stays; any other, and that of a built-in function, gets
    an alias that depends on the name alone, so that the same conversation has the same bytes in every turn.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._aliases: dict[str, str] = {}
        strange = []
        for name in dict.fromkeys(names):
            if _NAME.fullmatch(name) and name not in _RESERVED:
                self._aliases[name] = name
            else:
                strange.append(name)
        taken = set(self._aliases)
        for name in strange:
            self._aliases[name] = alias = _alias(name, taken)
            taken.add(alias)
        self.originals = {alias: name for name, alias in self._aliases.items()}

    def alias(self, name: str) -> str:
        """The name for the service. Raises :class:`KeyError` for one that was not among the names."""
        return self._aliases[name]


def _alias(name: str, taken: set[str]) -> str:
    legible = re.sub(r"[^A-Za-z0-9_]", "_", name[:_MAX_NAME].lower().translate(_LATIN) if not name.isascii() else name)
    if not legible or legible[0].isdigit():
        legible = f"f_{legible}"
    turn = 0
    while True:
        seed = f"{turn}\0{name}" if turn else name
        digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        alias = f"{legible[: _MAX_NAME - _DIGEST - 1]}_{digest}"
        if alias not in taken:
            return alias
        turn += 1


def is_built_in(tool: Tool) -> bool:
    """Whether the client means the service's own function and not one of its own of the same name."""
    return tool.name in BUILT_IN and tool.parameters is None and tool.description is None


def check_names(tools: tuple[Tool, ...]) -> None:
    """Raises :class:`~gatewaykit.errors.BadRequest` for two tools of one name."""
    seen = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise BadRequest("Two tools have the same name.", param=f"tools[{index}].function.name")
        seen.add(tool.name)


def function_of(tool: Tool, index: int, names: ToolNames) -> dict[str, Any]:
    """The definition of tool number ``index``; a built-in function by its name alone."""
    if is_built_in(tool):
        return {"name": tool.name}
    return {
        "name": names.alias(tool.name),
        "description": tool.description or tool.name,
        "parameters": clean_parameters(tool.parameters, f"tools[{index}].function.parameters"),
    }


class Choice(Struct, frozen=True):
    """How a choice of tools is put: ``function_call`` for the body, words for the system message, and the verdict.

    ``honoured`` is false when the service can only be asked; ``must_call`` when the answer without a call is not one.
    """

    function_call: str | Mapping[str, str] | None = None
    instruction: str = ""
    must_call: bool = False
    honoured: bool = True


NO_CHOICE = Choice()
_CALL_ONE = "Do not answer in words: call exactly one of the functions you have been given."


def choose(choice: ToolChoice | None, tools: tuple[Tool, ...], names: ToolNames) -> Choice:
    """The service knows none, auto and one function by name; the rest is put in words."""
    if isinstance(choice, NamedTool):
        return _named(choice.name, tools, names)
    if choice == "required":
        own = [tool for tool in tools if not is_built_in(tool)]
        if not own:
            raise BadRequest("A tool is required, and none is given.", param="tool_choice")
        if len(own) == 1:
            return Choice({"name": names.alias(own[0].name)}, must_call=True)
        return Choice("auto", _CALL_ONE, must_call=True, honoured=False)
    return Choice(choice or "auto") if tools or choice else NO_CHOICE


def _named(name: str, tools: tuple[Tool, ...], names: ToolNames) -> Choice:
    for tool in tools:
        if tool.name == name:
            if is_built_in(tool):
                return Choice("auto", f"Use the function {name}.", honoured=False)
            return Choice({"name": names.alias(name)}, must_call=True)
    raise BadRequest("The tool that was chosen is not among the tools.", param="tool_choice")


__all__ = [
    "ANSWER_FUNCTION",
    "BUILT_IN",
    "NO_CHOICE",
    "Choice",
    "ToolNames",
    "check_names",
    "choose",
    "function_of",
    "is_built_in",
]
