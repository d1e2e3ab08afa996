"""Reading streams, with no network: pass-through and translation see the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import ProviderBadAnswer, ProviderError, ProviderUnavailable
from gatewaykit.folding import Folder
from gatewaykit.sse import FrameSplitter, payloads
from gatewaykit.types import Finished, Raw, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gatewaykit_openai.course import Course
from gatewaykit_openai.decode import Translation, reply_of
from gatewaykit_openai.passthrough import Passage
from gatewaykit_openai.wire import Answer, AnswerChoice, Said

DONE = b"data: [DONE]\n\n"


def frame(document: object, *, compact: bool = True) -> bytes:
    text = json.dumps(document, separators=(",", ":") if compact else None, ensure_ascii=not compact)
    return f"data: {text}\n\n".encode()


def chunk(delta: object = None, finish: str | None = None, index: int = 0, **more: object) -> dict[str, object]:
    choice = {"index": index, "delta": delta if delta is not None else {}, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "gpt", "choices": [choice], **more}


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = Usage(9, 4, 5, 2)


def course() -> Course:
    return Course(lambda error: ProviderError(str(error)))


def read(reader, pieces):
    """All events of a stream whose network reads are ``pieces``."""
    splitter = FrameSplitter()
    events = []
    for piece in [*pieces, None]:
        block = splitter.flush() if piece is None else splitter.feed(piece)
        if block and not reader.over:
            events += reader.take(block)
    return [*events, *reader.end()]


deltas = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=6)),
    st.builds(lambda text: {"role": "assistant", "content": text, "refusal": None}, st.text(max_size=3)),
    st.builds(lambda text: {"reasoning_content": text, "content": None}, st.text(max_size=6)),
    st.builds(lambda text: {"reasoning": text}, st.text(max_size=6)),
    st.builds(lambda text: {"refusal": text}, st.text(max_size=6)),
    st.builds(
        lambda index, text, first: {
            "tool_calls": [
                {"index": index, "function": {"arguments": text}}
                | ({"id": f"call_{index}", "type": "function"} if first else {})
            ]
        },
        st.integers(0, 2),
        st.text(max_size=5),
        st.booleans(),
    ),
    st.just({}),
)


@st.composite
def conversations(draw):
    """The frames of a whole stream with one or two choices, and whether it says what it used."""
    count = draw(st.integers(1, 2))
    compact = draw(st.booleans())
    said = draw(st.lists(st.tuples(deltas, st.integers(0, count - 1)), max_size=8))
    chunks = [chunk({"role": "assistant", "content": ""}, index=index) for index in range(count)]
    chunks += [chunk(delta, index=index) for delta, index in said]
    chunks += [
        chunk({}, draw(st.sampled_from(["stop", "length", "tool_calls", "eos"])), index=index) for index in range(count)
    ]
    used = draw(st.booleans())
    if used:
        chunks.append({**chunk(), "choices": [], "usage": USAGE})
    return [frame(document, compact=compact) for document in chunks], used


@st.composite
def cut(draw, data: bytes) -> list[bytes]:
    """``data`` in arbitrary pieces."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


@given(conversations(), st.data())
def test_frames_pass_unchanged(conversation, data):
    """Whatever the pieces in which a stream arrives, the client gets the upstream's frames byte for byte."""
    frames, used = conversation
    pieces = data.draw(cut(b"".join(frames) + DONE))
    events = read(Passage(course()), pieces)
    raw = [event for event in events if isinstance(event, Raw)]
    assert b"".join(event.data for event in raw) == b"".join(frames)
    assert events == [*raw, *([COUNTED] if used else [])]
    assert all(event.data.endswith(b"\n\n") for event in raw)


@given(conversations(), st.data())
def test_hidden_usage_is_all_that_is_hidden(conversation, data):
    """When the gateway asked for the usage on its own, the chunk that has it is taken out, and nothing else."""
    frames, used = conversation
    pieces = data.draw(cut(b"".join(frames) + DONE))
    events = read(Passage(course(), hide_usage=True), pieces)
    raw = [event.data for event in events if isinstance(event, Raw)]
    assert b"".join(raw) == b"".join(frames[:-1] if used else frames)
    assert isinstance(events[-1], Usage) == used


@given(conversations(), st.data())
def test_translation_says_what_the_frames_say(conversation, data):
    """Events of a translated stream add up to what the bytes of a passed one say, choice by choice."""
    frames, used = conversation
    events = read(Translation(course()), data.draw(cut(b"".join(frames) + DONE)))
    folder = Folder()
    for event in events:
        folder.add(event)
    reply = folder.reply()
    assert isinstance(events[0], Started)
    assert (reply.model, reply.id, reply.created) == ("gpt", "c1", 7)
    assert reply.usage == (COUNTED if used else None)
    expected = _fold(frames)
    assert {choice.index: _plain(choice) for choice in reply.choices} == expected


def _fold(frames):
    """What plain reading of the frames gives for each choice: text, reasoning, refusal, calls, reason."""
    found: dict[int, list] = {}
    for data in frames:
        for choice in json.loads(payloads(data)[0])["choices"]:
            said = found.setdefault(choice["index"], ["", "", "", {}, None])
            delta = choice["delta"]
            said[0] += delta.get("content") or ""
            said[1] += delta.get("reasoning_content") or delta.get("reasoning") or ""
            said[2] += delta.get("refusal") or ""
            for call in delta.get("tool_calls", ()):
                known = said[3].setdefault(call["index"], ["", ""])
                known[0] = known[0] or call.get("id", "")
                known[1] += call["function"]["arguments"]
            said[4] = choice["finish_reason"] or said[4]
    return {
        index: (text, reasoning, refusal, [tuple(calls[at]) for at in sorted(calls)], "stop" if why == "eos" else why)
        for index, (text, reasoning, refusal, calls, why) in found.items()
    }


def _plain(choice):
    calls = [(call.id, call.arguments) for call in choice.tool_calls]
    return choice.text, choice.reasoning, choice.refusal, calls, choice.finish_reason


@given(conversations())
def test_characters_are_counted(conversation):
    """The estimate of the text that passed is the number of characters that were generated."""
    frames, _ = conversation
    events = read(Passage(course()), [b"".join(frames) + DONE])
    said = _fold(frames).values()
    generated = sum(
        len(text) + len(reasoning) + len(refusal) + sum(len(call[1]) for call in calls)
        for text, reasoning, refusal, calls, _ in said
    )
    assert sum(event.characters for event in events if isinstance(event, Raw)) == generated


@given(conversations(), st.data())
def test_a_cut_stream_is_never_whole(conversation, data):
    """A stream that stops before each choice has its reason and before its end mark is an error in both modes."""
    frames, used = conversation
    whole = b"".join(frames)
    last = len(b"".join(frames[: -2 if used else -1]))
    place = data.draw(st.integers(0, last))
    for reader in (Passage(course()), Translation(course())):
        with pytest.raises((ProviderUnavailable, ProviderBadAnswer)):
            read(reader, [whole[:place]])


READERS = [Passage, Translation]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", ProviderUnavailable),
        (b": nothing\n\n", ProviderUnavailable),
        (b"\n\n\n\n", ProviderUnavailable),
        (DONE, ProviderBadAnswer),
        (b"data: {\n\n", ProviderBadAnswer),
        (b'data: {"choices":[\n\n' + DONE, ProviderBadAnswer),
        (b"data: garbage\n\n" + DONE, ProviderBadAnswer),
        (b"data: 42\n\n" + DONE, ProviderBadAnswer),
        (b"data: {}\n\n" + DONE, ProviderBadAnswer),
        (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n' + DONE, ProviderBadAnswer),
        (b"data: " + b"[" * 4000 + b"\n\n" + DONE, ProviderBadAnswer),
        (b'data: {"choices":' + b"[" * 4000 + b"\n\n" + DONE, ProviderBadAnswer),
        (b"event: message\n\n", ProviderUnavailable),
        (frame({"error": {"message": "no"}}), ProviderError),
        (b"event: error\n" + frame({"error": "no"}), ProviderError),
    ],
)
def test_bad_streams(reader, stream, error):
    """Nothing, comments, garbage, invalid UTF-8 and deep nesting are the provider's fault, and no crash."""
    with pytest.raises(error):
        read(reader(course()), [stream])


@pytest.mark.parametrize("reader", READERS)
def test_what_was_said_before_an_error_is_kept(reader):
    """An error frame in mid-stream ends the stream; the frames before it, even in the same read, still go out."""
    instance = reader(course())
    events = list(instance.take(frame(chunk({"content": "so far"})) + frame({"error": {"message": "down"}}) + DONE))
    assert any(isinstance(event, Raw | TextDelta) for event in events)
    assert instance.over
    with pytest.raises(ProviderError):
        list(instance.end())


def test_odd_documents_pass_where_nobody_needs_to_understand_them():
    """In pass-through a chunk with members of unexpected types goes out as it came; translation refuses it."""
    odd = b'data: {"id":7,"choices":[{"index":"0","delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    assert read(Passage(course()), [odd + DONE]) == [Raw(odd)]
    with pytest.raises(ProviderBadAnswer):
        read(Translation(course()), [odd + DONE])


@pytest.mark.parametrize("reader", READERS)
def test_end_without_mark(reader):
    """A stream that gave every reason and just ends, even without the last blank line, is whole."""
    stream = frame(chunk({"content": "x"})) + frame(chunk({}, "stop")).rstrip(b"\n")
    events = read(reader(course()), [stream])
    assert not isinstance(events[-1], Usage)


@pytest.mark.parametrize("reader", READERS)
def test_end_mark_without_reason(reader):
    """A stream with its end mark is whole even if the upstream gives no reasons; translated, the reason is ``stop``."""
    events = read(reader(course()), [frame(chunk({"content": "x"})) + DONE])
    assert isinstance(events[-1], Raw) or events[-1] == Finished("stop")


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "error"])
def test_an_answer_that_says_it_is_broken_off_is_no_whole_one(reason):
    """A finish reason for a failure of the upstream is a failure in translation, after what was said before; passed
    through, the client reads it itself.
    """
    stream = frame(chunk({"content": "so far"})) + frame(chunk({}, reason)) + DONE
    reader = Translation(course())
    assert reader.take(stream)[1:] == [TextDelta("so far")]
    with pytest.raises(ProviderUnavailable, match="broke off"):
        list(reader.end())
    with pytest.raises(ProviderUnavailable, match="broke off"):
        reply_of(Answer(choices=[AnswerChoice(message=Said("so far"), finish_reason=reason)]))
    assert b"".join(event.data for event in read(Passage(course()), [stream])) + DONE == stream


def test_nothing_follows_the_end_mark():
    """What comes behind the end mark is dropped."""
    first = frame(chunk({"content": "x"}, "stop"))
    assert b"".join(event.data for event in read(Passage(course()), [first + DONE + first])) == first


def test_comments_are_dropped():
    """Comment frames of the upstream are no events: the gateway keeps its own connection alive."""
    first = frame(chunk({"content": "x"}, "stop"))
    assert read(Passage(course()), [b": waiting\n\n", first, DONE]) == [Raw(first, 1)]
    assert list(Passage(course()).take(b": waiting\n\n")) == []


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (USAGE, COUNTED),
        ({"prompt_tokens": 3, "completion_tokens": 1}, Usage(3, 1)),
        ({"prompt_tokens": 3.0, "completion_tokens": None, "prompt_tokens_details": None}, Usage(3, 0)),
        ({"prompt_tokens": -3, "completion_tokens": 1e300}, Usage(0, 0)),
        ({}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_usage_in_the_last_chunk(reader, usage, counted):
    """Usage beside the reason is read and stays in the client's bytes; impossible counts are none."""
    events = read(reader(course()), [frame(chunk({"content": "x"}, "stop", usage=usage)) + DONE])
    assert ([event for event in events if isinstance(event, Usage)] or [None])[-1] == counted
    if reader is Passage:
        assert b"usage" in events[0].data


def test_calls_without_numbers():
    """Tool calls that the upstream does not number are told apart by their ids; object arguments become text."""
    pieces = [
        {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "b", "function": {"name": "g", "arguments": '{"y":'}},
        {"function": {"arguments": "2}"}},
    ]
    stream = b"".join(frame(chunk({"tool_calls": [piece]})) for piece in pieces) + frame(chunk({}, "tool_calls")) + DONE
    events = read(Translation(course()), [stream])
    assert events[1:-1] == [
        ToolCallDelta(0, "a", "f", '{"x":1}'),
        ToolCallDelta(1, "b", "g", '{"y":'),
        ToolCallDelta(1, "", "", "2}"),
    ]
    assert events[-1] == Finished("tool_calls")


def test_log_probabilities_and_parts():
    """Log probabilities come along in OpenAI's shape, and content in parts gives its text."""
    logprobs = {"content": [{"token": "x", "logprob": -0.5}]}
    first = chunk({"content": "x"})
    first["choices"][0]["logprobs"] = logprobs
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "y"}, 3]
    events = read(Translation(course()), [frame(first) + frame(chunk({"content": parts, "reasoning": "r"})) + DONE])
    assert events[1:] == [TextDelta("x", 0, logprobs), ReasoningDelta("r"), TextDelta("y"), Finished("stop")]
