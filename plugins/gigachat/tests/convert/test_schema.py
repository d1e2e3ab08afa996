"""JSON Schemas in GigaChat's dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit_gigachat.convert.references import MAX_WEIGHT, inline_references
from gatewaykit_gigachat.convert.schema import clean_parameters

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TYPES = {"object", "array", "string", "number", "integer", "boolean"}
KEYWORDS = {
    "object": {"properties", "required"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"enum", "format", "pattern", "minLength", "maxLength"},
    "number": {"minimum", "maximum"},
    "integer": {"minimum", "maximum"},
    "boolean": set(),
}
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}},
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["value"],
        }
    },
}


def check_dialect(node: Any) -> None:
    """The dialect's rules, written down apart from the cleaning."""
    assert type(node) is dict
    kind = node["type"]
    assert kind in TYPES
    assert node.keys() <= KEYWORDS[kind] | {"type", "description"}
    assert type(node.get("description", "x")) is str
    if kind == "object":
        for child in node["properties"].values():
            check_dialect(child)
        assert set(node.get("required", ())) <= node["properties"].keys()
    if kind == "array":
        check_dialect(node["items"])
    assert all(type(value) is str for value in node.get("enum", ()))
    assert node.get("enum", ["x"])
    assert node.get("format", "date") in {"date", "time", "date-time"}


def cleaned(schema: Any) -> dict[str, Any]:
    """What becomes of ``schema`` as the schema of a property."""
    whole = clean_parameters({"type": "object", "properties": {"x": schema}, "required": ["x"]}, "p")
    check_dialect(whole)
    found: dict[str, Any] = whole["properties"]["x"]
    return found


def is_required(schema: Any) -> bool:
    whole = clean_parameters({"type": "object", "properties": {"x": schema}, "required": ["x"]}, "p")
    return "x" in whole.get("required", ())


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_parameters_are_an_empty_object(nothing: Any) -> None:
    """A function without parameters has an object without properties."""
    assert clean_parameters(nothing, "p") == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "properties": {}}),
        ({"properties": {}}, {"type": "object", "properties": {}}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"items": {"type": "object"}}, {"type": "array", "items": {"type": "object", "properties": {}}}),
        ({}, {"type": "string"}),
        (True, {"type": "string"}),
        ({"type": "null"}, {"type": "string"}),
        ({"type": ["string", "null"]}, {"type": "string"}),
        ({"type": ["integer", "number"]}, {"type": "number"}),
        ({"type": ["integer", "string"]}, {"type": "string", "description": "One of the types: integer, string"}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "integer"}),
        ({"oneOf": [{"const": "a"}, {"enum": ["b", "a"]}]}, {"type": "string", "enum": ["a", "b"]}),
        (
            {"anyOf": [{"type": "array"}, {"type": "boolean"}], "description": "It"},
            {
                "type": "array",
                "items": {"type": "string"},
                "description": "It (One of the types: array, boolean)",
            },
        ),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, {"type": "integer", "minimum": 1}),
        (
            {"type": "string", "title": "T", "default": "d", "examples": ["e"], "nullable": True, "$schema": "s"},
            {"type": "string"},
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", None, "a"]}, {"type": "string", "enum": ["a"]}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "One of: 1, 2"}),
        (
            {"type": "integer", "const": 3, "description": "It"},
            {"type": "integer", "description": "It (One of: 3)"},
        ),
        ({"enum": ["a", 1]}, {"type": "string", "description": 'One of: "a", 1'}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "string", "format": "uuid"}, {"type": "string"}),
        ({"type": "string", "minLength": 1, "maxLength": "x"}, {"type": "string", "minLength": 1}),
        ({"type": "array", "prefixItems": [{"type": "integer"}]}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": "wrong", "description": 5}, {"type": "string"}),
    ],
)
def test_constructs(schema: Any, expected: dict[str, Any]) -> None:
    """Each construct that the service does not know becomes the nearest that it knows."""
    assert cleaned(schema) == expected


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        ({"type": "string"}, True),
        ({"type": ["string", "null"]}, False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, False),
        ({"anyOf": [{"type": "string"}, {"type": ["integer", "null"]}]}, False),
        ({"type": "string", "nullable": True}, False),
        ({"enum": ["a", None]}, False),
    ],
)
def test_what_may_be_null_may_be_left_out(schema: Any, required: bool) -> None:
    """There is no null: a field that could be null is no longer required."""
    assert is_required(schema) is required


def test_a_union_of_objects_keeps_all_properties() -> None:
    """One object stands for a choice of objects: all properties, of which the common ones are required."""
    node = cleaned(
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
                    "required": ["kind", "x"],
                },
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
            ]
        }
    )
    assert node["properties"] == {"kind": {"type": "string", "enum": ["a", "b"]}, "x": {"type": "integer"}}
    assert node["required"] == ["kind"]


def test_all_of_merges_objects() -> None:
    """Parts that must all fit become one object."""
    node = cleaned(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"a": {"minLength": 2}, "b": {"type": "integer"}}, "required": ["b"]},
            ],
            "anyOf": [{"properties": {"c": {}}}, {"type": "null"}],
        }
    )
    assert node["properties"]["a"] == {"type": "string", "minLength": 2}
    assert node["properties"].keys() == {"a", "b", "c"}
    assert node["required"] == ["a", "b"]


def test_references_are_written_out_and_recursion_ends() -> None:
    """References stand in place; where one leads back into itself there is an empty object."""
    root = clean_parameters(TREE, "p")["properties"]["root"]
    assert root["required"] == ["value"]
    assert root["properties"]["children"]["items"] == {"type": "object", "properties": {}}


def test_words_beside_a_reference_win() -> None:
    """A description beside a reference replaces the target's; escapes in pointers are understood."""
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/definitions/a~1b%20c", "description": "here"}},
        "definitions": {"a/b c": {"type": "integer", "description": "there"}},
    }
    assert clean_parameters(schema, "p")["properties"]["x"] == {"type": "integer", "description": "here"}


def test_data_is_not_searched_for_references() -> None:
    """A property may be called $ref or enum, and data may contain the word."""
    schema = {"properties": {"$ref": {"type": "string"}, "enum": {"type": "integer"}}, "default": {"$ref": "#/no"}}
    assert clean_parameters(schema, "p")["properties"] == {"$ref": {"type": "string"}, "enum": {"type": "integer"}}


@pytest.mark.parametrize(
    "reference", ["#/$defs/No", "https://example.org/schema.json", "#name", "#/properties/x/type", "", "#/$defs/1"]
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str) -> None:
    """A reference outside the schema, or to nothing, is the client's error."""
    with pytest.raises(BadRequest) as refused:
        clean_parameters({"properties": {"x": {"$ref": reference, "type": "string"}}, "$defs": {"a": {}}}, "the.param")
    assert refused.value.param == "the.param"


def doubling(levels: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {
        f"n{level}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/n{level + 1}"} for side in ("left", "right")},
        }
        for level in range(levels)
    }
    return {"type": "object", "properties": {"x": {"$ref": "#/$defs/n0"}}, "$defs": {**nodes, f"n{levels}": {}}}


def nested(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        node = {"type": "object", "properties": {"x": node}}
    return node


@pytest.mark.parametrize(
    "schema",
    [
        doubling(60),
        nested(90),
        nested(50_000),
        {"properties": {f"p{number}": {} for number in range(MAX_WEIGHT + 1)}},
        {
            "properties": {f"p{number}": {"$ref": "#/$defs/long"} for number in range(1000)},
            "$defs": {"long": {"description": "x" * 100_000}},
        },
        {
            "properties": {f"p{number}": {"$ref": "#/$defs/many"} for number in range(1000)},
            "$defs": {"many": {"enum": [str(number) for number in range(1000)]}},
        },
    ],
    ids=["doubling", "deep", "very deep", "many", "long texts", "many values"],
)
def test_a_hostile_schema_is_refused(schema: dict[str, Any]) -> None:
    """Schemas that would grow without measure are refused before they do."""
    with pytest.raises(BadRequest) as refused:
        clean_parameters(schema, "the.param")
    assert refused.value.param == "the.param"


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "string"}, {"anyOf": [{"type": "integer"}]}])
def test_parameters_that_are_no_object_are_refused(schema: dict[str, Any]) -> None:
    """The parameters of a function are an object."""
    with pytest.raises(BadRequest):
        clean_parameters(schema, "p")


def test_the_given_schema_is_not_changed() -> None:
    """Cleaning leaves the client's schema as it was, and gives the same result again."""
    before = json.dumps(TREE)
    assert clean_parameters(TREE, "p") == clean_parameters(TREE, "p")
    assert json.dumps(TREE) == before


def test_inlining_keeps_all_other_words() -> None:
    """For the service's own structured output only references are replaced."""
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/X"}},
        "additionalProperties": False,
        "$defs": {"X": {"anyOf": [{"type": "null"}, {"const": 1}]}},
    }
    assert inline_references(schema, "p") == {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": "null"}, {"const": 1}]}},
        "additionalProperties": False,
    }


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
garbage = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
type_names = st.sampled_from([*sorted(TYPES), "null", "any"])
names = st.sampled_from(["a", "b", "$ref", "enum", "anyOf"])


def schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    members = {
        "type": type_names | st.lists(type_names, max_size=3),
        "properties": st.dictionaries(names, inner, max_size=3),
        "required": st.lists(names, max_size=3),
        "items": inner | lists,
        "prefixItems": lists,
        "anyOf": lists,
        "oneOf": lists,
        "allOf": lists,
        "enum": st.lists(scalars, max_size=3),
        "const": scalars,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b"]),
        "description": st.text(max_size=5),
        "format": st.sampled_from(["date", "uuid"]),
        "nullable": st.booleans(),
        "minimum": st.integers(0, 3),
        "minLength": st.integers(-1, 3),
        "additionalProperties": inner,
        "not": inner,
    }
    sound = st.fixed_dictionaries({}, optional=members)
    broken = st.dictionaries(st.sampled_from(sorted(members.keys() - {"$ref"})), garbage, max_size=3)
    return sound | broken


schemas = st.recursive(st.fixed_dictionaries({"type": type_names}) | garbage, schemas_of, max_leaves=8)


@CALM
@given(st.fixed_dictionaries({"x": schemas, "y": schemas}), st.fixed_dictionaries({"a": schemas, "b": schemas}))
def test_any_schema_comes_out_in_the_dialect(properties: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Whatever a schema contains, the result obeys the dialect, or the schema is refused as the client's error."""
    schema = {"type": "object", "properties": properties, "$defs": definitions}
    try:
        found = clean_parameters(schema, "p")
    except BadRequest as refused:
        refusal = refused.param
    else:
        check_dialect(found)
        refusal = "p"
    assert refusal == "p"
