"""Conversations in GigaChat's order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit.types import AudioPart, ChatRequest, FilePart, ImagePart, Message, TextPart, ToolCall
from gatewaykit_gigachat.convert import ConvertOptions, translate

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

STATE = "0f8fad5b-d9cb-469f-a165-70867728950e"
CAT, DOG = ImagePart("https://example.org/cat.png"), ImagePart("https://example.org/dog.png")
FILES = {CAT: "file-cat", DOG: "file-dog", AudioPart("AAAA", "wav"): "file-sound"}


def converted(*messages: Message, options: ConvertOptions | None = None, **fields: Any) -> list[dict[str, Any]]:
    request = ChatRequest("m", messages, **fields)
    body = translate(request, "GigaChat-2", options or ConvertOptions(), FILES).body
    found: list[dict[str, Any]] = body["messages"]
    return found


def call(call_id: str, name: str = "look", arguments: str = "{}") -> ToolCall:
    return ToolCall(call_id, name, arguments)


def check_order(messages: list[dict[str, Any]]) -> None:
    """The service's rules about messages, written down apart from the translation."""
    assert messages
    waiting: str | None = None
    for position, message in enumerate(messages):
        role, content = message["role"], message["content"]
        assert role in {"system", "user", "assistant", "function"}
        assert type(content) is str
        assert role != "system" or position == 0
        if role == "function":
            assert message["name"] == waiting
            assert type(json.loads(content)) is dict
            waiting = None
            continue
        assert waiting is None
        if role == "user":
            assert content
            assert len(message.get("attachments", ())) <= 1
        else:
            assert "attachments" not in message
        if (asked := message.get("function_call")) is not None:
            assert role == "assistant"
            assert content == ""
            assert type(asked["arguments"]) is dict
            waiting = asked["name"]
    assert waiting is None


# system messages


def test_system_messages_become_one_at_the_front() -> None:
    """Two system messages, a late one and the developer role are one first message, joined by blank lines."""
    messages = converted(
        Message("system", "First."),
        Message("developer", (TextPart("Second,"), TextPart("going on."))),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("system", "Late."),
        Message("user", "Go on"),
    )
    assert messages == [
        {"role": "system", "content": "First.\n\nSecond,\ngoing on.\n\nLate."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Go on"},
    ]


def test_a_system_message_alone_becomes_the_users() -> None:
    """A conversation of nothing but a system message is sent as the user's, as the service itself reads it."""
    assert converted(Message("system", "Say hello.")) == [{"role": "user", "content": "Say hello."}]


@pytest.mark.parametrize("messages", [(), (Message("assistant", ""),), (Message("system", "  "),)])
def test_nothing_to_answer_is_refused(messages: tuple[Message, ...]) -> None:
    """A conversation without any text is the client's error."""
    with pytest.raises(BadRequest) as refused:
        converted(*messages)
    assert refused.value.param == "messages"


def test_an_empty_system_message_is_left_out() -> None:
    """An empty system message leaves no trace."""
    assert converted(Message("system", ""), Message("user", "Hi")) == [{"role": "user", "content": "Hi"}]


# users


def test_neighbouring_user_texts_are_joined() -> None:
    """The user's neighbouring texts are one message; an assistant between them keeps them apart."""
    messages = converted(
        Message("user", "One"),
        Message("user", (TextPart("Two"),)),
        Message("assistant", "Yes"),
        Message("user", "Three"),
    )
    assert [message["content"] for message in messages] == ["One\n\nTwo", "Yes", "Three"]


def test_empty_user_text_is_a_space() -> None:
    """An empty user message, which some models refuse, is a single space; joined to a text it disappears."""
    assert converted(Message("user", "")) == [{"role": "user", "content": " "}]
    assert converted(Message("user", ""), Message("user", "Hi")) == [{"role": "user", "content": "Hi"}]


def test_each_image_has_its_own_message() -> None:
    """Two images in one message become two messages with one image each, texts beside them, in order."""
    messages = converted(Message("user", (TextPart("Compare"), CAT, DOG, TextPart("these"))))
    assert messages == [
        {"role": "user", "content": "Compare", "attachments": ["file-cat"]},
        {"role": "user", "content": "these", "attachments": ["file-dog"]},
    ]
    messages = converted(Message("user", (CAT, DOG)))
    assert [message["content"] for message in messages] == [" ", " "]


def test_texts_are_not_joined_to_attachments() -> None:
    """A text next to a message with an image stays a message of its own."""
    messages = converted(Message("user", "Before"), Message("user", (CAT,)), Message("user", "After"))
    assert [message.get("attachments") for message in messages] == [None, ["file-cat"], None]


def test_known_files_pass_by_their_id() -> None:
    """A part with a file id of the service needs no upload."""
    messages = converted(Message("user", (TextPart("Read"), FilePart(file_id="known"))))
    assert messages == [{"role": "user", "content": "Read", "attachments": ["known"]}]


def test_an_attachment_without_upload_is_refused() -> None:
    """An attachment is never left out: without its file the request fails, naming the part."""
    with pytest.raises(BadRequest) as refused:
        converted(Message("user", "x"), Message("user", (TextPart("y"), ImagePart("https://example.org/new.png"))))
    assert refused.value.param == "messages[1].content[1]"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_attachments_of_other_roles_are_refused(role: Any) -> None:
    """Only users and tools bring attachments."""
    with pytest.raises(BadRequest) as refused:
        converted(Message(role, (TextPart("x"), CAT)), Message("user", "y"))
    assert refused.value.param == "messages[0].content[1]"


# tool calls


def test_parallel_calls_become_pairs() -> None:
    """Parallel calls are sent one by one, each directly before its own result, in call order."""
    messages = converted(
        Message("user", "Weather?"),
        Message("assistant", "Let me see.", tool_calls=(call("a", "look", '{"city": "Омск"}'), call("b", "ask"))),
        Message("tool", "sunny", tool_call_id="b"),
        Message("tool", '{"t": 1}', tool_call_id="a"),
        Message("user", "And?"),
    )
    assert messages[1:] == [
        {"role": "assistant", "content": "Let me see."},
        {"role": "assistant", "content": "", "function_call": {"name": "look", "arguments": {"city": "Омск"}}},
        {"role": "function", "name": "look", "content": '{"t": 1}'},
        {"role": "assistant", "content": "", "function_call": {"name": "ask", "arguments": {}}},
        {"role": "function", "name": "ask", "content": '{"result":"sunny"}'},
        {"role": "user", "content": "And?"},
    ]


def test_a_system_message_between_call_and_result_does_no_harm() -> None:
    """A late system message among the results is moved away and the pair stays a pair."""
    messages = converted(
        Message("user", "x"),
        Message("assistant", tool_calls=(call("a"),)),
        Message("system", "Be brief."),
        Message("tool", "1", tool_call_id="a"),
    )
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "function"]


def test_images_in_results_follow_the_results() -> None:
    """A result cannot hold an image: it follows as the user's, behind all results."""
    messages = converted(
        Message("user", "x"),
        Message("assistant", tool_calls=(call("a"), call("b"))),
        Message("tool", (TextPart("shot"), CAT), tool_call_id="a"),
        Message("tool", "2", tool_call_id="b"),
        Message("user", "y"),
    )
    assert [message["role"] for message in messages[1:]] == [
        "assistant", "function", "assistant", "function", "user", "user",
    ]  # fmt: skip
    assert messages[2]["content"] == '{"result":"shot"}'
    assert messages[5] == {"role": "user", "content": " ", "attachments": ["file-cat"]}


def test_ids_may_come_again_in_a_later_turn() -> None:
    """Ids need to be unique within one message only: later turns may use them again."""
    turn = (Message("assistant", tool_calls=(call("a"),)), Message("tool", "1", tool_call_id="a"))
    assert len(converted(Message("user", "x"), *turn, *turn)) == 5


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (
            (Message("assistant", tool_calls=(call("a"), call("b"))), Message("tool", "", tool_call_id="a")),
            "[1].tool_calls[1]",
        ),
        ((Message("assistant", tool_calls=(call("a"),)), Message("user", "y")), "[1].tool_calls[0]"),
        ((Message("tool", "1", tool_call_id="a"),), "[1].tool_call_id"),
        ((Message("assistant", tool_calls=(call("a"),)), Message("tool", "1")), "[2].tool_call_id"),
        ((Message("assistant", tool_calls=(call("a"),)), Message("tool", "1", tool_call_id="z")), "[2].tool_call_id"),
        (
            (Message("assistant", tool_calls=(call("a"),)), *[Message("tool", "1", tool_call_id="a")] * 2),
            "[3].tool_call_id",
        ),
        ((Message("assistant", tool_calls=(call("a"), call("a"))),), "[1].tool_calls"),
    ],
    ids=["no result", "user instead", "orphan", "no id", "unknown id", "two results", "two calls"],
)  # fmt: skip
def test_broken_pairs_are_refused(messages: tuple[Message, ...], param: str) -> None:
    """Calls without a result and results without a call are refused, naming the message."""
    with pytest.raises(BadRequest) as refused:
        converted(Message("user", "x"), *messages)
    assert refused.value.param == f"messages{param}"


@pytest.mark.parametrize(
    ("call_id", "sent"),
    [
        (f"call_{STATE}", STATE),
        (f"call_{STATE}_2", STATE),
        ("call_0f8fad5bd9cb469fa16570867728950e", None),
        ("x", None),
    ],
)
def test_the_state_id_goes_back_only_when_wanted(call_id: str, sent: str | None) -> None:
    """The state id inside a call's id is sent with the option, and never without it."""
    messages = (
        Message("user", "x"),
        Message("assistant", tool_calls=(call(call_id),)),
        Message("tool", "1", tool_call_id=call_id),
    )
    assert "functions_state_id" not in converted(*messages)[1]
    assert converted(*messages, options=ConvertOptions(send_state_id=True))[1].get("functions_state_id") == sent


# arbitrary conversations

texts = st.text(max_size=8)
parts = st.lists(
    st.one_of(st.builds(TextPart, texts), st.sampled_from(list(FILES)), st.builds(FilePart, file_id=st.just("f"))),
    max_size=4,
).map(tuple)
users = st.builds(Message, st.just("user"), st.one_of(texts, parts))
systems = st.builds(Message, st.sampled_from(["system", "developer"]), texts)
assistants = st.builds(Message, st.just("assistant"), texts)
results = st.one_of(texts, st.builds(lambda part: (part,), st.builds(TextPart, texts)), parts)


@st.composite
def rounds(draw: st.DrawFn) -> list[Message]:
    """An assistant's message with calls, and results in any order."""
    ids = draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1, max_size=4))
    calls = tuple(ToolCall(known, draw(texts), draw(texts)) for known in ids)
    answers = [Message("tool", draw(results), tool_call_id=known) for known in draw(st.permutations(ids))]
    return [Message("assistant", draw(texts), tool_calls=calls), *answers]


turns = st.one_of(
    users.map(lambda one: [one]), systems.map(lambda one: [one]), assistants.map(lambda one: [one]), rounds()
)
whole = st.lists(turns, min_size=1, max_size=6).map(lambda found: [message for turn in found for message in turn])
anything = st.lists(
    st.one_of(
        users, systems, assistants, st.builds(Message, st.just("tool"), results, tool_call_id=st.sampled_from("abz"))
    ),
    max_size=6,
)


@CALM
@given(whole)
def test_whole_conversations_obey_the_order(messages: list[Message]) -> None:
    """Any conversation whose calls have results is sent, in the service's order."""
    check_order(converted(Message("user", "x"), *messages))


@CALM
@given(anything)
def test_arbitrary_conversations_obey_the_order_or_are_refused(messages: list[Message]) -> None:
    """Whatever a client sends is either refused as its error or sent in the service's order."""
    refusal = None
    try:
        check_order(converted(*messages))
    except BadRequest as refused:
        refusal = refused
    assert refusal is None or str(refusal.param).startswith("messages")
