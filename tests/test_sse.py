"""Server-sent events: the same frames, whatever the network does to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.sse import FrameSplitter, payloads

MARK = b"\xef\xbb\xbf"

data_values = st.binary(max_size=12).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b""))
lines = st.one_of(
    st.builds(lambda blank, value: b"data:" + blank + value, st.sampled_from([b"", b" ", b"  "]), data_values),
    st.just(b"data"),
    st.builds(lambda value: b":" + value, data_values),
    st.builds(lambda value: b"event: " + value, data_values),
    st.sampled_from([b"id: 7", b"retry: 10", b"database: x", b"x"]),
)
frames = st.lists(st.lists(lines, min_size=1, max_size=4), max_size=6)


def written(documents, end: bytes = b"\n") -> bytes:
    return b"".join(end.join(frame) + end + end for frame in documents)


@st.composite
def cut(draw, data: bytes) -> list[bytes]:
    """``data`` in arbitrary pieces, empty ones included."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


def split(pieces) -> list[bytes]:
    """The blocks that come of these pieces, the last one included."""
    splitter = FrameSplitter()
    return [block for block in [*map(splitter.feed, pieces), splitter.flush()] if block]


def values(frame) -> list[bytes]:
    """The data lines of a frame, by the letter of the standard."""
    found = []
    for line in frame:
        field, colon, value = line.partition(b":")
        if field == b"data":
            found.append(value[1:] if colon and value.startswith(b" ") else value)
    return found


@given(frames, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.booleans(), st.data())
def test_any_chunking_gives_the_same_frames(documents, end, marked, data):
    """However a stream is cut, and whatever ends its lines, the blocks are the same frames with LF line ends."""
    stream = (MARK if marked else b"") + written(documents, end)
    blocks = split(data.draw(cut(stream)))
    assert b"".join(blocks) == written(documents)
    assert all(block.endswith(b"\n\n") for block in blocks)
    read = [payload for block in blocks for payload in payloads(block)]
    assert read == [b"\n".join(values(frame)) for frame in documents if values(frame)]


@given(st.binary(max_size=60), st.data())
def test_any_bytes(stream, data):
    """Any bytes at all give the same result in one piece and in many, and never an error."""
    whole = b"".join(split([stream]))
    assert b"".join(split(data.draw(cut(stream)))).replace(b"\n", b"") == whole.replace(b"\n", b"")
    payloads(whole)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_frame_is_given_as_soon_as_it_is_whole(end):
    """Each frame comes with the byte that completes it, not with the next one: also when lines end with CR alone."""
    splitter = FrameSplitter()
    stream = b"data: x" + end + end[:1]
    before = [splitter.feed(stream[at : at + 1]) for at in range(len(stream) - 1)]
    assert before == [b""] * len(before)
    assert splitter.feed(stream[-1:]) == b"data: x\n\n"
    splitter.feed(end[1:])
    assert splitter.feed(b"data: y" + end + end) == b"data: y\n\n"


def test_carriage_return_and_line_feed_in_two_pieces():
    """A CR LF that the network parts is one line end."""
    assert split([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [b"data: a\ndata: b\n\n"]


def test_blocks_hold_what_arrived_together():
    """Whole frames that arrive in one piece leave in one block, and the beginning of the next waits."""
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\n\ndata: 2\n\ndata: 3") == b"data: 1\n\ndata: 2\n\n"
    assert splitter.feed(b"\n\n") == b"data: 3\n\n"


def test_a_whole_block_is_passed_without_a_copy():
    """The usual read, whole frames with LF line ends, is given back as the same object."""
    splitter = FrameSplitter()
    splitter.feed(b"data: 0\n\n")
    block = b"data: 1\n\ndata: 2\n\n"
    assert splitter.feed(block) is block


@pytest.mark.parametrize(
    ("rest", "flushed"),
    [
        (b"", b""),
        (b"\n", b""),
        (MARK, b""),
        (b"data: x", b"data: x\n\n"),
        (b"data: x\n", b"data: x\n\n"),
        (b"data: x\r\n", b"data: x\n\n"),
        (MARK + b"data: x\r", b"data: x\n\n"),
    ],
)
def test_the_end_of_the_stream(rest, flushed):
    """A last frame without its blank line is completed; nothing stays nothing; a second flush has nothing."""
    splitter = FrameSplitter()
    assert splitter.feed(rest) == b""
    assert splitter.flush() == flushed
    assert splitter.flush() == b""


def test_a_byte_order_mark_counts_only_at_the_start():
    """The mark is dropped before the first frame and kept elsewhere."""
    assert split([MARK[:1], MARK[1:] + b"data: a\n\n", MARK + b"data: b\n\n"]) == [
        b"data: a\n\n",
        MARK + b"data: b\n\n",
    ]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_frame_beyond_the_limit(size):
    """A frame that grows beyond the limit is a bad answer, in whatever pieces it comes; many small ones are not."""
    splitter = FrameSplitter(max_frame_bytes=1000)
    for _ in range(100):
        assert splitter.feed(b"data: " + b"x" * 50 + b"\n\n")
    piece = b"y" * size
    for _ in range(1000 // size):
        assert splitter.feed(piece) == b""
    with pytest.raises(ProviderBadAnswer):
        splitter.feed(piece)


def test_a_large_frame_in_tiny_pieces_takes_linear_work():
    """A frame of a megabyte in pieces of sixteen bytes is looked at once: what is scanned stays in proportion."""
    splitter = FrameSplitter()
    scanned = 0

    class Counting(bytearray):
        def rfind(self, sub, start=0, *rest):
            nonlocal scanned
            scanned += len(self) - start
            return super().rfind(sub, start, *rest)

    splitter._rest = Counting()
    for _ in range(65_536):
        splitter.feed(b"0123456789abcdef")
    assert splitter.feed(b"\n\n").startswith(b"0123")
    assert scanned < 2 * 2**20


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"", []),
        (b"\n\n", []),
        (b": comment\n\n", []),
        (b"event: x\n\n", []),
        (b"data: x\n\n", [b"x"]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": c\nevent: e\nid: 1\ndata: a\nretry: 1\n\ndata: [DONE]\n\n", [b"a", b"[DONE]"]),
        (b"\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"database: a\n data: b\nDATA: c\n\n", []),
    ],
)
def test_payloads(block, found):
    """Only ``data`` lines count, one leading space is no part of them, several of one frame are joined by LF."""
    assert payloads(block) == found
