"""Parameters of a request other than its messages and tools."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, ImagePart, Message, ResponseFormat, TextPart, Tool
from gatewaykit_gigachat.convert import ConvertOptions, Translation, translate

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCHEMA = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
INLINED = {"type": "object", "properties": {"n": {"type": "integer"}}}
JSON_SCHEMA = ResponseFormat("json_schema", name="answer", schema=SCHEMA, strict=True)
LOOK = Tool("look", "looks")


def translated(options: ConvertOptions | None = None, **fields: Any) -> Translation:
    request = ChatRequest("m", (Message("user", "x"),), **fields)
    return translate(request, "GigaChat-2", options or ConvertOptions(), {})


def test_a_plain_request_has_nothing_more() -> None:
    """Only what the client asked for is sent."""
    translation = translated()
    assert translation.body == {"model": "GigaChat-2", "messages": [{"role": "user", "content": "x"}]}
    assert translation.ignored == ()


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"temperature": 0}, {"temperature": 0.0001}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"temperature": 2}, {"temperature": 2}),
        ({"top_p": 0}, {"top_p": 0}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 2**40}, {"max_tokens": 2**31 - 1}),
        ({"reasoning_effort": "medium"}, {"reasoning_effort": "medium"}),
        ({"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "minimal"}, {}),
        ({"reasoning_effort": "none"}, {}),
    ],
)
def test_sampling(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    """Ranges are the service's: temperature 0 is a deterministic tiny value, tokens fit 32 bits."""
    translation = translated(**fields)
    assert {name: translation.body[name] for name in translation.body.keys() - {"model", "messages"}} == sent
    assert translation.ignored == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("n", 2),
        ("stop", ("x",) * 17),
        ("stop", ("x" * 1025,)),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    """A value that cannot be sent is refused by its name."""
    with pytest.raises(BadRequest) as refused:
        translated(**{field: value})
    assert refused.value.param == field


# what is not honoured


def test_unsupported_parameters_are_reported() -> None:
    """Parameters that change nothing although they should are named, as OpenAI names them."""
    translation = translated(
        seed=1,
        logprobs=True,
        top_logprobs=2,
        presence_penalty=1.0,
        frequency_penalty=0.5,
        user="u",
        reasoning_effort="enormous",
        tools=(Tool("look", "looks", strict=True),),
        extra={"logit_bias": {"1": 2}, "metadata": {"a": "b"}, "storage": {"thread_id": "t"}, "unheard_of": 1},
    )
    assert set(translation.ignored) == {
        "seed", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "user", "reasoning_effort",
        "tools.strict", "logit_bias", "metadata", "storage", "unheard_of",
    }  # fmt: skip
    assert translation.body.keys() == {"model", "messages", "functions", "function_call"}


@pytest.mark.parametrize(
    ("detail", "ignored"),
    [("low", ("messages.image_url.detail",)), ("high", ("messages.image_url.detail",)), ("auto", ()), (None, ())],
)
def test_the_detail_of_an_image_is_reported(detail: str | None, ignored: tuple[str, ...]) -> None:
    """How closely an image is to be looked at cannot be said: a wish is named, and no wish is none."""
    image = ImagePart("data:image/png;base64,", detail)
    request = ChatRequest("m", (Message("user", (TextPart("x"), image)),))
    assert translate(request, "GigaChat-2-Max", ConvertOptions(), {image: "file"}).ignored == ignored


def test_neutral_values_are_not_reported() -> None:
    """What only says what would happen anyway is no wish."""
    translation = translated(
        n=1,
        logprobs=False,
        top_logprobs=0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        parallel_tool_calls=True,
        extra={"store": False, "service_tier": "auto", "modalities": ["text"], "logit_bias": {}, "metadata": None},
    )
    assert translation.ignored == ()


def test_unsupported_parameters_can_be_refused() -> None:
    """An operator may refuse what cannot be honoured, by name."""
    with pytest.raises(BadRequest) as refused:
        translated(ConvertOptions(unsupported="refuse"), seed=1)
    assert refused.value.param == "seed"


def test_a_frequency_penalty_can_become_a_repetition_penalty() -> None:
    """With the option the penalty is translated by a rule of thumb, and always greater than 0."""
    options = ConvertOptions(frequency_penalty="repetition_penalty")
    assert translated(options, frequency_penalty=1.0).body["repetition_penalty"] == 1.5
    lowest = translated(options, frequency_penalty=-2.0)
    assert lowest.body["repetition_penalty"] > 0
    assert lowest.ignored == ()


# GigaChat's own fields


def test_own_fields_pass() -> None:
    """Clients may use GigaChat's own fields by their names."""
    extra = {
        "repetition_penalty": 1.1,
        "update_interval": 0,
        "profanity_check": True,
        "flags": ["preprocess"],
        "function_ranker": {"enabled": True, "top_n": 3},
        "additional_data": {"features": {"embedder_model": "E"}},
    }
    translation = translated(extra=extra)
    assert {name: translation.body[name] for name in extra} == extra
    assert translation.ignored == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 0),
        ("repetition_penalty", True),
        ("repetition_penalty", "1"),
        ("update_interval", -1),
        ("profanity_check", "no"),
        ("flags", "preprocess"),
        ("flags", [1]),
        ("function_ranker", {"secret": 1}),
        ("function_ranker", {"enabled": 1}),
        ("additional_data", []),
    ],
)
def test_own_fields_of_a_wrong_kind_are_refused(name: str, value: Any) -> None:
    """GigaChat's own fields are checked before they are sent."""
    with pytest.raises(BadRequest) as refused:
        translated(extra={name: value})
    assert refused.value.param == name


def test_the_operator_has_the_last_word() -> None:
    """A client cannot switch off the filter that the operator switched on; flags add up."""
    options = ConvertOptions(profanity_check=True, flags=("a",))
    translation = translated(options, extra={"profanity_check": False, "flags": ["b", "a"]})
    assert translation.body["profanity_check"] is True
    assert translation.body["flags"] == ["a", "b"]
    assert translation.ignored == ("profanity_check",)


# the answer's form


def test_json_schema_is_native_and_flat() -> None:
    """A schema is sent in the service's own shape, with references written out."""
    translation = translated(response_format=JSON_SCHEMA)
    assert translation.body["response_format"] == {"type": "json_schema", "schema": INLINED, "strict": True}
    assert translation.ignored == ()


def test_json_schema_can_be_a_forced_function() -> None:
    """For models without structured output the answer is the arguments of a forced function."""
    translation = translated(ConvertOptions(json_schema="function"), response_format=JSON_SCHEMA)
    (function,) = translation.body["functions"]
    assert function["parameters"] == INLINED
    assert translation.body["function_call"] == {"name": function["name"]}
    assert translation.answer_function == function["name"]
    assert "response_format" not in translation.body


@pytest.mark.parametrize("mode", ["native", "function"])
def test_a_schema_never_goes_together_with_functions(mode: Any) -> None:
    """While the model may call tools the schema is only asked for, and reported; without tools it is native again."""
    options = ConvertOptions(json_schema=mode)
    both = translated(options, response_format=JSON_SCHEMA, tools=(LOOK,))
    assert "response_format" not in both.body
    assert [function["name"] for function in both.body["functions"]] == ["look"]
    assert '"integer"' in both.body["messages"][0]["content"]
    assert both.ignored == ("response_format",)
    none = translated(response_format=JSON_SCHEMA, tools=(LOOK,), tool_choice="none")
    assert none.body["response_format"]["schema"] == INLINED
    assert "functions" not in none.body
    assert none.ignored == ()


def test_json_object_is_asked_for_and_reported() -> None:
    """JSON without a schema is put in words, or refused if the operator says so."""
    translation = translated(response_format=ResponseFormat("json_object"))
    assert translation.body["messages"][0]["role"] == "system"
    assert "JSON" in translation.body["messages"][0]["content"]
    assert translation.ignored == ("response_format",)
    with pytest.raises(BadRequest) as refused:
        translated(ConvertOptions(json_object="refuse"), response_format=ResponseFormat("json_object"))
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("schema", [None, {}])
def test_an_empty_schema_is_refused(schema: Any) -> None:
    """The service takes no empty schema."""
    with pytest.raises(BadRequest) as refused:
        translated(response_format=ResponseFormat("json_schema", schema=schema))
    assert refused.value.param == "response_format.json_schema.schema"


def test_the_same_request_has_the_same_body() -> None:
    """Translation depends on the request alone: the service's prompt cache needs the same bytes in every turn."""
    fields: dict[str, Any] = {"tools": (Tool("a b"), Tool("c d")), "extra": {"flags": ["x", "y"]}}
    assert repr(translated(**fields).body) == repr(translated(**fields).body)


words = ["repetition_penalty", "flags", "function_ranker", "update_interval", "stream", "model", "tools"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@CALM
@given(st.dictionaries(st.sampled_from(words), values))
def test_unknown_fields_never_reach_the_service(extra: dict[str, Any]) -> None:
    """Whatever a client adds, the service gets only fields that it knows, and never another model."""
    try:
        body = translated(extra=extra).body
    except BadRequest as refused:
        body = {"model": "GigaChat-2", str(refused.param): None}
    known = {"repetition_penalty", "flags", "function_ranker", "update_interval"}
    assert body.keys() <= known | {"model", "messages"}
    assert body["model"] == "GigaChat-2"
