"""Names of tools, their definitions, and the choice among them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, Message, NamedTool, Tool, ToolCall, ToolChoice
from gatewaykit_gigachat.convert import AnswerReader, ConvertOptions, Translation, translate
from gatewaykit_gigachat.convert.tools import BUILT_IN, ToolNames

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
NAMES = ["plain", "search/docs", "two words", "получить_погоду", "1st", "x" * 80, "web_search", "a.b-c", ""]


def translated(*tools: Tool, choice: ToolChoice | None = None, history: tuple[Message, ...] = ()) -> Translation:
    request = ChatRequest("m", (Message("user", "x"), *history), tools=tools, tool_choice=choice)
    return translate(request, "GigaChat-2", ConvertOptions(), {})


def tool(name: str) -> Tool:
    return Tool(name, "does it", SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_an_alias_leads_back(name: str) -> None:
    """Any name becomes one that all models accept, and a call of it comes back under the client's name."""
    translation = translated(tool(name), tool("other"))
    alias = translation.body["functions"][0]["name"]
    assert SAFE.fullmatch(alias)
    assert alias not in BUILT_IN
    reader = AnswerReader(translation)
    document = {
        "choices": [{"delta": {"function_call": {"name": alias, "arguments": {}}}, "finish_reason": "function_call"}]
    }
    assert reader.reply(document).choices[0].tool_calls[0].name == name


@CALM
@given(
    st.lists(st.one_of(st.text(max_size=90), st.sampled_from(NAMES), st.from_regex(SAFE, fullmatch=True)), max_size=12)
)
def test_aliases_are_one_to_one(names: list[str]) -> None:
    """Different names have different aliases, all of them safe, and each leads back."""
    table = ToolNames(names)
    aliases = {name: table.alias(name) for name in names}
    assert len(set(aliases.values())) == len(set(names))
    assert all(SAFE.fullmatch(alias) and alias not in BUILT_IN for alias in aliases.values())
    assert all(table.originals[alias] == name for name, alias in aliases.items())


def test_a_name_that_looks_like_an_alias_does_not_collide() -> None:
    """A client that names a tool like another's alias gets both apart."""
    stolen = ToolNames(["a b"]).alias("a b")
    table = ToolNames(["a b", stolen])
    assert table.alias(stolen) == stolen
    assert table.alias("a b") != stolen


def test_the_alias_depends_on_the_name_alone() -> None:
    """The same tool has the same alias in every turn, whatever tools stand beside it."""
    assert ToolNames(["x", "a b", "c d"]).alias("c d") == ToolNames(["c d"]).alias("c d")


def test_calls_of_the_history_have_the_same_alias() -> None:
    """A call in the history is sent under the alias of its tool, also of a tool that is no longer offered."""
    history = (
        Message("assistant", tool_calls=(ToolCall("1", "a b", "{}"), ToolCall("2", "gone/by", "{}"))),
        Message("tool", "", tool_call_id="1"),
        Message("tool", "", tool_call_id="2"),
    )
    body = translated(tool("a b"), history=history).body
    assert body["messages"][1]["function_call"]["name"] == body["functions"][0]["name"]
    assert SAFE.fullmatch(body["messages"][3]["function_call"]["name"])


def test_a_definition_is_complete() -> None:
    """A function always has a description and parameters with properties."""
    body = translated(Tool("bare"), Tool("full", "says", SCHEMA)).body
    assert body["functions"] == [
        {"name": "bare", "description": "bare", "parameters": {"type": "object", "properties": {}}},
        {"name": "full", "description": "says", "parameters": SCHEMA},
    ]
    assert body["function_call"] == "auto"


def test_built_in_functions_are_asked_for_by_name_alone() -> None:
    """A tool that is only a built-in function's name is that function; with a definition it is the client's own."""
    body = translated(Tool("text2image"), tool("web_search")).body
    assert body["functions"][0] == {"name": "text2image"}
    assert body["functions"][1]["name"].startswith("web_search_")


def test_two_tools_of_one_name_are_refused() -> None:
    """Two tools of one name could not be told apart."""
    with pytest.raises(BadRequest) as refused:
        translated(tool("a"), tool("a"))
    assert refused.value.param == "tools[1].function.name"


@pytest.mark.parametrize(
    ("choice", "count", "function_call", "ignored"),
    [
        (None, 0, None, ()),
        ("auto", 0, "auto", ()),
        ("none", 0, "none", ()),
        (None, 1, "auto", ()),
        ("auto", 2, "auto", ()),
        ("none", 2, "none", ()),
        ("required", 1, {"name": "t0"}, ()),
        ("required", 2, "auto", ("tool_choice",)),
        (NamedTool("t1"), 2, {"name": "t1"}, ()),
    ],
)
def test_the_choice_of_tools(choice: Any, count: int, function_call: Any, ignored: tuple[str, ...]) -> None:
    """The choice is said as the service knows it; what it can only be asked for is reported."""
    translation = translated(*(tool(f"t{number}") for number in range(count)), choice=choice)
    assert translation.body.get("function_call") == function_call
    assert translation.ignored == ignored
    instructed = translation.body["messages"][0]["role"] == "system"
    assert instructed == bool(ignored)


@pytest.mark.parametrize(("choice", "tools"), [("required", ()), (NamedTool("z"), (tool("a"),))])
def test_an_impossible_choice_is_refused(choice: Any, tools: tuple[Tool, ...]) -> None:
    """A choice without the tool is the client's error."""
    with pytest.raises(BadRequest) as refused:
        translated(*tools, choice=choice)
    assert refused.value.param == "tool_choice"


def test_a_named_built_in_function_can_only_be_asked_for() -> None:
    """Built-in functions cannot be forced: the wish is put in words and reported."""
    translation = translated(Tool("web_search"), choice=NamedTool("web_search"))
    assert translation.body["function_call"] == "auto"
    assert translation.ignored == ("tool_choice",)
