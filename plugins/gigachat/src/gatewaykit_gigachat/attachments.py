"""Images, sound and documents of a request, uploaded to the service before the request is sent.

The same bytes are uploaded once for a client while they are remembered: the key is the client's id at the service, the
kind and the hash of the content, so that nobody is ever given another's file. Uploads are removed by policy, and never
while a call is using them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from msgspec import Struct, field

from gatewaykit.errors import BadRequest, GatewayError
from gatewaykit.types import AudioPart, Call, ChatRequest, ContentPart, FilePart, ImagePart, TextPart
from gatewaykit_gigachat.fetch_options import FetchOptions
from gatewaykit_gigachat.media import File, Modality, audio_file, decoded, image_file, named_file, too_large

if TYPE_CHECKING:
    from gatewaykit_gigachat.safe_fetch import SafeFetcher

logger = logging.getLogger(__name__)

_MB = 1024 * 1024
_SMALL = 64 * 1024
_OPAQUE = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_ROLES = frozenset({"user", "tool"})
_Key: TypeAlias = tuple[str, str, bytes]


class FileStore(Protocol):
    """Where files are kept: the service's ``/files``."""

    async def upload(self, data: bytes, filename: str, mime: str, client_id: str) -> str:
        """The id of the new file, which only ``client_id`` may use. Raises :class:`~gatewaykit.errors.GatewayError`."""
        ...

    async def has(self, file_id: str, client_id: str) -> bool:
        """Whether the account has a file. Raises :class:`~gatewaykit.errors.GatewayError` where it cannot tell."""
        ...

    async def delete(self, file_id: str, client_id: str) -> None:
        """Remove a file. Raises :class:`~gatewaykit.errors.GatewayError`."""
        ...


class AttachmentOptions(Struct, frozen=True):
    """How much may be attached, how long uploads are remembered, and when they are removed.

    ``delete``: ``after_call``, when no call uses it any more; ``after_ttl``, when it is forgotten, that is ``ttl``
    seconds after its upload, beyond ``max_entries``, or at the end; ``never``. Sizes are in bytes; the defaults are the
    service's own limits.
    """

    delete: Literal["after_call", "after_ttl", "never"] = "after_ttl"
    ttl: float = 3600.0
    max_entries: int = 1000
    max_images: int = 10
    max_image_bytes: int = 15 * _MB
    max_audio_bytes: int = 35 * _MB
    max_document_bytes: int = 40 * _MB
    max_media_bytes: int = 80 * _MB
    fetch: FetchOptions = field(default_factory=FetchOptions)


class _Upload(Struct, eq=False):
    """A file at the service, or on its way: ``users`` calls need it, of ``calls`` that ever did, and ``kept`` says that
    new ones may have it.
    """

    key: _Key
    task: asyncio.Task[str]
    users: int = 0
    calls: int = 0
    kept: bool = True
    timer: asyncio.TimerHandle | None = None


class _Lease(Struct, eq=False):
    """What a call uses; holding the call keeps its identity from being given to another."""

    call: Call
    uploads: list[_Upload] = field(default_factory=list)


class Attachments:
    """Uploads what calls bring along. It belongs to one account at the service and to one event loop."""

    def __init__(self, store: FileStore, options: AttachmentOptions | None = None) -> None:
        self._store = store
        self._options = options or AttachmentOptions()
        self._cache: OrderedDict[_Key, _Upload] = OrderedDict()
        self._leases: dict[tuple[int, str], _Lease] = {}
        self._deletions: set[asyncio.Task[None]] = set()

    async def resolve(self, call: Call, client_id: str) -> Mapping[ContentPart, str]:
        """The file ids of all parts of the call's messages that are not text; they live until :meth:`finished`.

        Parts with a ``file_id`` keep it. Raises :class:`~gatewaykit.errors.BadRequest` naming the part that cannot be
        sent, and what the store raises: an answer without the attachment would mislead.
        """
        parts = list(_attached(call))
        if not parts:
            return {}
        self._count_images(parts)
        where: dict[ContentPart, str] = {}
        for part, param in parts:
            where.setdefault(part, param)
        new = {part: param for part, param in where.items() if not _is_known(part)}
        held: list[_Upload] = []
        try:
            files = dict(zip(new, await _all(self._file(part, param) for part, param in new.items()), strict=True))
            self._count_bytes(files, new)
            uploads = {part: self._held(file, client_id, held) for part, file in files.items()}
            ids = dict(zip(uploads, await _all(_id_of(upload) for upload in uploads.values()), strict=True))
        except BaseException:
            self._let_go(held)
            raise
        self._leases.setdefault((id(call), client_id), _Lease(call)).uploads.extend(held)
        return ids | {part: part.file_id for part in where if isinstance(part, FilePart) and part.file_id}

    async def has(self, file_id: str, client_id: str) -> bool:
        """Whether a file that a client names is the account's."""
        return await self._store.has(file_id, client_id)

    def forget(self, call: Call, client_id: str) -> bool:
        """The service misses a file of the call. Whether that may be an upload of an earlier call: such are not used
        again, and :meth:`resolve` makes new ones.
        """
        lease = self._leases.pop((id(call), client_id), None)
        if lease is None:
            return False
        shared = [upload for upload in lease.uploads if upload.calls > 1]
        for upload in shared:
            self._forget(upload)
        self._let_go(lease.uploads)
        return bool(shared)

    async def finished(self, call: Call, client_id: str) -> None:
        """The call needs its files no longer. Calling it again, or without files, does nothing."""
        lease = self._leases.pop((id(call), client_id), None)
        if lease is not None:
            self._let_go(lease.uploads)

    async def aclose(self) -> None:
        """Forget all uploads, remove them if the policy says so, and wait for that."""
        uploads = list(self._cache.values())
        for upload in uploads:
            self._forget(upload)
        while self._deletions:
            await asyncio.gather(*self._deletions)
        if on_their_way := [upload.task for upload in uploads if not upload.task.done()]:
            await asyncio.wait(on_their_way)

    # reading

    async def _file(self, part: ContentPart, param: str) -> File:
        """The checked content of a part, wherever it is."""
        options = self._options
        match part:
            case ImagePart(url=url) if url[:5].lower() != "data:":
                return await self._fetched(url, param)
            case ImagePart(url=url):
                return await _unblocked(url, lambda: image_file(decoded(url, options.max_image_bytes, param)[0], param))
            case AudioPart(data=data, format=kind):
                limit = options.max_audio_bytes
                return await _unblocked(data, lambda: audio_file(decoded(data, limit, param)[0], kind, param))
            case FilePart(data=str(data), filename=filename):
                return await _unblocked(data, lambda: self._named(data, filename, param))
            case _:
                raise BadRequest("This part has neither an id nor data.", param=param)

    @cached_property
    def _fetcher(self) -> SafeFetcher:
        """Made for the first address that comes, in a thread: its HTTP library takes a tenth of a second to import."""
        from gatewaykit_gigachat.safe_fetch import SafeFetcher

        return SafeFetcher(self._options.fetch)

    async def _fetched(self, url: str, param: str) -> File:
        fetcher = await asyncio.to_thread(lambda: self._fetcher)
        found = await fetcher.fetch(url, limit=self._options.max_image_bytes, param=param)
        if found.content_type not in _OPAQUE and not found.content_type.startswith("image/"):
            raise BadRequest("There is no image at this address.", param=param)
        return await asyncio.to_thread(image_file, found.data, param)

    def _named(self, data: str, filename: str | None, param: str) -> File:
        file = named_file(*decoded(data, self._options.max_document_bytes, param), filename, param)
        limit = self._limit(file.kind.modality)
        if len(file.data) > limit:
            raise too_large(limit, param)
        return file

    def _limit(self, modality: Modality) -> int:
        options = self._options
        limits = {"image": options.max_image_bytes, "audio": options.max_audio_bytes}
        return limits.get(modality, options.max_document_bytes)

    def _count_images(self, parts: list[tuple[ContentPart, str]]) -> None:
        images = [param for part, param in parts if isinstance(part, ImagePart)]
        if len(images) > self._options.max_images:
            raise BadRequest(
                f"A request may have at most {self._options.max_images} images.", param=images[self._options.max_images]
            )

    def _count_bytes(self, files: Mapping[ContentPart, File], where: Mapping[ContentPart, str]) -> None:
        media, documents = 0, 0
        for part, file in files.items():
            if file.kind.modality == "document":
                documents += 1
                if documents > 1:
                    raise BadRequest("GigaChat reads only one document in a request.", param=where[part])
            else:
                media += len(file.data)
                if media > self._options.max_media_bytes:
                    raise BadRequest(
                        f"Images and audio of a request may have at most {self._options.max_media_bytes} bytes.",
                        param=where[part],
                    )

    # uploads

    def _held(self, file: File, client_id: str, held: list[_Upload]) -> _Upload:
        """The upload of this file, new or remembered, counted as used."""
        key = (client_id, file.kind.mime, file.digest)
        upload = self._cache.get(key)
        if upload is None:
            task = asyncio.create_task(self._store.upload(file.data, file.filename, file.kind.mime, client_id))
            upload = self._cache[key] = _Upload(key, task)
            task.add_done_callback(lambda _: self._uploaded(upload))
        self._cache.move_to_end(key)
        upload.users += 1
        upload.calls += 1
        held.append(upload)
        self._evict()
        return upload

    def _uploaded(self, upload: _Upload) -> None:
        """An upload is over: forget one that failed, remember the other for its time."""
        if _failed(upload):
            self._forget(upload)
        elif upload.kept:
            upload.timer = asyncio.get_running_loop().call_later(self._options.ttl, self._forget, upload)

    def _evict(self) -> None:
        """Forget the uploads that were used least recently, of those that nobody uses now."""
        excess = len(self._cache) - self._options.max_entries
        if excess > 0:
            idle = (upload for upload in self._cache.values() if not upload.users)
            for upload in [upload for upload, _ in zip(idle, range(excess), strict=False)]:
                self._forget(upload)

    def _forget(self, upload: _Upload) -> None:
        """Nobody new gets this upload; it is removed now, or when its last user is done."""
        if upload.kept:
            upload.kept = False
            del self._cache[upload.key]
            if upload.timer:
                upload.timer.cancel()
            if not upload.users:
                self._remove(upload)

    def _let_go(self, uploads: list[_Upload]) -> None:
        for upload in uploads:
            upload.users -= 1
            if upload.users:
                continue
            if not upload.kept:
                self._remove(upload)
            elif self._options.delete == "after_call":
                self._forget(upload)

    def _remove(self, upload: _Upload) -> None:
        if self._options.delete != "never":
            task = asyncio.create_task(self._deleted(upload))
            self._deletions.add(task)
            task.add_done_callback(self._deletions.discard)

    async def _deleted(self, upload: _Upload) -> None:
        """Delete a file at the service. A failure harms no call: it is logged, and the file stays behind."""
        await asyncio.wait([upload.task])
        if _failed(upload):
            return
        try:
            await self._store.delete(upload.task.result(), upload.key[0])
        except GatewayError as error:
            logger.warning("an uploaded file could not be deleted: %s", error.code)


def _attached(call: Call) -> Iterator[tuple[ContentPart, str]]:
    """All parts to be uploaded, with their names as fields of the request; other roles cannot have any."""
    for index, message in enumerate(call.chat.messages):
        if not isinstance(message.content, str) and message.role in _ROLES:
            for number, part in enumerate(message.content):
                if not isinstance(part, TextPart):
                    yield part, f"messages[{index}].content[{number}]"


def named_files(chat: ChatRequest) -> frozenset[str]:
    """The ids of files that the client uploaded itself."""
    return frozenset(
        part.file_id
        for message in chat.messages
        if not isinstance(message.content, str) and message.role in _ROLES
        for part in message.content
        if isinstance(part, FilePart) and part.file_id is not None
    )


def _is_known(part: ContentPart) -> bool:
    return isinstance(part, FilePart) and part.file_id is not None


def _failed(upload: _Upload) -> bool:
    return upload.task.cancelled() or upload.task.exception() is not None


async def _id_of(upload: _Upload) -> str:
    """The id of the file; who waits may leave, and the upload goes on for the others."""
    return await asyncio.shield(upload.task)


async def _unblocked(text: str, read: Callable[[], File]) -> File:
    """Decode in a thread what would hold up the event loop."""
    return read() if len(text) <= _SMALL else await asyncio.to_thread(read)


async def _all(work: Iterator[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All results in order; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


__all__ = ["AttachmentOptions", "Attachments", "FileStore", "named_files"]
