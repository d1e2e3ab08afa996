"""Whatever is sent, the sandbox answers with an error of the client's making, and stays alive."""

from __future__ import annotations

import socket
import uuid
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KNOWN = {200, 400, 401, 402, 403, 404, 405, 413, 422, 429}
CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text("abc", max_size=4), children, max_size=4),
    max_leaves=12,
)
schemas = st.recursive(
    json_values,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["object", "array", "string", "integer"])},
        optional={
            "properties": st.dictionaries(st.text("ab", max_size=2), inner),
            "items": inner,
            "anyOf": st.lists(inner),
        },
    ),
    max_leaves=6,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "function", "other"])},
        optional={
            "content": st.text(max_size=10) | json_values,
            "function_call": st.fixed_dictionaries({"name": st.just("f"), "arguments": json_values}),
            "attachments": st.lists(st.text(max_size=4), max_size=2) | json_values,
            "name": json_values,
        },
    ),
    max_size=4,
)
chats = st.fixed_dictionaries(
    {"model": st.sampled_from(["GigaChat-3-Ultra", "GigaChat-2", "no", "a:b"]), "messages": messages | json_values},
    optional={
        "functions": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["f", "", "1"]), "parameters": schemas}), max_size=2
        )
        | json_values,
        "function_call": st.sampled_from(["auto", "none", {"name": "f"}]) | json_values,
        "response_format": st.fixed_dictionaries({"type": st.just("json_schema"), "schema": schemas}) | json_values,
        "temperature": json_values,
        "max_tokens": st.integers(1, 50) | json_values,
        "stream": st.booleans() | json_values,
        "update_interval": st.just(0) | st.text(),
        "reasoning_effort": st.just("low") | json_values,
    },
)


@CALM
@given(chats | json_values)
def test_any_chat(api, body):
    """No chat body leads to a server error."""
    assert api.http.post("/chat/completions", json=body).status_code in KNOWN


@CALM
@given(
    st.sampled_from(["/embeddings", "/tokens/count", "/functions/validate", "/chat/completions"]),
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.sampled_from(["Embeddings", "GigaChat"]),
            "input": json_values,
            "name": json_values,
            "parameters": schemas,
        },
    )
    | json_values,
)
def test_any_document(api, path, body):
    """No JSON body leads to a server error on any endpoint."""
    assert api.http.post(path, json=body).status_code in KNOWN


@CALM
@given(
    st.binary(max_size=40), st.sampled_from(["/chat/completions", "/embeddings", "/files", "/token", "/tokens/count"])
)
def test_any_bytes(api, body, path):
    """No bytes as a body lead to a server error."""
    for content_type in ("application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        answer = api.http.post(path, content=body, headers={"content-type": content_type})
        assert answer.status_code in KNOWN
    form = {"authorization": f"Basic {api.running.credentials}", "rquid": str(uuid.uuid4())}
    answer = api.http.post(api.running.auth_url, content=body, headers={**form, "content-type": content_type})
    assert answer.status_code in KNOWN


@CALM
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=12))
def test_any_path_and_header(api, text):
    """No path part and no header value lead to a server error."""
    header = text.strip() if text.isprintable() else text.encode().hex()
    for path in (
        f"/models/{quote(text, safe='')}",
        f"/files/{quote(text, safe='')}",
        f"/files/{quote(text, safe='')}/content",
    ):
        sent = {name: header.encode() for name in ("x-request-id", "x-session-id", "x-client-id")}
        assert api.http.get(path, headers=sent).status_code in KNOWN


@pytest.mark.parametrize(
    "body", [b'{"model":"GigaChat","messages":[{"role":"user","content":"\\ud800"}]}', b"\x00" * 1000]
)
def test_broken_text(api, body):
    """Half a surrogate pair and zero bytes are invalid JSON."""
    assert api.http.post("/chat/completions", content=body).status_code == 400


def test_client_that_leaves_in_its_request(api, until):
    """A client that leaves in the middle of its body is counted and leaves nothing behind."""
    stats = api.running.stats
    before = stats.cancelled_requests
    address = (api.http.base_url.host, api.http.base_url.port)
    with socket.create_connection(address) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        until(lambda: stats.requests["/chat/completions"] > 0)
    until(lambda: stats.cancelled_requests == before + 1)
    assert api.chat("hi").status_code == 200


def test_ten_thousand_words(api):
    """A long answer is whole in both formats."""
    assert api.message("say 10000 words")["content"].count(" ") == 9_999
    assert len(api.stream("say 10000 words")) == 3334 + 2
