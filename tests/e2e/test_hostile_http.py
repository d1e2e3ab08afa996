"""What is hardly HTTP any more gets an answer that fits, and the gateway serves on."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator

import pytest

from gatewaykit.serving import heads

from .raw import CHAT, PATIENCE, answered, chat, connected, request
from .world import GIGACHAT, GPT, KEY, LIMITED_KEY, PROMPT, World, inhabited, unharmed


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """No test leaves a task or a call behind, and the gateway answers afterwards as before."""
    with unharmed(world):
        yield
        assert answered(world, request(body=chat())).status == 200


# heads

NO_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "zeros": b"\0" * 1000 + b"\r\n\r\n",
    "no version": b"GET /v1/models\r\n\r\n",
    "unknown method": b"BREW /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    "header without colon": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
    "space in a header's name": b"GET /v1/models HTTP/1.1\r\nHost : a\r\n\r\n",
    "zero in a header": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "two lengths": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunk size": b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bytes in the path": b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http(world: World, name: str) -> None:
    """What cannot be read is answered with a 4xx and no more, and the connection is closed."""
    with connected(world) as connection:
        connection.send(NO_HTTP[name])
        received = connection.receive_all()
    assert re.match(rb"HTTP/1\.1 4\d\d ", received), received
    assert b"Traceback" not in received


HUGE = {
    "one header": b"GET /v1/models HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /v1/models HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "address": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "head without end": b"GET /v1/models HTTP/1.1\r\nX: " + b"x" * 1_000_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_head(world: World, name: str) -> None:
    """A head beyond the limit is a 431, or a closed connection if its sender does not stop sending."""
    with connected(world) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(HUGE[name])
        received = connection.receive_all()
    assert received == b"" or received.startswith(b"HTTP/1.1 431 ")


def test_a_huge_head_has_an_error_body(world: World) -> None:
    """The 431 of a head that is complete says what is wrong in OpenAI's shape."""
    answer = answered(world, HUGE["one header"])
    assert answer.status == 431
    assert answer.error["code"] == "header_too_large"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A gateway that waits for no head."""
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.3)
    with inhabited() as made:
        yield made


def test_a_head_that_does_not_come(hasty: World) -> None:
    """A head that is never finished is a 408, also on a connection that served before; silence is just closed."""
    half = b"GET /livez HTTP/1.1\r\nHost: a\r\nX: "
    with connected(hasty) as silent, connected(hasty) as begun, connected(hasty) as again:
        begun.send(half)
        again.send(request("GET", "/livez"))
        assert again.answer().status == 200
        again.send(half)
        assert silent.receive_all() == b""
        for connection in (begun, again):
            answer = connection.answer()
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
            assert connection.receive_all() == b""


def test_an_idle_connection_is_kept(hasty: World) -> None:
    """Between two requests there may be more time than within one, and an answer may take longer still."""
    with connected(hasty) as connection:
        for _ in range(2):
            connection.send(request(body=chat("say 12 words [[fault: slow=0.1]]", GIGACHAT, stream=True)))
            assert b"word12" in connection.answer().body
            connection.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.socket.recv(1)
            connection.socket.settimeout(PATIENCE)


def test_two_requests_in_one_write(world: World) -> None:
    """Requests that are sent without waiting are answered in their order."""
    first, second = chat("say 2 words", GPT), chat("say 3 words", GIGACHAT)
    with connected(world) as connection:
        connection.send(request(body=first) + request(body=second) + request("GET", "/livez"))
        texts = [connection.answer() for _ in range(3)]
    assert [answer.status for answer in texts] == [200, 200, 200]
    assert b"word2" in texts[0].body
    assert b"word3" not in texts[0].body
    assert b"word3" in texts[1].body
    assert texts[2].body == b'{"status":"ok"}'


def test_a_refusal_keeps_the_connection(world: World) -> None:
    """A bad request does not spoil the connection for the next one."""
    with connected(world) as connection:
        for body, status in ((b"{", 400), (chat(), 200), (b"[]", 400), (chat(), 200)):
            connection.send(request(body=body))
            assert connection.answer().status == status


# methods and paths


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods(world: World, method: str) -> None:
    """Another method on a path of the API is a 405 that names the right ones."""
    answer = answered(world, request(method, CHAT), method)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert answer.error["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_other_methods_for_models(world: World, method: str) -> None:
    """The list of models can only be read."""
    answer = answered(world, request(method, "/v1/models"), method)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


PATHS = [
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/v1/chat//completions",
    "/V1/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0aX-Evil:%201",
    "/v1/chat/completions/..%2f..%2fetc/passwd",
    "/v1/../../etc/passwd",
    "/v1/%ff%fe",
    "/v1/" + "a/" * 5000,
    "/%%%",
    "/v1/chat/completions;x=1",
    "/.env",
    "/admin/../v1/chat/completions",
]


@pytest.mark.parametrize("path", PATHS)
def test_absurd_paths(world: World, path: str) -> None:
    """A path that is not exactly one of the gateway's is a 404 in OpenAI's shape."""
    answer = answered(world, request("POST", path, chat()))
    assert answer.status == 404
    assert answer.error["code"] == "not_found"
    assert "x-evil" not in answer.headers


SAME_PATHS = [
    "/v1/chat/completions",
    "/v1/chat/completions?api_key=x&x=%00",
    "/v1/chat/%63ompletions",
    "http://evil.example/v1/chat/completions",
]


@pytest.mark.parametrize("path", SAME_PATHS)
def test_other_spellings_of_a_path(world: World, path: str) -> None:
    """Percent-encoding, a query and the absolute form change nothing about what a path is."""
    assert answered(world, request("POST", path, chat())).status == 200
    assert answered(world, request("POST", path, chat(), key=None)).status == 401


@pytest.mark.parametrize(
    "name", ["no/such/model", "%2e%2e%2f", "%ff", "x" * 9000, "%00", "%0d%0aX-Evil:1", "GigaChat/"]
)
def test_absurd_models(world: World, name: str) -> None:
    """A model's name may be anything; one that is not there is a 404."""
    answer = answered(world, request("GET", f"/v1/models/{name}"))
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    "name", ["no\r\nX-Evil: 1", "\ud800", "a/b/c", "gigachat/", "/GigaChat", "openai/../x", "*", "\0"]
)
def test_absurd_models_in_a_request(world: World, name: str) -> None:
    """So it is in a request for an answer, and the name reaches no header."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": PROMPT}]}).encode()
    answer = answered(world, request(body=body))
    assert answer.status in {400, 404}
    assert answer.error["param"] == "model" or answer.status == 400
    assert "x-evil" not in answer.headers


# headers

KEYS = {
    "none": [],
    "empty": ["Authorization: "],
    "empty bearer": ["Authorization: Bearer "],
    "no scheme": [f"Authorization: {KEY}"],
    "basic": [f"Authorization: Basic {KEY}"],
    "two in one": [f"Authorization: Bearer {KEY}, Bearer {KEY}"],
    "wrong then right": ["Authorization: Bearer wrong-key-0123456789", f"Authorization: Bearer {KEY}"],
    "right then wrong": [f"Authorization: Bearer {KEY}", "Authorization: Bearer wrong-key-0123456789"],
    "right twice": [f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"],
    "limited and main": [f"Authorization: Bearer {LIMITED_KEY}", f"Authorization: Bearer {KEY}"],
    "latin letters": ["Authorization: Bearer clé-0123456789-0123456789"],
    "bytes": ["Authorization: Bearer \xff\xfe\x80\x81"],
    "long": ["Authorization: Bearer " + "k" * 60_000],
    "its digest": ["Authorization: Bearer sha256:" + "0" * 64],
    "wrong x-api-key": ["x-api-key: wrong-key-0123456789"],
    "empty x-api-key": ["x-api-key: "],
    "query": [],
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_open_nothing(world: World, name: str) -> None:
    """No key, two keys, and keys of any letters are a 401 in OpenAI's shape, and name the way to come in."""
    path = f"{CHAT}?key={KEY}&api_key={KEY}" if name == "query" else CHAT
    answer = answered(world, request("POST", path, chat(), *KEYS[name], key=None))
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"].startswith("Bearer")


RIGHT_KEYS = [f"x-api-key: {KEY}", f"authorization: bearer {KEY}", f"AUTHORIZATION: BEARER   {KEY}  "]


@pytest.mark.parametrize("header", RIGHT_KEYS)
def test_other_ways_to_give_the_key(world: World, header: str) -> None:
    """The scheme's case does not matter (RFC 9110, 11.1), and Anthropic's header counts too."""
    assert answered(world, request("POST", CHAT, chat(), header, key=None)).status == 200


@pytest.mark.parametrize("given", ["a b", "x" * 200, "<script>", "\xff", "a, b", "", "{}"])
def test_request_ids_that_could_harm(world: World, given: str) -> None:
    """A request id that could do harm in a log or a page is replaced by one of the gateway's."""
    answer = answered(world, request("POST", CHAT, chat(), f"X-Request-ID: {given}"))
    assert answer.status == 200
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("given", ["a b", "x" * 300, "\xff\xfe"])
def test_session_names_that_could_harm(world: World, given: str) -> None:
    """A conversation's name that could not be sent on is refused."""
    answer = answered(world, request("POST", CHAT, chat(model=GIGACHAT), f"X-Session-ID: {given}"))
    assert answer.status == 400
    assert answer.error["param"] == "x-session-id"


UPGRADES = [
    ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"],
    ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
]


@pytest.mark.parametrize("headers", UPGRADES)
def test_upgrades_are_not_taken(world: World, headers: list[str]) -> None:
    """Who wants to speak another protocol is answered in this one."""
    assert answered(world, request("GET", "/v1/models", b"", *headers), "GET").status == 200


@pytest.mark.parametrize("size", [40, 10_000])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("headers", UPGRADES)
def test_a_body_behind_an_upgrade_is_read(world: World, headers: list[str], chunked: bool, size: int) -> None:
    """It belongs to the request, in however many pieces it comes; what follows on the connection is the next one."""
    body = chat()
    whole = request("POST", CHAT, body, *headers)
    if chunked:
        whole = whole.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        whole = whole.removesuffix(body) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with connected(world) as connection:
        for _ in range(2):
            for start in range(0, len(whole), size):
                connection.send(whole[start : start + size])
            assert connection.answer().status == 200
        connection.send(whole + request("GET", "/v1/models", b"", *headers) + request(body=body))
        assert [connection.answer().status for _ in range(3)] == [200, 200, 200]


def test_answers_to_continue(world: World) -> None:
    """A client that asks before it sends its body is told to go on."""
    body = chat()
    head = request("POST", CHAT, body, "Expect: 100-continue").removesuffix(body)
    with connected(world) as connection:
        connection.send(head)
        assert connection.receive().startswith(b"HTTP/1.1 100 ")
        connection.send(body)
        assert connection.answer().status == 200


def test_a_slow_sender(world: World) -> None:
    """A request that comes byte by byte is one request."""
    with connected(world) as connection:
        for byte in request(body=chat()):
            connection.send(bytes([byte]))
        assert connection.answer().status == 200
