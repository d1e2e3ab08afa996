"""Arguments and results of tool calls as JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit_gigachat.convert.results import arguments_object, result_document

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("sunny", '{"result":"sunny"}'),
        ("", '{"result":""}'),
        (" \n", '{"result":""}'),
        ("[1, 2]", '{"result":[1,2]}'),
        ("42", '{"result":42}'),
        ("null", '{"result":null}'),
        ('"text"', '{"result":"text"}'),
        ('{"a": 1,  "b": [] }', '{"a": 1,  "b": [] }'),
        ('{"a":1}{"b":2}', '{"result":"{\\"a\\":1}{\\"b\\":2}"}'),
        (r'{"a":"\u041e\u043c\u0441\u043a"}', '{"a":"Омск"}'),
        ("NaN", '{"result":"NaN"}'),
        ('{"a":1e999}', '{"result":"{\\"a\\":1e999}"}'),
        ('say "hi"\n', '{"result":"say \\"hi\\""}'),
    ],
)
def test_results_become_one_document(text: str, document: str) -> None:
    """Objects stay, all else is wrapped, and escaped letters are written out."""
    assert result_document(text) == document


@CALM
@given(
    st.one_of(
        st.text(), json_values.map(json.dumps), json_values.map(lambda value: json.dumps(value, ensure_ascii=False))
    )
)
def test_a_result_is_always_one_json_object(text: str) -> None:
    """Whatever a tool answers, the service gets one JSON object, and JSON keeps its value."""
    found = json.loads(result_document(text))
    assert type(found) is dict
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert found == value or found == {"result": value} or found == {"result": text.strip(" \t\r\n")}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"city": "Омск"}', {"city": "Омск"}),
        ("", {}),
        ("  ", {}),
        ('{"city": "Ом', {"arguments": '{"city": "Ом'}),
        ("[1]", {"arguments": [1]}),
        ("null", {"arguments": None}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
)
def test_arguments_become_an_object(text: str, arguments: dict[str, Any]) -> None:
    """The arguments of a call in the history are an object, also where a model wrote something else."""
    assert arguments_object(text) == arguments


@pytest.mark.parametrize(("begin", "end"), [('["\\u0444",', "]"), ('{"\\u0444":', "}")])
def test_no_depth_is_too_deep(begin: str, end: str) -> None:
    """JSON at the very limit of the decoder is sent, as JSON or as text: what could be read can be written."""
    for depth in range(900, 1000):
        nested = begin * depth + "1" + end * depth
        body = {"messages": [{"arguments": arguments_object(nested), "content": result_document(nested)}]}
        assert msgspec.json.encode(body)


@CALM
@given(st.text())
def test_any_arguments_become_an_object(text: str) -> None:
    """No text of arguments fails."""
    assert type(arguments_object(text)) is dict
