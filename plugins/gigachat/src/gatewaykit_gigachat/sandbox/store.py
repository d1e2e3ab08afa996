"""Stored files: kept in memory, seen only by their owner under the same ``X-Client-ID``."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from .refusals import api_refusal
from .settings import SandboxSettings

_TEXT = (
    "text/plain",
    "application/msword",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/pdf",
    "application/epub",
    "application/ppt",
    "application/pptx",
    "application/vnd.ms-excel",
)
_IMAGE = ("image/jpeg", "image/png", "image/tiff", "image/bmp")
_AUDIO = (
    "audio/mp4",
    "audio/mp3",
    "audio/x-m4a",
    "audio/x-wav",
    "audio/wave",
    "audio/wav",
    "audio/x-pn-wav",
    "audio/webm",
    "audio/x-ogg",
    "audio/opus",
)
MODALITIES = {
    **dict.fromkeys(_TEXT, "text"),
    **dict.fromkeys(_IMAGE, "image"),
    **dict.fromkeys(_AUDIO, "audio"),
}


@dataclass(frozen=True)
class StoredFile:
    """One file with its owner: the client, and the ``X-Client-ID`` it was uploaded under."""

    id: str
    owner: str
    end_user: str
    filename: str
    mime: str
    purpose: str
    created_at: int
    content: bytes = field(repr=False)

    @property
    def modality(self) -> str:
        """``text``, ``image`` or ``audio``."""
        return MODALITIES[self.mime]

    def as_dict(self) -> dict[str, Any]:
        """The file object of the API."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "access_policy": "private",
            "modalities": [self.modality],
        }


class FileStore:
    """The files of one sandbox."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._files: dict[str, StoredFile] = {}

    def check_size(self, mime: str, size: int) -> None:
        """422 for a format that is not supported, 413 for a file too large."""
        limits = {
            "text": self._settings.max_text_file,
            "image": self._settings.max_image_file,
            "audio": self._settings.max_audio_file,
        }
        modality = MODALITIES.get(mime)
        if modality is None:
            raise api_refusal(422, f"Unsupported file format: {mime}")
        stored = sum(len(file.content) for file in self._files.values())
        if size > limits[modality] or stored + size > self._settings.max_stored:
            raise api_refusal(413)

    def add(self, owner: str, end_user: str, filename: str, mime: str, purpose: str, content: bytes) -> StoredFile:
        """Keep a file that :meth:`check_size` accepted."""
        created_at = int(self._settings.clock())
        file = StoredFile(str(uuid.uuid4()), owner, end_user, filename, mime, purpose, created_at, content)
        self._files[file.id] = file
        return file

    def get(self, owner: str, end_user: str, file_id: str) -> StoredFile:
        """The file; 404 when the client has none of this id, 403 under another ``X-Client-ID``."""
        file = self._files.get(file_id)
        if file is None or file.owner != owner:
            raise api_refusal(404, "No such file")
        if file.end_user != end_user:
            raise api_refusal(403, f"Access to file '{file_id}' is denied")
        return file

    def listed(self, owner: str, end_user: str) -> list[StoredFile]:
        """The files that the client sees under this ``X-Client-ID``."""
        return [file for file in self._files.values() if (file.owner, file.end_user) == (owner, end_user)]

    def remove(self, file: StoredFile) -> None:
        """Forget a file."""
        self._files.pop(file.id, None)

    def __len__(self) -> int:
        return len(self._files)
