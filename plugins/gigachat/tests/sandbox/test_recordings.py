"""The sandbox answers recorded requests in the shape in which the service answered them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml

RECORDINGS = Path(__file__).parents[1] / "recordings" / "cassettes"


@cache
def cassettes() -> dict[str, list[Any]]:
    """The recorded exchanges by the name of their cassette."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {
        path.stem: yaml.load(path.read_text(), loader)["interactions"] for path in sorted(RECORDINGS.glob("*.yaml"))
    }


def exchanges() -> list[Any]:
    """Every recorded v1 exchange except those with the token endpoint."""
    return [
        pytest.param(exchange, id=f"{name}-{index}")
        for name, found in cassettes().items()
        for index, exchange in enumerate(found)
        if "/v1/" in exchange["request"]["uri"]
    ]


def token_exchanges() -> list[Any]:
    """The first exchange of each cassette, which is with the token endpoint."""
    return [pytest.param(found[0], id=name) for name, found in cassettes().items()]


def shape(value: Any) -> Any:
    """Keys and types of a JSON value, recursively; the items of a list share one shape."""
    if isinstance(value, dict):
        return {name: shape(child) for name, child in value.items()}
    if isinstance(value, list):
        shapes = [shape(child) for child in value]
        return [shapes[0]] if all(item == shapes[0] for item in shapes) else shapes
    return type(value).__name__


def header(headers: dict[str, list[str]], name: str) -> str:
    return next(values[0] for key, values in headers.items() if key.lower() == name)


def send(api, exchange: dict[str, Any]) -> httpx.Response:
    request = exchange["request"]
    path = request["uri"].split("/v1/")[1]
    headers = {"content-type": "application/json"} if request["body"] else {}
    return api.http.request(request["method"], f"/{path}", content=request["body"], headers=headers)


@pytest.mark.parametrize("exchange", exchanges())
def test_recorded_request_gets_recorded_shape(api, exchange):
    """A recorded v1 request gets the recorded status, content type, headers and JSON shape."""
    recorded = exchange["response"]
    answer = send(api, exchange)
    assert answer.status_code == recorded["status"]["code"]
    assert answer.headers["content-type"] == header(recorded["headers"], "content-type")
    for name in ("x-request-id", "x-session-id", "access-control-allow-headers", "access-control-allow-methods"):
        assert name in {key.lower() for key in recorded["headers"]}
        assert answer.headers[name]
    text = recorded["body"]["string"]
    if text.startswith("data: "):
        ours, middles = stream_shape(answer.text)
        recorded_ends, recorded_middles = stream_shape(text)
        assert ours == recorded_ends
        assert recorded_middles <= middles
    else:
        assert shape(answer.json()) == shape(msgspec.json.decode(text))


def stream_shape(text: str) -> tuple[list[Any], set[bytes]]:
    """The shapes of the first and last events with the end mark, and those of the events between."""
    *datas, done, rest = text.split("\n\n")
    shapes = [msgspec.json.encode(shape(msgspec.json.decode(data.removeprefix("data: ")))) for data in datas]
    return [shapes[0], shapes[-1], done, rest], set(shapes[1:-1])


def test_recordings_are_there():
    """The set holds a chat, a stream, a structured answer, embeddings, a count, a model and two refusals."""
    assert len(exchanges()) == 16


@pytest.mark.parametrize("exchange", exchanges())
def test_json_is_written_as_recorded(api, exchange):
    """Documents are compact, in the recorded order of keys, and errors alone end in a newline."""
    text = exchange["response"]["body"]["string"]
    if text.startswith("data: ") or "/embeddings" in exchange["request"]["uri"]:
        return
    answer = send(api, exchange)
    assert answer.content.endswith(b"\n") == (answer.status_code != 200)
    assert answer.content.strip() == msgspec.json.encode(msgspec.json.decode(answer.content))
    recorded = msgspec.json.decode(text)
    if isinstance(recorded, dict):
        assert list(answer.json()) == list(recorded)


@pytest.mark.parametrize("exchange", token_exchanges())
def test_recorded_token_request_gets_recorded_shape(api, exchange):
    """A recorded token request, with its secrets put back in, gets the recorded status and shape."""
    recorded = msgspec.json.decode(exchange["response"]["body"]["string"])
    if "tok" in recorded:
        answer = api.user_token(api.running.user_key)
    else:
        rquid = exchange["request"]["headers"].get("RqUID", ["736ba29f-7e21-495b-a0a6-ab5003dffc84"])[0]
        answer = api.authorize({"scope": "GIGACHAT_API_PERS"}, api.running.credentials, rquid=rquid)
    assert answer.status_code == exchange["response"]["status"]["code"]
    assert shape(answer.json()) == shape(recorded)
