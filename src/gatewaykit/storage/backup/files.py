"""Bytes on their way into a backup and out of it: summed up, compressed, and forced to the disk."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from gatewaykit.errors import BackupError

_CHUNK = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6


def make(path: Path) -> IO[bytes]:
    """A new file that only its owner may read, open for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def compress(source: Path, target: Path, stop: threading.Event) -> None:
    """Write ``source`` to the new file ``target`` in gzip's form. Raises :class:`~gatewaykit.errors.BackupError`."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    with source.open("rb") as plain, make(target) as packed:
        for chunk in heeding(stop, _chunks(plain)):
            packed.write(packer.compress(chunk))
        packed.write(packer.flush())


def unpack(source: Path, target: Path, *, compressed: bool) -> None:
    """The opposite. Raises :class:`~gatewaykit.errors.BackupError` for what was not packed so."""
    with source.open("rb") as packed, make(target) as plain:
        for chunk in _unpacked(_chunks(packed), source) if compressed else _chunks(packed):
            plain.write(chunk)
    force(target)


def _unpacked(chunks: Iterable[bytes], source: Path) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        for chunk in chunks:
            yield unpacker.decompress(chunk)
        yield unpacker.flush()
    except zlib.error:
        raise BackupError(f"{source} is damaged: it cannot be unpacked") from None
    if not unpacker.eof:
        raise BackupError(f"{source} is damaged: its end is missing")


def digest(path: Path) -> tuple[int, str]:
    """Size in bytes, and SHA-256 in hexadecimal."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for chunk in _chunks(file):
            found.update(chunk)
            size += len(chunk)
    return size, found.hexdigest()


def force(path: Path) -> None:
    """To the disk with a file, or with a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def heeding(stop: threading.Event, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``chunks`` until ``stop``. Raises :class:`~gatewaykit.errors.BackupError` then."""
    for chunk in chunks:
        if stop.is_set():
            raise stopped()
        yield chunk


def stopped() -> BackupError:
    """What the one says that was told to stop."""
    return BackupError("the backup was stopped before it was done")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
