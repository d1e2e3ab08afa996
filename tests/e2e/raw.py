"""HTTP by hand, for what no client library would send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from .world import KEY, World

CHAT = "/v1/chat/completions"
PATIENCE = 20.0


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has to be of OpenAI's shape and free of anything internal."""
        assert self.headers["content-type"] == "application/json"
        document = msgspec.json.decode(self.body)
        assert set(document) == {"error"}
        error: dict[str, Any] = document["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
        return error


@contextmanager
def connected(world: World) -> Iterator[Connection]:
    """A connection to the gateway."""
    with socket.create_connection(world.address, timeout=PATIENCE) as made:
        yield Connection(made)


class Connection:
    """A connection, from which answers are read one after the other."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """What has come; nothing when the gateway has closed the connection, in whichever way."""
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def receive_all(self) -> bytes:
        """All that comes until the gateway closes the connection."""
        return b"".join(iter(self.receive, b""))

    def answer(self, method: str = "POST") -> Answer:
        """The next answer, to a request with ``method``. Raises :class:`ConnectionError` when there is none."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b"" if method == "HEAD" else self._body(headers)
        return Answer(int(first.split(" ")[1]), headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._exactly(int(headers["content-length"]))
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            self._exactly(2)
        self._exactly(2)
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        return self._exactly(self._rest.index(mark) + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _more(self) -> None:
        if not (data := self.socket.recv(65536)):
            raise ConnectionError("the gateway closed the connection")
        self._rest += data


def request(method: str = "POST", path: str = CHAT, body: bytes = b"", *headers: str, key: str | None = KEY) -> bytes:
    """A request with a length; ``headers`` are further header lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}", *headers]
    lines += [f"Authorization: Bearer {key}"] if key is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answered(world: World, data: bytes, method: str = "POST") -> Answer:
    """What the gateway answers to ``data``, on a connection of its own."""
    with connected(world) as connection:
        connection.send(data)
        return connection.answer(method)


def chat(text: str = "say 2 words", model: str = "gpt-sandbox", **fields: Any) -> bytes:
    """A chat request's body."""
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": text}], **fields})
