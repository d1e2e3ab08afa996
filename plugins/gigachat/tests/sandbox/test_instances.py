"""Values made from JSON Schemas, and the checker they are held against."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit_gigachat.sandbox.instances import instance_of
from gatewaykit_gigachat.sandbox.schema_check import Unsatisfiable, conforms

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.text("abcde_", min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=10,
)


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    least, room = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    keywords = {"minLength": least, "maxLength": least + room, "format": draw(st.sampled_from(["date", "uuid", "x"]))}
    return {"type": "string", **draw(some_of(keywords))}


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    low, room = draw(st.integers(-1000, 1000)), draw(st.integers(3, 1000))
    bounds = {
        draw(st.sampled_from(["minimum", "exclusiveMinimum"])): low,
        draw(st.sampled_from(["maximum", "exclusiveMaximum"])): low + room,
        "multipleOf": draw(st.sampled_from([1, 0.5, 0.1, 2])),
    }
    return {"type": draw(st.sampled_from(["integer", "number"])), **draw(some_of(bounds))}


@st.composite
def some_of(draw: st.DrawFn, keywords: dict[str, Any]) -> dict[str, Any]:
    kept = draw(st.sets(st.sampled_from(sorted(keywords)))) if keywords else set()
    return {name: value for name, value in keywords.items() if name in kept}


@st.composite
def objects(draw: st.DrawFn, children: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(names, children, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    keywords = {
        "required": required,
        "additionalProperties": draw(st.booleans()),
        "minProperties": draw(st.integers(0, len(required))),
        "maxProperties": draw(st.integers(max(1, len(required)), 5)),
        "title": "Thing",
    }
    return {"type": "object", "properties": properties, **draw(some_of(keywords))}


@st.composite
def arrays(draw: st.DrawFn, children: st.SearchStrategy[Any]) -> dict[str, Any]:
    least = draw(st.integers(0, 3))
    keywords = {"items": draw(children), "minItems": least, "maxItems": least + draw(st.integers(0, 3))}
    return {"type": "array", **draw(some_of(keywords))}


def combined(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.builds(lambda options: {"anyOf": options}, st.lists(children, min_size=1, max_size=3))
        | st.builds(lambda child: {"oneOf": [{"type": "null"}, child]}, objects(children))
        | st.builds(lambda child: {"allOf": [child, {"description": "d"}]}, children)
        | st.builds(lambda child: {"$defs": {"it": child}, "allOf": [child]}, children)
    )


leaves = (
    texts()
    | numbers()
    | st.sampled_from([{}, True, {"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"title": "x"}])
    | st.builds(lambda choices: {"enum": choices}, st.lists(json_values, min_size=1, max_size=3))
    | st.builds(lambda value: {"const": value}, json_values)
)
schemas = st.recursive(
    leaves, lambda children: objects(children) | arrays(children) | combined(children), max_leaves=12
)


@CALM
@given(schemas, st.booleans())
def test_instances_fit_their_schema(schema, optional):
    """For any satisfiable schema of the strategy, a value is made, it fits, and it is the same each time."""
    value = instance_of(schema, optional=optional)
    assert conforms(schema, value)
    assert json.dumps(instance_of(schema, optional=optional)) == json.dumps(value)


@CALM
@given(json_values)
def test_any_schema_is_survived(schema):
    """Any JSON as a schema yields a fitting value or the one error."""
    try:
        assert conforms(schema, instance_of(schema))
    except Unsatisfiable:
        return


KEYWORDS = [
    "type",
    "properties",
    "required",
    "items",
    "minItems",
    "enum",
    "anyOf",
    "allOf",
    "$ref",
    "minimum",
    "maxLength",
]


@CALM
@given(
    st.recursive(
        json_values, lambda inner: st.dictionaries(st.sampled_from(KEYWORDS), inner | st.lists(inner)), max_leaves=15
    )
)
def test_malformed_keywords_are_survived(schema):
    """Known keywords with values of any type yield a fitting value or the one error."""
    try:
        assert conforms(schema, instance_of(schema))
    except Unsatisfiable:
        return


@pytest.mark.parametrize(
    ("schema", "fitting", "wrong"),
    [
        ({"type": "integer"}, [1, 1.0, -5], [1.5, True, "1", None]),
        ({"type": "number"}, [1, 1.5], [True, "1"]),
        ({"type": ["string", "null"]}, ["", None], [0, False]),
        ({"enum": [1, "a", None]}, [1, 1.0, "a", None], [True, "b"]),
        ({"const": {"a": [1]}}, [{"a": [1.0]}], [{"a": [True]}, {}]),
        ({"minLength": 2, "maxLength": 3}, ["ab", "abc", 5], ["a", "abcd"]),
        ({"minimum": 1, "exclusiveMaximum": 2}, [1, 1.9, "x"], [0, 2]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
        ({"items": {"type": "string"}, "minItems": 1}, [["a"], "x"], [[], [1]]),
        ({"prefixItems": [{"type": "null"}], "items": False}, [[None], []], [[1], [None, 1]]),
        ({"uniqueItems": True}, [[1, True, "1"]], [[1, 1.0]]),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, [{"a": None}, 5], [{}, {"a": 1}]),
        ({"properties": {"a": True}, "additionalProperties": False}, [{"a": 1}, {}], [{"b": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "1"}]),
        ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["x", 3], [2]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, [2, 3.5], [4, 2.5]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, [None], [1]),
        ({"$ref": "#/missing"}, [], [1]),
        ({"$ref": "https://example.org/"}, [], [1]),
        ({"$ref": "#"}, [], [1]),
        (False, [], [1, None]),
        (True, [1, None], []),
    ],
)
def test_checker(schema, fitting, wrong):
    """The checker tells fitting from other values for each keyword."""
    assert [value for value in fitting if not conforms(schema, value)] == []
    assert [value for value in wrong if conforms(schema, value)] == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True}, ["a", "b"]),
        (
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 2},
                "minItems": 3,
                "uniqueItems": True,
            },
            [1, 2, 0],
        ),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}, ["value", "1-value"]),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 2}, 1.5),
        ({"type": "integer", "maximum": -7, "multipleOf": 5}, -10),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "nested"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, Unsatisfiable),
        ({"type": "integer", "minimum": 2, "maximum": 1}, Unsatisfiable),
        ({"type": "array", "minItems": 10**9}, Unsatisfiable),
        ({"type": "string", "minLength": 10**9}, Unsatisfiable),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, Unsatisfiable),
        ({"enum": []}, Unsatisfiable),
        ({"type": "teapot"}, Unsatisfiable),
        (False, Unsatisfiable),
    ],
)
def test_examples(schema, value):
    """Each kind of schema gives the expected value; impossible and endless ones give the one error."""
    if value is Unsatisfiable:
        with pytest.raises(Unsatisfiable):
            instance_of(schema)
    elif value == "nested":
        assert json.dumps(instance_of(schema)).startswith('{"a": {"a": ')
    else:
        assert instance_of(schema) == value


def test_exponential_schema_is_cut_short():
    """A schema that doubles at each of many levels ends in the one error soon."""
    definitions = {f"l{n}": {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"$ref": f"#/$defs/l{n + 1}"}, "b": {"$ref": f"#/$defs/l{n + 1}"}}} for n in range(11)}  # fmt: skip
    with pytest.raises(Unsatisfiable):
        instance_of({"$ref": "#/$defs/l0", "$defs": {**definitions, "l11": {"type": "object", "properties": {}}}})
