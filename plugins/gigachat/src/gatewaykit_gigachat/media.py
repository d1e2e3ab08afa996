"""Kinds of files that GigaChat takes: their types, limits, and how their content shows what they are."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gatewaykit.errors import BadRequest

Modality: TypeAlias = Literal["image", "audio", "document"]

_DATA_URL = re.compile(r"data:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*)*?)(?P<base64>;base64)?,", re.IGNORECASE)
_NAME = re.compile(r"[^\w .()\-]+")
_MAX_NAME = 100


class Kind(Struct, frozen=True):
    """One kind of file: the suffix of its name, its type for the upload, and the look of its first bytes."""

    suffix: str
    mime: str
    modality: Modality
    fits: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class File:
    """A file ready to be uploaded; ``digest`` is the SHA-256 of its content."""

    data: bytes
    filename: str
    kind: Kind
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.data).digest())


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(starts)


def _is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def _is_wave(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data[8:12] == b"WAVE"


def _is_mp3(data: bytes) -> bool:
    return data.startswith(b"ID3") or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


_zip = _begins(b"PK\x03\x04")
_ole = _begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
_ogg = _begins(b"OggS")

_IMAGES = (
    Kind("jpg", "image/jpeg", "image", _begins(b"\xff\xd8\xff")),
    Kind("png", "image/png", "image", _begins(b"\x89PNG\r\n\x1a\n")),
    Kind("tiff", "image/tiff", "image", _begins(b"II*\0", b"MM\0*")),
    Kind("bmp", "image/bmp", "image", _begins(b"BM")),
)
_AUDIO = (
    Kind("mp3", "audio/mp3", "audio", _is_mp3),
    Kind("wav", "audio/wav", "audio", _is_wave),
    Kind("mp4", "audio/mp4", "audio", _is_mp4),
    Kind("m4a", "audio/x-m4a", "audio", _is_mp4),
    Kind("weba", "audio/webm", "audio", _begins(b"\x1a\x45\xdf\xa3")),
    Kind("ogg", "audio/x-ogg", "audio", _ogg),
    Kind("opus", "audio/opus", "audio", _ogg),
)
_OPEN_XML = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_DOCUMENTS = (
    Kind("pdf", "application/pdf", "document", _begins(b"%PDF-")),
    Kind("txt", "text/plain", "document", _is_text),
    Kind("doc", "application/msword", "document", _ole),
    Kind("docx", _OPEN_XML, "document", _zip),
    Kind("epub", "application/epub", "document", _zip),
    Kind("ppt", "application/ppt", "document", _ole),
    Kind("pptx", "application/pptx", "document", _zip),
    Kind("xlsx", "application/vnd.ms-excel", "document", _zip),
)
_BY_SUFFIX = {kind.suffix: kind for kind in (*_IMAGES, *_AUDIO, *_DOCUMENTS)} | {
    "jpeg": _IMAGES[0],
    "tif": _IMAGES[2],
    "webm": _AUDIO[4],
    "md": _DOCUMENTS[1],
    "csv": _DOCUMENTS[1],
}
_BY_MIME = {kind.mime: kind for kind in (*_IMAGES, *_AUDIO, *_DOCUMENTS)} | {
    "application/epub+zip": _DOCUMENTS[4],
    "application/vnd.ms-powerpoint": _DOCUMENTS[5],
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": _DOCUMENTS[6],
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _DOCUMENTS[7],
}


def image_file(data: bytes, param: str) -> File:
    """The image in ``data``, known by its first bytes, whatever its sender calls it.

    Raises :class:`~gatewaykit.errors.BadRequest` for another format; webp and gif are not taken by the service.
    """
    for kind in _IMAGES:
        if kind.fits(data):
            return File(data, f"image.{kind.suffix}", kind)
    raise BadRequest("The image must be JPEG, PNG, TIFF or BMP: GigaChat takes no other format.", param=param)


def audio_file(data: bytes, format_name: str, param: str) -> File:
    """The sound in ``data``, which must look like ``format_name`` (``wav``, ``mp3``, …)."""
    kind = _BY_SUFFIX.get(format_name.lower())
    if kind is None or kind.modality != "audio":
        raise BadRequest("GigaChat does not take this audio format.", param=param)
    return File(_fitting(data, kind, param), f"audio.{kind.suffix}", kind)


def named_file(data: bytes, mime: str, filename: str | None, param: str) -> File:
    """The file in ``data``: what it is called says its kind, or else its type, and its content must look like that."""
    name = _NAME.sub("_", PurePosixPath((filename or "").replace("\\", "/")).name)[-_MAX_NAME:].strip(" .")
    kind = _BY_SUFFIX.get(PurePosixPath(name).suffix[1:].lower()) or _BY_MIME.get(mime)
    if kind is None:
        raise BadRequest("GigaChat does not take files of this kind.", param=param)
    return File(_fitting(data, kind, param), name or f"{kind.modality}.{kind.suffix}", kind)


def _fitting(data: bytes, kind: Kind, param: str) -> bytes:
    if not data or not kind.fits(data):
        raise BadRequest(f"The content of this file is not {kind.mime}.", param=param)
    return data


def decoded(text: str, limit: int, param: str) -> tuple[bytes, str]:
    """The bytes in a ``data:`` URL (RFC 2397) or in plain base64, and the type that the URL gives, if it does.

    Raises :class:`~gatewaykit.errors.BadRequest` for more than ``limit`` bytes and for what is not strict base64.
    """
    mime = ""
    start, is_base64 = 0, True
    if text[:5].lower() == "data:":
        head = _DATA_URL.match(text, 0, 1024)
        if head is None:
            raise BadRequest("This data URL is not valid.", param=param)
        mime, is_base64, start = head["mime"].strip().lower(), head["base64"] is not None, head.end()
    if len(text) - start > (limit // 3 + 1) * (4 if is_base64 else 9):
        raise too_large(limit, param)
    try:
        data = binascii.a2b_base64(text[start:], strict_mode=True) if is_base64 else unquote_to_bytes(text[start:])
    except ValueError as error:
        raise BadRequest("The data of this part is not valid base64.", param=param) from error
    if len(data) > limit:
        raise too_large(limit, param)
    return data, mime


def too_large(limit: int, param: str | None) -> BadRequest:
    """The refusal of a file with more than ``limit`` bytes."""
    return BadRequest(f"This file is larger than {limit} bytes.", param=param)


__all__ = ["File", "Kind", "Modality", "audio_file", "decoded", "image_file", "named_file", "too_large"]
