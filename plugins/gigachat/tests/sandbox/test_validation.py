"""What the sandbox refuses about chat requests, with the service's statuses and texts."""

from __future__ import annotations

from typing import Any

import pytest

from gatewaykit_gigachat.sandbox import SandboxSettings, running_sandbox

USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": {}}}
RESULT = {"role": "function", "name": "f", "content": "{}"}
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {}}}
SYNTAX = "Your request contains invalid JSON syntax."
RESULTLESS = "Invalid params: every assistant function call must have a result in history"
CALLLESS = "Invalid params: every assistant function result must have an assistant function call in history"
LATE_SYSTEM = "Invalid params: system message must be the first message"


def parameters(**properties: Any) -> dict[str, Any]:
    return {"functions": [{"name": "f", "parameters": {"type": "object", "properties": properties}}]}


@pytest.mark.parametrize(
    ("status", "message", "fields"),
    [
        (404, "No such model", {"model": "NonExistentModel"}),
        (404, "No such model", {"model": "Embeddings"}),
        (404, "No such model", {"model": "GigaChat:9.9"}),
        (400, SYNTAX, {"model": None}),
        (400, SYNTAX, {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        (400, SYNTAX, {"messages": [{"role": "user"}]}),
        (400, SYNTAX, {"messages": [{"role": "developer", "content": "hi"}]}),
        (400, SYNTAX, {"messages": "hi"}),
        (400, SYNTAX, {"messages": [{**CALL, "function_call": {"name": "f", "arguments": "{}"}}, RESULT]}),
        (400, SYNTAX, {"temperature": "hot"}),
        (400, SYNTAX, {"temperature": True}),
        (400, SYNTAX, {"temperature": 10**400}),
        (400, SYNTAX, {"max_tokens": 2**31}),
        (400, SYNTAX, {"max_tokens": 1.5}),
        (400, SYNTAX, {"function_call": "required"}),
        (400, SYNTAX, {"response_format": {"type": "text", "schema": {}}}),
        (400, SYNTAX, {"response_format": {"type": "json_schema", "schema": [1]}}),
        (400, 'Unknown type "json_object" in response_format', {"response_format": {"type": "json_object"}}),
        (400, 'Unknown type "regex" in response_format', {"response_format": {"type": "regex", "regex": "a"}}),
        (
            400,
            "Empty schema with json format type is not supported",
            {"response_format": {"type": "json_schema"}},
        ),
        (
            400,
            "Empty schema with json format type is not supported",
            {"response_format": {"type": "json_schema", "schema": {}}},
        ),
        (
            400,
            'Unknown type "json_schema" in response_format',
            {"model": "GigaChat-2", "response_format": {"type": "json_schema", "schema": {"type": "object"}}},
        ),
        (422, "Invalid params: temperature must be in range (0, +inf)", {"temperature": 0}),
        (422, "Invalid params: max_tokens must be in range (0, +inf)", {"max_tokens": 0}),
        (422, "Invalid params: repetition_penalty must be in range (0, +inf)", {"repetition_penalty": 0}),
        (422, "Invalid params: top_p must be in range [0, 1]", {"top_p": 1.1}),
        (422, "Invalid params: update_interval must be in range [0, 3600]", {"update_interval": -1}),
        (422, "Invalid params: reasoning_effort must be one of low, medium, high", {"reasoning_effort": "none"}),
        (422, "Invalid params: messages must not be empty", {"messages": []}),
        (422, LATE_SYSTEM, {"messages": [USER, {"role": "system", "content": "be kind"}]}),
        (422, LATE_SYSTEM, {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}]}),
        (422, RESULTLESS, {"messages": [USER, CALL]}),
        (422, RESULTLESS, {"messages": [USER, CALL, USER, RESULT]}),
        (422, RESULTLESS, {"messages": [USER, CALL, CALL, RESULT]}),
        (422, CALLLESS, {"messages": [USER, RESULT]}),
        (422, CALLLESS, {"messages": [USER, CALL, RESULT, RESULT]}),
        (
            422,
            'Invalid params: invalid function result json string {"a":1}\n{"b":2}, error: JSON parse error at line 2 '
            "column 1: The document root must not be followed by other values.",
            {"messages": [USER, CALL, {**RESULT, "content": '{"a":1}\n{"b":2}'}]},
        ),
        (
            422,
            "Invalid params: invalid function result json string sunny, error: JSON parse error at line 1 column 1: "
            "Invalid value.",
            {"messages": [USER, CALL, {**RESULT, "content": "sunny"}]},
        ),
        (
            422,
            "Invalid params: invalid function result json string , error: JSON parse error at line 1 column 1: "
            "The document is empty.",
            {"messages": [USER, CALL, {**RESULT, "content": ""}]},
        ),
        (
            422,
            "Invalid params: invalid function result json string NaN",
            {"messages": [USER, CALL, {**RESULT, "content": "NaN"}]},
        ),
        (
            422,
            "Invalid params: Invalid function names. Only Latin letters (A-Z or a-z), underscore (_), hyphen (-), "
            "dot (.) and digits (not leading) are allowed.: [1st, погода, a/b]",
            {"functions": [FUNCTION, *({**FUNCTION, "name": name} for name in ("1st", "погода", "a/b"))]},
        ),
        (422, "Field 'properties' is missing", {"functions": [{"name": "f", "parameters": {"type": "object"}}]}),
        (422, "Field 'properties.data.properties' is missing", parameters(data={"type": "object"})),
        (
            422,
            "Field 'properties.rows.items.properties' is missing",
            parameters(rows={"type": "array", "items": {"type": "object"}}),
        ),
        (422, "Field 'parameters' is missing", {"functions": [{"name": "f"}]}),
        (
            422,
            "Requested model does not support functions",
            {"model": "GigaChat-Plus", "functions": [FUNCTION]},
        ),
        (
            422,
            "Invalid params: function_call names 'g', which is not in functions",
            {"functions": [FUNCTION], "function_call": {"name": "g"}},
        ),
        (
            422,
            "Unprocessable Entity",
            {"response_format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 2, "maximum": 1}}},
        ),
        (413, "Payload too large", {"messages": [{"role": "user", "content": "x" * 500_000}]}),
    ],
)
def test_refusal(api, status, message, fields):
    """Each mistake gets its documented status and text, as compact JSON with a newline at the end."""
    answer = api.chat("hi", **fields)
    assert (answer.status_code, answer.json()) == (status, {"status": status, "message": message})
    assert answer.content.endswith(b"}\n")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"model": "GigaChat", }',
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
    ],
)
def test_not_json(api, body):
    """A body that is no JSON object, or nested beyond reason, gets 400 with the generic text."""
    answer = api.http.post("/chat/completions", content=body)
    assert (answer.status_code, answer.json()["message"]) == (400, SYNTAX)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0001, "top_p": 0, "max_tokens": 1000, "repetition_penalty": 1.1, "profanity_check": True},
        {"temperature": None, "top_p": None, "max_tokens": None, "functions": None, "stream": None},
        {"tools": [1], "tool_choice": "auto", "stop": ["a"], "seed": 1, "logit_bias": {}, "user": "u", "metadata": {}},
        {"n": 1, "flags": ["preprocess"], "storage": {"is_stateful": False}, "function_ranker": {"enabled": True}},
        {"model": "GigaChat-2-Max:latest"},
        {"model": "GigaChat-2-Max:2.0.30.01"},
        {"model": "GigaChat-2-Max-preview"},
        {"messages": [{"role": "system", "content": "be kind"}, USER, CALL, {**RESULT, "content": "[1]"}]},
        {"messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": {}}}, RESULT]},
        {"functions": [{"name": "text2image"}, FUNCTION, {**FUNCTION, "name": "_a.b-c9"}]},
        {"functions": [FUNCTION], "messages": [USER, CALL, RESULT]},
        {"response_format": {"type": "text"}},
        {"reasoning_effort": "high"},
    ],
)
def test_accepted(api, fields):
    """What the contract allows, and unsupported fields, are accepted."""
    answer = api.chat("hi", **fields)
    assert answer.status_code == 200, answer.text


def test_strict_fields(open_api):
    """``strict_fields`` refuses unsupported fields with 400 and still takes all documented ones."""
    with running_sandbox(SandboxSettings(strict_fields=True)) as running:
        api = open_api(running)
        for field in ("tools", "stop", "seed", "stream_options", "user"):
            assert api.chat("hi", **{field: None}).json()["message"] == SYNTAX
        assert api.chat("hi", temperature=1, profanity_check=False, flags=[]).status_code == 200


def test_large_body(open_api):
    """A body over the limit gets 413."""
    with running_sandbox(SandboxSettings(max_body=1000)) as running:
        api = open_api(running)
        assert api.chat("x" * 1000).json() == {"status": 413, "message": "Payload too large"}
        assert api.chat("x" * 100).status_code == 200


def test_unknown_paths_and_methods(api):
    """Unknown paths and methods get the API's error shape; unknown v2 paths get the front-end's page."""
    root = api.running.url
    assert api.http.get("/nothing").json() == {"status": 404, "message": "Not Found"}
    assert api.http.delete("/models").json() == {"status": 405, "message": "Method Not Allowed"}
    for path in ("/v2/files", "/api/v2/files"):
        page = api.http.post(root + path)
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html")
    assert api.http.get("/models/GigaChat:!").json() == {"status": 400, "message": "Invalid model version"}


def test_functions_validate(api):
    """A definition is judged with 200 in both cases: errors, or warnings about what is only unwise."""
    good = api.http.post("/functions/validate", json={**FUNCTION, "description": "d"}).json()
    assert good == {"status": 200, "message": "Function is valid", "json_ai_rules_version": "1.0.5", "warnings": []}
    example = {"request": "r", "params": {"place": 1}}
    place = {"type": "object", "properties": {"place": {"type": "string"}}}
    weak = {"name": "f", "parameters": place, "few_shot_examples": [example]}
    locations = [
        entry["schema_location"] for entry in api.http.post("/functions/validate", json=weak).json()["warnings"]
    ]
    assert locations == ["description", "few_shot_examples.0.params"]
    bad = api.http.post("/functions/validate", json={"name": "1", "parameters": {"type": "object"}}).json()
    assert bad["message"] == "Incorrect function syntax"
    assert [entry["schema_location"] for entry in bad["errors"]] == ["name", "properties"]
    assert api.http.post("/functions/validate", json={"name": 1}).status_code == 400
