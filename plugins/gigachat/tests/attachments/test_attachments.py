"""Files of a request, uploaded before it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewaykit.errors import BadRequest, GatewayError, ProviderUnavailable
from gatewaykit.types import (
    AudioPart,
    Call,
    ChatRequest,
    ContentPart,
    FilePart,
    ImagePart,
    Incoming,
    Message,
    Principal,
    TextPart,
)
from gatewaykit_gigachat.attachments import AttachmentOptions, Attachments
from gatewaykit_gigachat.fetch_options import FetchOptions

PNG = b"\x89PNG\r\n\x1a\n"
WAV = b"RIFF\0\0\0\0WAVEfmt "


@dataclass
class Store:
    """Keeps files in memory; uploads wait while ``open`` is not set, and fail while ``failure`` is."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    uploads: list[tuple[bytes, str, str, str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    failure: GatewayError | None = None
    stubborn: bool = False
    deletions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    async def upload(self, data: bytes, filename: str, mime: str, client_id: str) -> str:
        self.uploads.append((data, filename, mime, client_id))
        file_id = f"file-{len(self.uploads)}"
        await self.open.wait()
        if self.failure:
            raise self.failure
        self.files[file_id] = client_id
        return file_id

    async def delete(self, file_id: str, client_id: str) -> None:
        self.deletions.append(file_id)
        assert self.files.pop(file_id) == client_id
        if self.stubborn:
            raise ProviderUnavailable


def image(number: int = 0) -> ImagePart:
    return ImagePart("data:image/png;base64," + base64.b64encode(PNG + bytes([number])).decode())


def call(*parts: ContentPart, role: Any = "user") -> Call:
    incoming = Incoming("POST", "/v1/chat/completions", {}, None, "r")
    messages = (Message("user", "x"), Message(role, (TextPart("y"), *parts)))
    return Call(incoming, Principal("p"), "openai_chat", ChatRequest("m", messages))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def attach(store: Store) -> AsyncIterator[Callable[..., Attachments]]:
    """Makes attachments over the store; closes them at the end."""
    made: list[Attachments] = []

    def make(**options: Any) -> Attachments:
        made.append(Attachments(store, AttachmentOptions(**options)))
        return made[-1]

    yield make
    store.open.set()
    for one in made:
        await one.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks do."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_parts_become_ids(store: Store, attach: Any) -> None:
    """Images, sound and documents are uploaded with name and type; a known id stays."""
    sound = AudioPart(base64.b64encode(WAV).decode(), "wav")
    paper = FilePart(data="data:application/pdf;base64," + base64.b64encode(b"%PDF-1").decode(), filename="a.pdf")
    known = FilePart(file_id="known")
    files = await attach().resolve(call(image(), sound, paper, known), "me")
    assert set(files) == {image(), sound, paper, known}
    assert files[known] == "known"
    assert sorted(store.uploads) == sorted(
        [
            (PNG + b"\0", "image.png", "image/png", "me"),
            (WAV, "audio.wav", "audio/wav", "me"),
            (b"%PDF-1", "a.pdf", "application/pdf", "me"),
        ]
    )


async def test_text_costs_nothing(store: Store, attach: Any) -> None:
    """A request without attachments touches nothing, and being finished twice is no matter."""
    attachments, plain = attach(), call()
    assert await attachments.resolve(plain, "me") == {}
    await attachments.finished(plain, "me")
    await attachments.finished(plain, "me")
    assert store.uploads == []


async def test_the_same_bytes_are_uploaded_once(store: Store, attach: Any, host: Any) -> None:
    """The same image, from data or from an address, again or at the same time, is one upload."""
    host.serve("/a", PNG + b"\0", Content_Type="image/png")
    host.serve("/b", PNG + b"\0")
    fetch = FetchOptions(ports=frozenset({host.port}), allow=lambda address: str(address) == "127.0.0.1")
    attachments = attach(fetch=fetch)
    store.open.clear()
    parts = [image(), ImagePart(f"http://127.0.0.1:{host.port}/a"), ImagePart(f"http://127.0.0.1:{host.port}/b")]
    waiting = [asyncio.create_task(attachments.resolve(call(*parts), "me")) for _ in range(20)]
    await until(lambda: len(host.requests) == 40 and len(store.uploads) > 0)
    store.open.set()
    found = await asyncio.gather(*waiting)
    assert {file_id for files in found for file_id in files.values()} == {"file-1"}
    assert await attachments.resolve(call(image()), "me") == {image(): "file-1"}
    assert len(store.uploads) == 1


async def test_nothing_is_shared_between_clients(store: Store, attach: Any) -> None:
    """Another client's same image is another file."""
    attachments = attach()
    first = await attachments.resolve(call(image()), "me")
    second = await attachments.resolve(call(image()), "you")
    assert first != second
    assert [upload[3] for upload in store.uploads] == ["me", "you"]


async def test_what_is_not_an_image_is_refused(store: Store, attach: Any, host: Any) -> None:
    """A page in place of an image is refused by its type, an image that is none by its bytes."""
    host.serve("/page", PNG, Content_Type="text/html")
    host.serve("/gif", b"GIF89a", Content_Type="image/gif")
    attachments = attach(fetch=FetchOptions(ports=frozenset({host.port}), allow=lambda _: True))
    bad: list[ContentPart] = [ImagePart(f"http://127.0.0.1:{host.port}/{path}") for path in ("page", "gif")]
    bad += [ImagePart("data:image/png;base64,AAAA"), ImagePart("data:image/png;base64,%%"), FilePart()]
    for part in bad:
        with pytest.raises(BadRequest) as refused:
            await attachments.resolve(call(image(), part), "me")
        assert refused.value.param == "messages[1].content[2]"
    assert store.uploads == []


async def test_inner_addresses_are_not_fetched(store: Store, attach: Any, host: Any) -> None:
    """By default no address inside the network is asked."""
    with pytest.raises(BadRequest):
        await attach().resolve(call(ImagePart(f"http://127.0.0.1:{host.port}/a")), "me")
    with pytest.raises(BadRequest):
        await attach().resolve(call(ImagePart("/etc/passwd")), "me")
    assert host.connections == 0


@pytest.mark.parametrize(
    ("options", "parts", "place"),
    [
        ({"max_images": 2}, [image(1), image(1), image(1)], 3),
        ({"max_image_bytes": 8}, [image()], 1),
        ({"max_media_bytes": 20}, [image(1), image(2), image(3)], 3),
        ({"max_audio_bytes": 8}, [AudioPart(base64.b64encode(WAV).decode(), "wav")], 1),
        ({"max_document_bytes": 3}, [FilePart(data="JVBERi0=", filename="a.pdf")], 1),
        ({"max_image_bytes": 8}, [FilePart(data=base64.b64encode(PNG + b"1").decode(), filename="a.png")], 1),
        ({}, [FilePart(data="JVBERi0x", filename="a.pdf"), FilePart(data="JVBERi0y", filename="a.pdf")], 2),
    ],
    ids=["images", "image", "all", "sound", "document", "image file", "documents"],
)
async def test_limits(store: Store, attach: Any, options: Any, parts: list[ContentPart], place: int) -> None:
    """The service's limits are kept before anything is uploaded, naming the part."""
    with pytest.raises(BadRequest) as refused:
        await attach(**options).resolve(call(*parts), "me")
    assert refused.value.param == f"messages[1].content[{place}]"
    assert store.uploads == []


async def test_attachments_of_other_roles_are_left_to_the_translation(store: Store, attach: Any) -> None:
    """What cannot be sent is not uploaded."""
    assert await attach().resolve(call(image(), role="assistant"), "me") == {}
    assert store.uploads == []


# failures


async def test_a_failed_upload_fails_the_request(store: Store, attach: Any) -> None:
    """A failed upload is the request's failure, for all who wait for it, and is tried anew by the next."""
    attachments = attach()
    store.failure = ProviderUnavailable()
    store.open.clear()
    waiting = [asyncio.create_task(attachments.resolve(call(image()), "me")) for _ in range(3)]
    await until(lambda: len(store.uploads) == 1)
    store.open.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ProviderUnavailable] * 3
    store.failure = None
    again = call(image())
    assert await attachments.resolve(again, "me") == {image(): "file-2"}
    await attachments.finished(again, "me")
    await attachments.aclose()
    assert store.files == {}


async def test_one_failure_gives_back_the_others(store: Store, attach: Any) -> None:
    """When one part fails, the files of the others are in nobody's use."""
    attachments = attach(delete="after_call")
    failing = call(image(), AudioPart("AAAA", "wav"))
    with pytest.raises(BadRequest):
        await attachments.resolve(failing, "me")
    await attachments.finished(failing, "me")
    await attachments.aclose()
    assert store.files == {}


async def test_who_leaves_does_not_stop_the_others(store: Store, attach: Any) -> None:
    """A client that leaves during an upload ends its own wait only."""
    attachments = attach(delete="after_call")
    store.open.clear()
    leaving = asyncio.create_task(attachments.resolve(call(image()), "me"))
    staying = asyncio.create_task(attachments.resolve(call(image()), "me"))
    await until(lambda: len(store.uploads) == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    store.open.set()
    assert await staying == {image(): "file-1"}


async def test_an_upload_that_nobody_waits_for_is_removed(store: Store, attach: Any) -> None:
    """When all clients leave during an upload, its file is removed as the policy says."""
    attachments = attach(delete="after_call")
    store.open.clear()
    leaving = asyncio.create_task(attachments.resolve(call(image()), "me"))
    await until(lambda: len(store.uploads) == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    store.open.set()
    await attachments.aclose()
    assert store.deletions == ["file-1"]


# removal


async def test_after_call(store: Store, attach: Any) -> None:
    """With after_call a file is removed when its last user is done, and not before."""
    attachments = attach(delete="after_call")
    first, second = call(image()), call(image())
    await attachments.resolve(first, "me")
    await attachments.resolve(second, "me")
    await attachments.finished(first, "me")
    assert store.deletions == []
    await attachments.finished(second, "me")
    await until(lambda: store.deletions == ["file-1"])


async def test_a_call_that_is_tried_again_keeps_its_files(store: Store, attach: Any) -> None:
    """A call may be resolved more than once; it is finished once."""
    attachments, again = attach(delete="after_call"), call(image())
    await attachments.resolve(again, "me")
    await attachments.resolve(again, "me")
    await attachments.finished(again, "me")
    await until(lambda: store.deletions == ["file-1"])


async def test_after_ttl(store: Store, attach: Any) -> None:
    """With after_ttl a file is removed when its time is over, but not while a call uses it."""
    attachments = attach(ttl=0.05)
    using, done = call(image(1)), call(image(2))
    await attachments.resolve(using, "me")
    await attachments.resolve(done, "me")
    await attachments.finished(done, "me")
    await until(lambda: store.deletions == ["file-2"])
    files = await attachments.resolve(call(image(1)), "me")
    assert files == {image(1): "file-3"}
    assert "file-1" not in store.deletions
    await attachments.finished(using, "me")
    await until(lambda: "file-1" in store.deletions)


async def test_the_least_recently_used_is_forgotten(store: Store, attach: Any) -> None:
    """Beyond its size the cache forgets, and removes, what was used least recently and is not in use."""
    attachments = attach(max_entries=2)
    using = call(image(1))
    await attachments.resolve(using, "me")
    for number in (2, 3, 2, 4):
        one = call(image(number))
        await attachments.resolve(one, "me")
        await attachments.finished(one, "me")
    await until(lambda: len(store.deletions) == 3)
    assert store.deletions == ["file-2", "file-3", "file-4"]
    assert len(store.uploads) == 5
    assert set(store.files) == {"file-1", "file-5"}


async def test_never(store: Store, attach: Any) -> None:
    """With never the files stay, even at the end."""
    attachments, one = attach(delete="never", ttl=0.01), call(image())
    await attachments.resolve(one, "me")
    await attachments.finished(one, "me")
    await attachments.aclose()
    assert store.deletions == []
    assert set(store.files) == {"file-1"}


async def test_closing_removes_what_is_left(store: Store, attach: Any) -> None:
    """At the end all files are removed, but one that a call still uses only when that is done."""
    attachments, using, done = attach(), call(image(1)), call(image(2))
    await attachments.resolve(using, "me")
    await attachments.resolve(done, "me")
    await attachments.finished(done, "me")
    await attachments.aclose()
    assert store.deletions == ["file-2"]
    await attachments.finished(using, "me")
    await attachments.aclose()
    assert store.files == {}


async def test_a_failed_removal_harms_nobody(store: Store, attach: Any) -> None:
    """A file that cannot be removed is no call's failure."""
    attachments, one = attach(delete="after_call"), call(image())
    store.stubborn = True
    await attachments.resolve(one, "me")
    await attachments.finished(one, "me")
    await attachments.aclose()
    assert store.deletions == ["file-1"]


async def test_large_data_is_read_beside_the_loop(store: Store, attach: Any) -> None:
    """Several large images at once arrive whole."""
    large = [
        ImagePart("data:;base64," + base64.b64encode(PNG + bytes([number]) * 300_000).decode()) for number in range(4)
    ]
    files = await attach().resolve(call(*large), "me")
    assert len(set(files.values())) == 4
    assert sorted(len(upload[0]) for upload in store.uploads) == [len(PNG) + 300_000] * 4
