"""Kinds of files, and the data that clients put into a request."""

from __future__ import annotations

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import BadRequest
from gatewaykit_gigachat.media import audio_file, decoded, image_file, named_file

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PNG = b"\x89PNG\r\n\x1a\n"
ZIP, OLE, WAV = b"PK\x03\x04x", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1x", b"RIFF\0\0\0\0WAVEfmt "


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (PNG, "image/png"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"BM1234", "image/bmp"),
    ],
)
def test_images_are_known_by_their_first_bytes(data: bytes, mime: str) -> None:
    """The content of an image says what it is, not its sender."""
    assert image_file(data, "p").kind.mime == mime


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"<svg/>", b"<html>", b"\x89PN"])
def test_other_images_are_refused(data: bytes) -> None:
    """gif, webp and whatever is no image are refused, naming the part."""
    with pytest.raises(BadRequest, match="JPEG, PNG, TIFF or BMP") as refused:
        image_file(data, "messages[0].content[1]")
    assert refused.value.param == "messages[0].content[1]"


@pytest.mark.parametrize(
    ("data", "kind", "mime"),
    [
        (WAV, "wav", "audio/wav"),
        (b"ID3\x04", "MP3", "audio/mp3"),
        (b"\xff\xfb\x90", "mp3", "audio/mp3"),
        (b"OggS", "opus", "audio/opus"),
        (b"\0\0\0\x18ftypM4A ", "m4a", "audio/x-m4a"),
        (b"\x1a\x45\xdf\xa3", "webm", "audio/webm"),
    ],
)
def test_sounds(data: bytes, kind: str, mime: str) -> None:
    """Sound in a known format is taken when it looks like it."""
    assert audio_file(data, kind, "p").kind.mime == mime


@pytest.mark.parametrize(("data", "kind"), [(WAV, "mp3"), (b"", "wav"), (WAV, "flac"), (PNG, "png"), (b"\xff", "mp3")])
def test_other_sounds_are_refused(data: bytes, kind: str) -> None:
    """Sound in another format, or that is not what it claims, is refused."""
    with pytest.raises(BadRequest):
        audio_file(data, kind, "p")


@pytest.mark.parametrize(
    ("data", "mime", "name", "found", "sent_as"),
    [
        (b"%PDF-1.7", "", "a.pdf", "application/pdf", "a.pdf"),
        (b"%PDF-1.7", "application/pdf", None, "application/pdf", "document.pdf"),
        (ZIP, "", "b.XLSX", "application/vnd.ms-excel", "b.XLSX"),
        (OLE, "application/msword", "odd", "application/msword", "odd"),
        ("да".encode(), "text/plain", "../../etc/passwd", "text/plain", "passwd"),
        (b"x", "", 'a";\r\nb.txt', "text/plain", "a_b.txt"),
        (PNG, "image/png", None, "image/png", "image.png"),
        (b"x", "", "C:\\secret\\c.txt", "text/plain", "c.txt"),
    ],
)
def test_named_files(data: bytes, mime: str, name: str | None, found: str, sent_as: str) -> None:
    """A file's name or type says its kind; its name is sent without path and oddities."""
    file = named_file(data, mime, name, "p")
    assert (file.kind.mime, file.filename) == (found, sent_as)


@pytest.mark.parametrize(
    ("data", "mime", "name"),
    [
        (b"MZ", "", "a.exe"),
        (b"MZ", "application/pdf", None),
        (b"%PDF-1.7", "", "a.docx"),
        (b"\xff\xfe", "", "a.txt"),
        (b"a\0b", "text/plain", None),
        (b"", "", "a.txt"),
        (b"x", "", None),
    ],
)
def test_other_files_are_refused(data: bytes, mime: str, name: str | None) -> None:
    """Files of unknown kinds, and files that are not what they claim, are refused."""
    with pytest.raises(BadRequest):
        named_file(data, mime, name, "p")


@CALM
@given(st.text(max_size=200))
def test_any_name_becomes_a_plain_one(name: str) -> None:
    """Whatever a client calls a file, what is sent is short and has no path, quote or control character."""
    sent = named_file(b"x", "text/plain", f"{name}.txt", "p").filename
    assert 0 < len(sent) <= 100
    assert sent.isprintable()
    assert set(sent).isdisjoint('/\\";')


# data


@CALM
@given(st.binary(max_size=100))
def test_data_comes_back(data: bytes) -> None:
    """Plain base64 and data URLs, with base64 or percent-encoding, give the bytes."""
    text = base64.b64encode(data).decode()
    assert decoded(text, 100, "p") == (data, "")
    assert decoded(f"data:image/PNG;charset=x;base64,{text}", 100, "p") == (data, "image/png")
    percent = "".join(f"%{byte:02x}" for byte in data)
    assert decoded(f"DATA:text/plain,{percent}", 100, "p") == (data, "text/plain")


@pytest.mark.parametrize(
    "text",
    ["A", "AAA", "A-__", "AAAA AAAA", "AAAA\n", "AA=A", "data:image/png", "data:", "data:;base64,Ü", "дата", "====="],
)
def test_what_is_not_strict_base64_is_refused(text: str) -> None:
    """There is one way to write bytes, and no guessing."""
    with pytest.raises(BadRequest) as refused:
        decoded(text, 100, "the.part")
    assert refused.value.param == "the.part"


@pytest.mark.parametrize("form", ["{}", "data:image/png;base64,{}"])
def test_sizes_are_limited(form: str) -> None:
    """The limit is exact, and far too long texts are not even decoded."""
    exact = base64.b64encode(bytes(1000)).decode()
    assert len(decoded(form.format(exact), 1000, "p")[0]) == 1000
    for size in (1001, 1_000_000):
        with pytest.raises(BadRequest, match="larger"):
            decoded(form.format(base64.b64encode(bytes(size)).decode()), 1000, "p")
    with pytest.raises(BadRequest, match="larger"):
        decoded("data:text/plain," + "x" * 1001, 1000, "p")
