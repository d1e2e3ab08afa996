"""Changing a request body in place."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, EmbeddingsRequest, Message
from gatewaykit_openai.body import find_members, prepare
from gatewaykit_openai.embeddings import encode_embeddings
from gatewaykit_openai.encode import encode_chat

ODD = (
    b' {\n"messages" :[ {"role":"user","content":"\\u041f\\ud83d\\ude00 1e3 \\"model\\":"} ],'
    b'\t"model":  "g\\/pt" , "temperature":1e3,"x":1.0,"seed":-0, "stop":[ ] }\r\n'
)

space = st.text(alphabet=" \t\n\r", max_size=3)
names = st.one_of(
    st.sampled_from(["tools", "messages", "n", "stream", 'a"b', "é", "", "content"]), st.text(max_size=6)
).filter(lambda name: name.lower() not in {"model", "stream_options"})
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.text(max_size=8),
    st.sampled_from(["model", '"model":"x"']),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.one_of(names, st.just("model"), st.just("stream_options")), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def written(draw, value) -> str:
    """``value`` as JSON with arbitrary blanks and escapes."""
    if isinstance(value, dict):
        parts = []
        for key, item in value.items():
            parts.append(
                f"{draw(space)}{draw(written(key))}{draw(space)}:{draw(space)}{draw(written(item))}{draw(space)}"
            )
        return "{" + ",".join(parts) + (draw(space) if not parts else "") + "}"
    if isinstance(value, list):
        return "[" + ",".join([draw(space) + draw(written(item)) + draw(space) for item in value]) + "]"
    if isinstance(value, str) and value and draw(st.booleans()):
        units = value.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[at] * 256 + units[at + 1]:04x}" for at in range(0, len(units), 2)) + '"'
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def bodies(draw, options=None):
    """A request as a document, and the same as bytes in an odd spelling."""
    members = draw(st.dictionaries(names, values, max_size=4).filter(lambda d: len({k.lower() for k in d}) == len(d)))
    members["model"] = draw(st.text(max_size=8))
    if options is not None and (given_options := draw(st.none() | options)) is not None:
        members["stream_options"] = given_options
    order = draw(st.permutations(list(members)))
    document = {name: members[name] for name in order}
    text = draw(space) + draw(written(document)) + draw(space)
    return document, text.encode("utf-8")


@given(bodies(), st.text(max_size=8))
def test_model_is_replaced_and_nothing_else(body, model):
    """The result is the same document with another model, and every byte outside the model's value is the same."""
    document, data = body
    changed = prepare(data, model=model)
    assert list(msgspec.json.decode(changed).items()) == [*({**document, "model": model}).items()]
    start, end = find_members(data)["model"]
    assert changed.startswith(data[:start])
    assert changed.endswith(data[end:])
    assert changed[start : len(changed) - (len(data) - end)] == msgspec.json.encode(model)


@given(bodies())
def test_no_change_is_no_change(body):
    """Without a change to make, the very same bytes come back, whatever their spelling."""
    _, data = body
    assert prepare(data) == data


@given(bodies(options=st.one_of(st.just({}), st.dictionaries(st.text(max_size=4), leaves, max_size=2), leaves)))
def test_usage_is_asked_for(body):
    """``stream_options.include_usage`` becomes true, whether options were given or not; their other members stay."""
    document, data = body
    given_options = document.get("stream_options")
    options = {**given_options, "include_usage": True} if isinstance(given_options, dict) else {"include_usage": True}
    changed = msgspec.json.decode(prepare(data, ask_for_usage=True))
    assert changed == {**document, "stream_options": options}


@given(bodies(), st.text(max_size=8))
def test_members_are_found(body, model):
    """Every top-level member is found, with exactly the bytes of its value."""
    document, data = body
    spans = find_members(data)
    assert {name: msgspec.json.decode(data[slice(*span)]) for name, span in spans.items()} == document


def test_odd_spelling_stays():
    """Blanks, escapes, number forms and line ends around the model's value stay as they are."""
    assert prepare(ODD, model="m") == ODD.replace(b'"g\\/pt"', b'"m"')
    assert prepare(ODD) is ODD


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"dear"}',
        b'{"model":"same","model":"same"}',
        b'{"model":"cheap","Model":"dear"}',
        b'{"MODEL":"dear","model":"cheap"}',
        b'{"model":"cheap","mod\\u0065l":"dear"}',
        b'{"mod\\u0065l":"cheap","model":"dear","x":1}',
        b'{"model":"m","n":1,"n":12,"tools":["model"]}',
        b'{"model":"m","n":12,"n":1,"tools":["model"]}',
        b'{"model":"m","messages":["checked"],"messages":["other"]}',
        b'{"model":"m","messages":["checked"],"Messages":["other"]}',
        b'{"model":"m","messages":["checked"],"messa\\u0067es":["other"]}',
    ],
)
@pytest.mark.parametrize("model", [None, "other"])
def test_ambiguous_names_are_refused(body, model):
    """A member that stands there twice, in any spelling, is refused: the upstream might read the other one."""
    with pytest.raises(BadRequest) as caught:
        prepare(body, model=model)
    assert caught.value.param


def test_ambiguous_texts_are_refused():
    """So is what vectors are wanted of; a member of that name further down is another thing."""
    with pytest.raises(BadRequest):
        prepare(b'{"model":"m","input":"checked","INPUT":"other"}', content=b'"input"')
    nested = b'{"model":"m","messages":[],"tools":[{"messages":{"Messages":1}}]}'
    assert prepare(nested) == nested


def test_further_fields_are_no_other_spelling():
    """What a client adds to a translated request is no known field in another spelling either."""
    message = Message("user", "checked")
    with pytest.raises(BadRequest):
        encode_chat(ChatRequest("m", (message,), extra={"Messages": ["other"]}), "m", stream=False)
    with pytest.raises(BadRequest):
        encode_embeddings(EmbeddingsRequest("m", ("checked",), extra={"Input": ["other"]}), "m")
    assert b'"Top_K":1' in encode_chat(ChatRequest("m", (message,), extra={"Top_K": 1}), "m", stream=False)


def test_ambiguous_options_are_refused():
    """Options that stand there twice are refused when the gateway has to change them."""
    with pytest.raises(BadRequest):
        prepare(b'{"model":"m","stream_options":{},"Stream_Options":{}}', ask_for_usage=True)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":', b'"model"', b'{"model":"a"}x', b"[" * 5000])
def test_what_is_no_object_is_refused(body):
    """Bytes that are no JSON object are refused as the client's mistake."""
    with pytest.raises(BadRequest):
        find_members(body)


def test_too_many_fields_are_refused():
    """A body with more top-level fields than any API has is not walked through."""
    many = b'{"model":"m","tools":["model"],' + b",".join(b'"f%d":1' % number for number in range(2000)) + b"}"
    with pytest.raises(BadRequest):
        prepare(many, model="x")
