"""Files at the service: upload and deletion over the sandbox."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gatewaykit.errors import BadRequest, GatewayError, NotFound, ProviderBadAnswer, ProviderUnavailable
from gatewaykit.types import FilePart, ImagePart, Message, Target, TextPart
from gatewaykit_gigachat.attachments import FileStore
from gatewaykit_gigachat.connection import Connection, retries_of, trust
from gatewaykit_gigachat.files import GigaChatFiles
from gatewaykit_gigachat.sandbox import B2B
from gatewaykit_gigachat.session import client_id

MODEL = Target("gigachat", "GigaChat-2-Max")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    + chunk(b"IEND", b"")
)


@pytest.fixture
async def store(bench: Any) -> Any:
    """The files of the sandbox."""
    settings = bench.settings(credentials=bench.sandbox.key(B2B), scope=B2B)
    connection = Connection(settings, trust(settings), retries_of(settings))
    yield GigaChatFiles(connection.api, 10.0)
    await connection.aclose()


async def test_upload_and_delete(bench: Any, store: FileStore) -> None:
    """A file is uploaded with its name, its type and its owner, and deleted; deleting it again is no error."""
    file_id = await store.upload(PNG, "dot.png", "image/png", "owner")
    (entry,) = bench.sandbox.journal.entries("/files")
    assert entry.headers["x-client-id"] == "owner"
    assert b'filename="dot.png"' in entry.body
    assert b"image/png" in entry.body
    assert b"general" in entry.body
    await store.delete(file_id, "owner")
    await store.delete(file_id, "owner")
    assert bench.sandbox.stats.deletions == 1


async def test_nobody_deletes_a_foreign_file(store: FileStore) -> None:
    """A file of another client stays, and that is an error."""
    file_id = await store.upload(PNG, "dot.png", "image/png", "owner")
    with pytest.raises(GatewayError):
        await store.delete(file_id, "somebody else")


async def test_uploads_are_tried_again_and_signed_anew(bench: Any, store: FileStore) -> None:
    """A busy server and a revoked token are no reason to fail an upload."""
    await store.upload(PNG, "a.png", "image/png", "owner")
    bench.sandbox.sandbox.tokens.revoke_all()
    bench.sandbox.faults.push("status=503", path="/files")
    assert await store.upload(PNG, "b.png", "image/png", "owner")
    assert bench.sandbox.stats.tokens_issued == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=413; message=Payload too large", BadRequest),
        ("status=400; message=no", BadRequest),
        ("garbage", ProviderBadAnswer),
        ("drop=before", ProviderUnavailable),
    ],
)
async def test_a_failed_upload_is_an_error(bench: Any, store: FileStore, fault: str, kind: type[GatewayError]) -> None:
    """What the service refuses is the client's error, what it garbles is its own."""
    bench.sandbox.faults.push(fault, times=None, path="/files")
    with pytest.raises(kind):
        await store.upload(PNG, "dot.png", "image/png", "owner")


@pytest.mark.parametrize("file_id", ["", "../models", "a/b", "a?b", "x" * 200])
async def test_an_id_is_no_path(bench: Any, store: FileStore, file_id: str) -> None:
    """What is no id is not sent."""
    with pytest.raises(BadRequest):
        await store.delete(file_id, "owner")
    assert not bench.sandbox.stats.requests


async def test_an_image_goes_along_with_its_message(bench: Any) -> None:
    """An image in a request is uploaded once for its tenant, named in the message, and readable by that call."""
    provider = bench.provider()
    image = ImagePart("data:image/png;base64," + base64.b64encode(PNG).decode())
    message = Message("user", (TextPart("What is this?"), image))
    for _ in range(2):
        call = bench.call(messages=(message,))
        assert (await provider.complete(call, MODEL)).choices[0].text
        call.request = structs.replace(call.chat, stream=True)
        assert [event async for event in provider.stream(call, MODEL)]
    assert bench.sandbox.stats.uploads == 1
    upload, chat = bench.sandbox.journal.entries("/files")[0], bench.sandbox.journal.entries("/chat/completions")[0]
    assert upload.headers["x-client-id"] == chat.headers["x-client-id"] == client_id("tenant")
    assert len(msgspec.json.decode(chat.body)["messages"][-1]["attachments"]) == 1
    await provider.complete(bench.call(messages=(message,), tenant="other"), MODEL)
    assert bench.sandbox.stats.uploads == 2
    await provider.aclose()
    assert bench.sandbox.stats.deletions == 2


async def test_deletions_do_not_hold_up_the_end(bench: Any, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """A service that does not answer a deletion delays the stop by its limit only, and the log says what stays."""
    monkeypatch.setattr("gatewaykit_gigachat.provider._DELETIONS_END", 0.1)
    provider = bench.provider()
    image = ImagePart("data:image/png;base64," + base64.b64encode(PNG).decode())
    await provider.complete(bench.call(messages=(Message("user", (image,)),)), MODEL)
    bench.sandbox.faults.push("delay=60")
    async with asyncio.timeout(10):
        await provider.aclose()
    assert any("stay at the service" in line for line in logged)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_upload_that_is_gone_is_made_again(bench: Any, streamed: bool) -> None:
    """A file that somebody else deleted at the service is uploaded anew by the next call that brings it along."""
    provider = bench.provider()
    image = ImagePart("data:image/png;base64," + base64.b64encode(PNG).decode())
    call = bench.call(messages=(Message("user", (image,)),))
    await provider.complete(call, MODEL)
    (sent,) = bench.sandbox.journal.entries("/chat/completions")
    (file_id,) = msgspec.json.decode(sent.body)["messages"][-1]["attachments"]
    store = GigaChatFiles(next(iter(vars(provider)["_members"].values()))[0].api, 10.0)
    await store.delete(file_id, client_id("tenant"))
    if streamed:
        assert await bench.events(provider, call)
    else:
        assert (await provider.complete(call, MODEL)).choices[0].text
    assert bench.sandbox.stats.uploads == 2


async def test_a_file_that_is_missing_is_not_uploaded_in_vain(bench: Any) -> None:
    """Where the service misses a file of the client's own, what the call brought along is uploaded once."""
    provider = bench.provider()
    image = ImagePart("data:image/png;base64," + base64.b64encode(PNG).decode())
    message = Message("user", (image, FilePart("4f1c5a2e-0000-4000-8000-000000000000")))
    with pytest.raises(NotFound):
        await provider.complete(bench.call(messages=(message,)), MODEL)
    assert bench.sandbox.stats.uploads == bench.sandbox.stats.requests["/chat/completions"] == 1


async def test_uploads_can_end_with_the_call(bench: Any) -> None:
    """With ``delete = "after_call"`` nothing stays behind."""
    provider = bench.provider(attachments={"delete": "after_call"})
    image = ImagePart("data:image/png;base64," + base64.b64encode(PNG).decode())
    await provider.complete(bench.call(messages=(Message("user", (image,)),)), MODEL)
    await bench.until(lambda: bench.sandbox.stats.deletions == 1)
