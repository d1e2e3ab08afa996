"""The short ways for what most calls are give the same as the long ones."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest, ProviderBadAnswer
from gatewaykit.types import ChatRequest, Message, Reply
from gatewaykit_gigachat.convert import AnswerReader, ConvertOptions, Translation, plain_reply, translate
from gatewaykit_gigachat.convert.messages import convert_messages
from gatewaykit_gigachat.convert.tools import ToolNames

NO_NAMES = ToolNames(())
STATE = "0f8fad5b-d9cb-469f-a165-70867728950e"
CALL = {"name": "look", "arguments": {"city": "Омск"}}
count = st.integers(0, 30) | st.sampled_from([None, -1, 2**53, True, "3"])
usages = st.none() | st.just([]) | st.fixed_dictionaries(
    {}, optional={"prompt_tokens": count, "completion_tokens": count, "precached_prompt_tokens": count}
)  # fmt: skip
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "function_in_progress", None])},
    optional={
        "content": st.text(max_size=5) | st.sampled_from([None, 1, "<think>a</think>b"]),
        "reasoning_content": st.text(max_size=3),
        "function_call": st.sampled_from([None, CALL]),
        "functions_state_id": st.just(STATE),
    },
)
choices = st.fixed_dictionaries(
    {"index": st.just(0)},
    optional={
        "message": messages | st.none(),
        "delta": st.just({"content": "d"}),
        "finish_reason": st.sampled_from(["stop", "length", "function_call", "blacklist", "error", None, 5]),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(choices, min_size=1, max_size=2) | st.sampled_from([None, [], {}, [None]]),
        "created": st.integers(0, 9) | st.sampled_from([None, 1.5, True]),
        "model": st.sampled_from(["GigaChat-2:2.0", "", None, 1]),
        "usage": usages,
    },
)
usual = st.builds(
    lambda text, reason, usage: {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}],
        "created": 5,
        "model": "GigaChat-2:2.0",
        "usage": usage,
    },
    st.text(max_size=5),
    st.sampled_from(["stop", "length"]),
    usages,
)
translations = st.builds(
    lambda stop, must_call, **options: Translation(
        {}, ("seed",), {}, stop, None, must_call, options=ConvertOptions(**options)
    ),
    st.sampled_from([(), ("a",)]),
    st.booleans(),
    think_tags=st.booleans(),
    required_tool=st.sampled_from(["report", "insist"]),
    cached_tokens_included=st.sampled_from(["auto", "yes", "no"]),
)


def read(document: dict[str, Any], made: Translation) -> Reply | str:
    """What the reader of all answers makes of this one; in words where it is none."""
    try:
        return AnswerReader(made).reply(document)
    except ProviderBadAnswer as error:
        return repr(error)


def read_plainly(document: dict[str, Any], made: Translation) -> Reply | str | None:
    """The same of the reader of plain ones."""
    try:
        return plain_reply(document, made)
    except ProviderBadAnswer as error:
        return repr(error)


@given(usual | documents, translations)
def test_a_plain_answer_is_read_as_every_other(document: dict[str, Any], made: Translation) -> None:
    """Whatever the document: what is read in one go is what the reader of all answers makes of it."""
    plain = read_plainly(document, made)
    assert plain is None or plain == read(document, made)


@given(usual)
def test_usual_answers_are_plain(document: dict[str, Any]) -> None:
    """Text, a reason and a model's name need no more than that."""
    assert read_plainly(document, Translation({})) is not None


@given(
    st.lists(
        st.builds(
            Message,
            st.sampled_from(["system", "developer", "user", "assistant"]),
            st.text(max_size=3) | st.sampled_from([" ", "one", " two\n"]),
        ),
        max_size=6,
    )
)
def test_messages_that_are_in_order_stay_as_they_are(history: list[Message]) -> None:
    """An instruction that is added and taken away again leaves the same turns as none."""
    try:
        found = convert_messages(history, {}, NO_NAMES)
    except BadRequest:
        found = []
    try:
        system, *turns = convert_messages(history, {}, NO_NAMES, instructions=["Briefly."])
    except BadRequest:
        assert not found
        return
    kept = system["content"].removesuffix("Briefly.").removesuffix("\n\n")
    assert found == ([{"role": "system", "content": kept}] if kept else []) + turns


def test_a_usual_conversation_is_in_order() -> None:
    """Its texts are sent unchanged, the system's without blanks around it."""
    asked = [
        Message("system", " Be brief.\n"),
        Message("user", "Hi "),
        Message("assistant", " Yes?"),
        Message("user", "x"),
    ]
    body = translate(ChatRequest("m", tuple(asked)), "GigaChat-2", ConvertOptions(), {}).body
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi "),
        ("assistant", " Yes?"),
        ("user", "x"),
    ]
