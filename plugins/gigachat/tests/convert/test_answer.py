"""GigaChat's answers as events, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import GatewayError, ProviderBadAnswer, ProviderUnavailable
from gatewaykit.types import (
    ChatRequest,
    Event,
    Finished,
    Message,
    ReasoningDelta,
    Reply,
    ResponseFormat,
    Started,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from gatewaykit_gigachat.convert import AnswerReader, ConvertOptions, Translation, translate

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

STATE = "0f8fad5b-d9cb-469f-a165-70867728950e"
CALL = {"name": "look", "arguments": {"city": "Омск"}}
USAGE = {"prompt_tokens": 17, "completion_tokens": 3, "total_tokens": 20, "precached_prompt_tokens": 2}


def translation(options: ConvertOptions | None = None, *history: Message, **fields: Any) -> Translation:
    request = ChatRequest("m", (Message("user", "x"), *history), **fields)
    return translate(request, "GigaChat-2", options or ConvertOptions(), {})


def piece(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"delta": delta, "index": 0}
    if finish:
        choice["finish_reason"] = finish
    document = {"choices": [choice], "created": 1768996176, "model": "GigaChat:2.0.28.2", "object": "chat.completion"}
    return document | ({"usage": usage} if usage else {})


def events_of(pieces: list[dict[str, Any]], made: Translation | None = None) -> list[Event]:
    reader = AnswerReader(made or translation())
    return [event for one in pieces for event in reader.read(one)] + reader.end()


def whole(finish: str | None, usage: Any = None, **message: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", **message}, "index": 0, "finish_reason": finish}
    document = {"choices": [choice], "created": 5, "model": "GigaChat-2:1", "object": "chat.completions"}
    return document | ({"usage": usage} if usage else {})


def told(events: list[Event]) -> dict[str, Any]:
    """What events say, however they are cut."""
    return {
        "text": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "reasoning": "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "calls": [(event.name, event.arguments) for event in events if isinstance(event, ToolCallDelta)],
        "finish": [event.reason for event in events if isinstance(event, Finished)],
        "usage": [event for event in events if isinstance(event, Usage)],
    }


def told_whole(reply: Reply) -> dict[str, Any]:
    (choice,) = reply.choices
    return {
        "text": choice.text,
        "reasoning": choice.reasoning,
        "calls": [(call.name, call.arguments) for call in choice.tool_calls],
        "finish": [choice.finish_reason],
        "usage": [reply.usage] if reply.usage else [],
    }


# streams


def test_a_text_stream() -> None:
    """A stream begins with what is known, goes on with its text, and ends with reason and usage."""
    made = translation(seed=1)
    pieces = [piece(content="1, ", role="assistant"), piece(content="2"), piece("stop", USAGE, content="")]
    assert events_of(pieces, made) == [
        Started(model="GigaChat:2.0.28.2", created=1768996176, ignored=("seed",)),
        TextDelta("1, "),
        TextDelta("2"),
        Finished("stop"),
        Usage(17, 3, 2),
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece("function_call", content="", function_call=CALL, functions_state_id=STATE)],
        [piece(content="", function_call=CALL, functions_state_id=STATE), piece("function_call", content="")],
        [piece(function_call=CALL, functions_state_id=STATE), piece("stop")],
    ],
    ids=["same event", "next event", "another reason"],
)
def test_a_call_in_a_stream(pieces: list[dict[str, Any]]) -> None:
    """A function call comes whole, with its state in the id, wherever the finish reason stands."""
    assert events_of(pieces)[1:] == [
        ToolCallDelta(0, id=f"call_{STATE}", name="look", arguments='{"city":"Омск"}'),
        Finished("tool_calls"),
    ]


def test_the_state_of_a_built_in_function_is_no_answer() -> None:
    """Progress of the service's own functions is not part of the text, and their end is an ordinary stop."""
    pieces = [
        piece(role="function_in_progress", name="text2image", content="15", created=1),
        piece(content='<img src="f" fuse="true"/>'),
        piece("function_call", content=""),
    ]
    assert events_of(pieces)[1:] == [TextDelta('<img src="f" fuse="true"/>'), Finished("stop")]


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("blacklist", "content_filter"),
        ("request_filter", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons(reason: str, meaning: str) -> None:
    """Each reason of the service has one meaning, streamed or not."""
    assert events_of([piece(reason, content="x")])[-1] == Finished(meaning)  # type: ignore[arg-type]
    assert AnswerReader(translation()).reply(whole(reason, content="x")).choices[0].finish_reason == meaning


@pytest.mark.parametrize("reason", ["error", "function_call_error"])
def test_a_broken_call_is_an_error(reason: str) -> None:
    """An answer that the model could not finish is never shown as complete."""
    with pytest.raises(ProviderBadAnswer, match="tool call"):
        events_of([piece(content="x"), piece(reason)])
    with pytest.raises(ProviderBadAnswer):
        AnswerReader(translation()).reply(whole(reason, content=""))


def test_reasoning_comes_apart() -> None:
    """Reasoning is not text."""
    pieces = [piece(reasoning_content="Hm. "), piece(reasoning_content="So."), piece("stop", content="Yes")]
    assert events_of(pieces)[1:] == [ReasoningDelta("Hm. "), ReasoningDelta("So."), TextDelta("Yes"), Finished("stop")]


def test_think_tags_become_reasoning_when_wanted() -> None:
    """Leading think tags are reasoning with the option, and text without it."""
    pieces = [piece(content="<thi"), piece(content="nk>Hm.</think>"), piece("stop", content="\nYes")]
    events = events_of(pieces, translation(ConvertOptions(think_tags=True)))
    assert (told(events)["reasoning"], told(events)["text"]) == ("Hm.", "Yes")
    assert told(events_of(pieces))["text"] == "<think>Hm.</think>\nYes"


# the end


@pytest.mark.parametrize("pieces", [[], [piece(content="x")]], ids=["nothing", "no reason"])
def test_a_stream_that_breaks_off_is_an_error(pieces: list[dict[str, Any]]) -> None:
    """A stream without a finish reason is not a whole answer."""
    with pytest.raises(ProviderUnavailable, match="broke off"):
        events_of(pieces)


def test_done_may_stand_for_the_reason() -> None:
    """A stream that said [DONE] is whole, also without a reason; one that said nothing else is not."""
    reader = AnswerReader(translation())
    reader.read(piece(content="x"))
    assert reader.end(done=True) == [Finished("stop")]
    with pytest.raises(ProviderUnavailable):
        AnswerReader(translation()).end(done=True)


@pytest.mark.parametrize("document", [{"status": 500, "message": "Internal Server Error"}, {"error": {"x": 1}}])
def test_an_error_in_place_of_an_event_breaks_the_stream(document: dict[str, Any]) -> None:
    """An error object in mid-stream ends it, and its text stays inside."""
    with pytest.raises(ProviderUnavailable, match="broke off") as broken:
        events_of([piece(content="x"), document])
    assert "Internal Server Error" not in broken.value.message


def test_usage_may_be_missing_or_come_alone() -> None:
    """Usage is no condition of an answer, and may come in an event of its own."""
    assert told(events_of([piece("stop", content="x")]))["usage"] == []
    alone = {"choices": [], "usage": USAGE}
    assert told(events_of([piece("stop", content="x"), alone]))["usage"] == [Usage(17, 3, 2)]
    assert told(events_of([piece("stop", content="x"), {"usage": USAGE}]))["usage"] == [Usage(17, 3, 2)]


@pytest.mark.parametrize(
    ("rule", "usage", "expected"),
    [
        ("auto", {"prompt_tokens": 17, "completion_tokens": 3, "precached_prompt_tokens": 2}, Usage(17, 3, 2)),
        ("auto", {"prompt_tokens": 1, "completion_tokens": 4, "precached_prompt_tokens": 37}, Usage(38, 4, 37)),
        ("yes", {"prompt_tokens": 1, "completion_tokens": 4, "precached_prompt_tokens": 37}, Usage(1, 4, 1)),
        ("no", {"prompt_tokens": 17, "completion_tokens": 3, "precached_prompt_tokens": 2}, Usage(19, 3, 2)),
        ("auto", {"prompt_tokens": 5, "completion_tokens": None}, Usage(5, 0, 0)),
        ("auto", {}, Usage(0, 0, 0)),
    ],
)
def test_cached_tokens(rule: Any, usage: dict[str, Any], expected: Usage) -> None:
    """Cached tokens are part of the input, by the rule that the operator chose."""
    reply = AnswerReader(translation(ConvertOptions(cached_tokens_included=rule))).reply(
        {**whole("stop", content="x"), "usage": usage}
    )
    assert reply.usage == expected


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([(12, 3, 1), (0, 4, 0), (0, 5, 0)], Usage(12, 12, 1)),
        ([(12, 3, 1), (12, 7, 1), (12, 12, 1)], Usage(12, 12, 1)),
        ([(12, 12, 0), (12, 12, 0)], Usage(12, 12, 0)),
    ],
    ids=["increments", "sums", "twice"],
)
def test_usage_in_every_event_is_not_counted_twice(reports: list[tuple[int, int, int]], expected: Usage) -> None:
    """Increments are added up; of running sums the last one counts."""
    usages = [
        {"prompt_tokens": prompt, "completion_tokens": completion, "precached_prompt_tokens": cached}
        for prompt, completion, cached in reports
    ]
    pieces = [piece(None, usage, content="x") for usage in usages[:-1]] + [piece("stop", usages[-1], content="x")]
    assert told(events_of(pieces))["usage"] == [expected]


# stop sequences


def test_a_stop_sequence_cuts_across_events() -> None:
    """Text is cut before a stop sequence, also one that comes in pieces; the rest is read for its usage alone."""
    pieces = [
        piece(content="One E"),
        piece(content="ND two"),
        piece(content="three", function_call=CALL),
        piece("length", USAGE),
    ]
    assert events_of(pieces, translation(stop=("END",)))[1:] == [TextDelta("One "), Finished("stop"), Usage(17, 3, 2)]


def test_the_finish_comes_as_soon_as_the_text_is_cut() -> None:
    """The client learns of the end at once, not when the service has finished."""
    reader = AnswerReader(translation(stop=("END",)))
    assert reader.read(piece(content="x END y"))[1:] == [TextDelta("x "), Finished("stop")]
    assert reader.read(piece(content="z")) == []


def test_text_that_only_began_like_a_stop_is_given_at_the_end() -> None:
    """Held back text is not lost: not at the end, and not before a call."""
    assert told(events_of([piece(content="x EN"), piece("stop")], translation(stop=("END",))))["text"] == "x EN"
    events = events_of([piece(content="EN"), piece("function_call", function_call=CALL)], translation(stop=("END",)))
    assert [type(event) for event in events[1:]] == [TextDelta, ToolCallDelta, Finished]


# calls


def test_a_state_that_came_before_gets_another_id() -> None:
    """Ids of calls are new in the conversation even if the service's state is not."""
    history = (
        Message("assistant", tool_calls=(ToolCall(f"call_{STATE}", "look", "{}"),)),
        Message("tool", "", tool_call_id=f"call_{STATE}"),
    )
    document = whole("function_call", function_call=CALL, functions_state_id=STATE)
    (call,) = AnswerReader(translation(None, *history)).reply(document).choices[0].tool_calls
    assert call.id == f"call_{STATE}_2"


@pytest.mark.parametrize("state", [None, 5, "not a uuid", "x" * 1000, {"a": 1}])
def test_a_call_without_a_sound_state_gets_a_new_id(state: Any) -> None:
    """Only a state that is a UUID goes into the id."""
    document = whole("function_call", function_call=CALL, functions_state_id=state)
    ids = {AnswerReader(translation()).reply(document).choices[0].tool_calls[0].id for _ in range(2)}
    assert len(ids) == 2
    assert all(len(known) == len("call_") + 32 for known in ids)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"a": 1}, '{"a":1}'), ('{"a": 1}', '{"a": 1}'), ({}, "{}"), (None, "{}"), ("", "{}"), ({"q": "я"}, '{"q":"я"}')],
)
def test_arguments_are_json_text(arguments: Any, text: str) -> None:
    """Arguments may come as object or text, and leave as compact JSON in plain UTF-8."""
    document = whole("function_call", function_call={"name": "f", "arguments": arguments})
    assert AnswerReader(translation()).reply(document).choices[0].tool_calls[0].arguments == text


def test_a_forced_answer_function_is_text() -> None:
    """Where a schema is emulated by a function, its arguments are the answer's text and there is no call."""
    schema = ResponseFormat("json_schema", schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    made = translation(ConvertOptions(json_schema="function"), response_format=schema)
    document = whole("function_call", function_call={"name": made.answer_function, "arguments": {"n": 1}})
    (choice,) = AnswerReader(made).reply(document).choices
    assert (choice.text, choice.tool_calls, choice.finish_reason) == ('{"n":1}', [], "stop")


INSIST = ConvertOptions(required_tool="insist")
TOOLS: dict[str, Any] = {"tools": (Tool("look"), Tool("ask")), "tool_choice": "required"}


def test_a_required_call_can_be_insisted_on() -> None:
    """Insisting, nothing is given before the call; without one the answer fails before anything was given."""
    reader = AnswerReader(translation(INSIST, **TOOLS))
    assert reader.read(piece(content="Let me")) == []
    events = reader.read(piece("function_call", function_call=CALL))
    assert [type(event) for event in events] == [Started, TextDelta, ToolCallDelta, Finished]
    reader = AnswerReader(translation(INSIST, **TOOLS))
    assert reader.read(piece(content="No.")) == []
    with pytest.raises(ProviderBadAnswer, match="did not call"):
        reader.read(piece("stop"))


def test_a_filtered_answer_needs_no_call() -> None:
    """What the filter ended is passed on, also when a call was insisted on."""
    events = events_of([piece(content="I may not."), piece("blacklist")], translation(INSIST, **TOOLS))
    assert told(events)["finish"] == ["content_filter"]


def test_a_required_call_is_not_insisted_on_by_default() -> None:
    """By default the answer is passed on as it comes."""
    events = events_of([piece("stop", content="No.")], translation(**TOOLS))
    assert told(events)["text"] == "No."


# whole answers


def test_a_whole_answer() -> None:
    """An answer in one piece has everything that a stream has."""
    reply = AnswerReader(translation(seed=1)).reply(whole("stop", USAGE, content="Hi", reasoning_content="Hm"))
    assert (reply.model, reply.created, reply.ignored, reply.usage) == ("GigaChat-2:1", 5, ("seed",), Usage(17, 3, 2))
    assert told_whole(reply)["text"] == "Hi"
    assert told_whole(reply)["reasoning"] == "Hm"


@pytest.mark.parametrize("document", [whole(None, content="x"), {"choices": []}, {}, {"choices": None, "usage": None}])
def test_half_an_answer_is_an_error(document: dict[str, Any]) -> None:
    """An answer without choices or finish reason is not passed on."""
    with pytest.raises(ProviderBadAnswer):
        AnswerReader(translation()).reply(document)


texts = st.text("ab<think>/ END", max_size=12)


@CALM
@given(
    st.lists(texts, min_size=1, max_size=6),
    st.text(max_size=6),
    st.none() | st.just(CALL),
    st.sampled_from(["stop", "length", "function_call", "blacklist"]),
    st.lists(st.text("ab<END", min_size=1, max_size=4), max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
)
def test_streams_and_whole_answers_agree(
    pieces: list[str], reasoning: str, call: Any, reason: str, stop: tuple[str, ...], think: bool, together: bool
) -> None:
    """However an answer is cut into events, it says the same as in one piece."""
    made = translation(ConvertOptions(think_tags=think), stop=stop)
    last: dict[str, Any] = {"function_call": call} if call else {}
    documents = [piece(reasoning_content=reasoning), *(piece(content=text) for text in pieces)]
    documents += [piece(reason, USAGE, **last)] if together else [piece(**last), piece(reason, USAGE)]
    document = whole(reason, USAGE, content="".join(pieces), reasoning_content=reasoning, **last)
    assert told(events_of(documents, made)) == told_whole(AnswerReader(made).reply(document))


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def or_garbage(sound: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(sound), garbage)


messages = st.fixed_dictionaries(
    {},
    optional={
        "role": or_garbage("assistant"),
        "content": or_garbage("x"),
        "reasoning_content": or_garbage("y"),
        "functions_state_id": or_garbage(STATE),
        "function_call": garbage
        | st.fixed_dictionaries({}, optional={"name": or_garbage("f"), "arguments": or_garbage({})}),
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "delta": garbage | messages,
        "message": garbage | messages,
        "index": or_garbage(0),
        "finish_reason": or_garbage("stop"),
    },
)
counts = st.fixed_dictionaries({}, optional={name: or_garbage(1) for name in USAGE})
documents = garbage | st.fixed_dictionaries(
    {},
    optional={
        "choices": garbage | st.lists(choices | garbage, max_size=2),
        "usage": garbage | counts,
        "model": or_garbage("m"),
        "created": or_garbage(1),
        "status": or_garbage(500),
        "message": or_garbage("m"),
    },
)


@CALM
@given(st.lists(documents, max_size=4), st.booleans())
def test_garbage_is_a_bad_answer(found: list[Any], strange: bool) -> None:
    """Whatever the service sends, there are events or an error of the provider's, and never a defect of ours."""
    made = (
        translation(ConvertOptions(think_tags=True, required_tool="insist"), stop=("EN",)) if strange else translation()
    )
    failure: Exception | None = None
    try:
        events_of([piece(content="x"), *found], made)
    except GatewayError as error:
        failure = error
    assert failure is None or isinstance(failure, ProviderBadAnswer | ProviderUnavailable)
    for document in found:
        try:
            AnswerReader(made).reply(document)
        except GatewayError as error:
            failure = error
        assert failure is None or isinstance(failure, ProviderBadAnswer | ProviderUnavailable)


@CALM
@given(documents)
def test_the_short_way_agrees_with_the_long_one(document: Any) -> None:
    """The quick path for text gives what the general path gives."""

    def outcome(read: Any) -> Any:
        try:
            return read(json.loads(json.dumps(document)))
        except GatewayError as error:
            return type(error)

    quick, slow = AnswerReader(translation()), AnswerReader(translation())
    quick.read(piece(content="x"))
    slow.read(piece(content="x"))
    quick_result, slow_result = outcome(quick.read), outcome(slow._read)
    for result in (quick_result, slow_result):
        for event in result if isinstance(result, list) else ():
            if isinstance(event, ToolCallDelta):
                event.id = ""
    assert quick_result == slow_result
