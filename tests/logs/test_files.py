"""A file that several processes share: no line is lost or torn, old files are compressed and pruned."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gatewaykit import RouteRecord
from gatewaykit.builtin.access_log import AccessLine
from gatewaykit.logs import LineWriter, RotatingFile, StructuredLines
from gatewaykit.logs.files import Stream
from gatewaykit.settings import Rotation

LINES = 1000
NOBODY = 65534
"""A user without rights; root may do what others may not."""


def rotation(**fields: int) -> Rotation:
    return Rotation(**{"max_bytes": 0, "hours": 0, "keep_files": 0, "keep_days": 0, **fields})


def contents(folder: Path) -> list[bytes]:
    """All lines of all files."""
    lines: list[bytes] = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        lines += (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    return lines


def in_processes(count: int, work: object) -> None:
    """Run ``work(number)`` in forked processes, to their end."""
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(number)  # type: ignore[operator]
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * count


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_no_line_is_lost_when_processes_rotate_one_file(tmp_path: Path) -> None:
    """Four processes that write a thousand lines each, through dozens of rotations: every line is there, whole."""
    file = RotatingFile(tmp_path / "a.log", rotation(max_bytes=10_000))
    file.check()

    def work(number: int) -> None:
        for line in range(LINES):
            file.write([f"{number} {line} {'x' * 100}\n".encode()])
        file.close()

    in_processes(4, work)
    lines = contents(tmp_path)
    assert len(list(tmp_path.glob("*.gz"))) > 40
    assert sorted(lines) == sorted(f"{n} {line} {'x' * 100}".encode() for n in range(4) for line in range(LINES))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_long_lines_of_processes_do_not_mix_in_a_pipe(tmp_path: Path) -> None:
    """Lines far longer than what a pipe takes in one piece come out whole."""
    reader, writer = os.pipe()
    stream = Stream(writer)
    gathered: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as out:
            gathered.extend(out.read().splitlines())

    thread = threading.Thread(target=read)
    thread.start()
    in_processes(3, lambda number: [stream.write([str(number).encode() * 100_000 + b"\n"]) for _ in range(20)])
    os.close(writer)
    thread.join()
    assert sorted(gathered) == sorted(str(n).encode() * 100_000 for n in range(3) for _ in range(20))


def test_old_files_are_compressed_and_pruned(tmp_path: Path) -> None:
    """Of the files put aside only the newest are kept, compressed, with the permissions of the log."""
    file = RotatingFile(tmp_path / "a.log", rotation(max_bytes=100, keep_files=3), mode=0o600)
    for number in range(20):
        file.write([f"{number:090}\n".encode()])
        file.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 4
    assert sum(name.endswith(".log.gz") for name in kept) == 3
    assert contents(tmp_path)[:3] == [f"{number:090}".encode() for number in (16, 17, 18)]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_age_prunes_too(tmp_path: Path) -> None:
    """A file that was put aside longer ago than ``keep_days`` is removed at the next rotation."""
    file = RotatingFile(tmp_path / "a.log", rotation(max_bytes=10, keep_days=7))
    file.write([b"old line\n"])
    os.utime(tmp_path / "a.log", (0, 0))
    file.write([b"new line\n"])
    file.close()
    assert contents(tmp_path) == [b"new line"]


def test_what_nobody_adds_to_grows_old_too(tmp_path: Path) -> None:
    """Tidied up, a file is put aside when its day is over, and gone when it is too old, though nobody writes."""
    file = RotatingFile(tmp_path / "a.log", rotation(hours=24, keep_days=7))
    file.write([b"a line\n"])
    file.tidy()
    assert contents(tmp_path) == [b"a line"]
    two_days_ago = time.time() - 2 * 86_400
    os.utime(tmp_path / "a.log", (two_days_ago, two_days_ago))
    file.tidy()
    (aside,) = tmp_path.glob("a.*.log.gz")
    os.utime(aside, (0, 0))
    file.tidy()
    assert contents(tmp_path) == []


def test_a_new_day_begins_a_new_file(tmp_path: Path) -> None:
    """A file that was last written in an earlier period is put aside."""
    file = RotatingFile(tmp_path / "a.log", rotation(hours=24))
    file.write([b"yesterday\n"])
    os.utime(tmp_path / "a.log", (0, 0))
    file.write([b"today\n"])
    file.write([b"today\n"])
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"today\ntoday\n"
    assert len(list(tmp_path.glob("a.*.log.gz"))) == 1


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that other users reach, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_file_that_cannot_be_put_aside_grows(common: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who may write the file and nothing else in its folder loses no line, and is told of it once."""
    path, told = common / "a.log", common / "told"
    path.touch(mode=0o666)
    path.chmod(0o666)
    told.touch()
    file = RotatingFile(path, rotation(max_bytes=100))
    file.check()

    def work(_: int) -> None:
        caplog.clear()
        with told.open("w") as telling:
            os.setuid(NOBODY) if os.geteuid() == 0 else None
            for number in range(10):
                file.write([f"{number:090}\n".encode()])
            telling.write("\n".join(record.message for record in caplog.records))

    common.chmod(0o555)
    try:
        in_processes(1, work)
    finally:
        common.chmod(0o777)
    assert path.read_bytes().split() == [f"{number:090}".encode() for number in range(10)]
    assert told.read_text() == f"{path} cannot be put aside, and grows: Permission denied"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_no_line_needs_a_thread_that_cannot_be_had(common: Path) -> None:
    """Where the system gives no further thread, files are put aside all the same, and tidied up another time."""
    file = RotatingFile(common / "a.log", rotation(max_bytes=100))

    def work(_: int) -> None:
        os.setuid(NOBODY) if os.geteuid() == 0 else None
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        for number in range(5):
            file.write([f"{number:090}\n".encode()])
        file.close()

    in_processes(1, work)
    assert contents(common) == [f"{number:090}".encode() for number in range(5)]
    file.write([b"x" * 90 + b"\n"])
    file.close()
    assert len(list(common.glob("*.gz"))) == 5


def test_logrotate_may_move_the_file(tmp_path: Path) -> None:
    """What others do to the file is noticed: lines go to the path that was configured."""
    file = RotatingFile(tmp_path / "a.log", rotation())
    file.write([b"one\n"])
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    file.write([b"two\n"])
    assert (tmp_path / "a.log").read_bytes() == b"two\n"


def test_other_files_are_nobodys_business(tmp_path: Path) -> None:
    """Only files that this log has put aside are pruned: not those of a log whose name begins alike."""
    names = ("a.b.log", "a.log.gz", "ab.2026-01-01T00-00-00.000000Z.log.gz", "a.2026.log")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    file = RotatingFile(tmp_path / "a.log", rotation(max_bytes=10, keep_files=1))
    for _ in range(5):
        file.write([b"some line\n"])
        file.close()
    assert {path.name for path in tmp_path.iterdir()} >= set(names)


def test_half_a_line_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up in the middle of a write, what came of it is taken back, and the next line is whole."""
    file = RotatingFile(tmp_path / "a.log", rotation())
    file.write([b"one\n"])
    write, full = os.write, True

    def filling(descriptor: int, data: bytes) -> int:
        if not full:
            return write(descriptor, data)
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:2])

    monkeypatch.setattr(os, "write", filling)
    with pytest.raises(OSError, match="No space"):
        file.write([b"two\n"])
    full = False
    file.write([b"three\n"])
    assert (tmp_path / "a.log").read_bytes() == b"one\nthree\n"


class Stuck:
    """A sink that takes lines only when it is told to."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes]) -> None:
        self.may.wait()
        self.lines += lines


def test_nobody_waits_for_a_sink_that_is_stuck() -> None:
    """Lines on top of what may wait are lost and counted; those that wait are written in order."""
    sink = Stuck()
    writer = LineWriter(sink, capacity=10)
    for number in range(100):
        writer.put(b"%d\n" % number)
    assert 89 <= writer.dropped["full"] + len(sink.lines) <= 90
    sink.may.set()
    writer.flush()
    assert sink.lines == [b"%d\n" % number for number in range(len(sink.lines))]
    assert len(sink.lines) + writer.dropped["full"] == 100


def test_lines_of_requests_wait_for_nobody_either() -> None:
    """The thread that hands out the records of calls is not held up, and what it cannot get rid of is counted."""
    sink = Stuck()
    writer = LineWriter(sink, capacity=10)
    lines = StructuredLines(lambda message: message.as_text(False).encode() + b"\n", writer)
    for _ in range(10):
        lines.take([AccessLine(RouteRecord("GET", "/", 200, 0.1, "/"))] * 10)
    assert 80 <= writer.dropped["full"] <= 90
    sink.may.set()
    writer.flush()
    assert len(sink.lines) + writer.dropped["full"] == 100


def test_lines_that_cannot_be_written_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A full device loses lines, says so once on standard error, and harms nobody."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LineWriter(Stream(full.fileno()))
        writer.write([b"a\n", b"b\n"])
        writer.put(b"c\n")
        writer.flush()
    assert writer.dropped == {"full": 0, "failed": 3}
    assert capsys.readouterr().err == "gatewaykit: log lines are lost: No space left on device\n"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_writes_its_own_lines_only(tmp_path: Path) -> None:
    """What waits in the parent is the parent's to write; the child's thread and counters begin anew."""
    sink = Stuck()
    writer = LineWriter(sink, capacity=1)
    for _ in range(10):
        writer.put(b"parent\n")
    marker = tmp_path / "child"

    def work(_: int) -> None:
        assert writer.dropped == {"full": 0, "failed": 0}
        sink.may = threading.Event()
        sink.may.set()
        writer.put(b"child\n")
        writer.flush()
        marker.write_bytes(b"".join(sink.lines))

    in_processes(1, work)
    sink.may.set()
    writer.flush()
    assert marker.read_bytes() == b"child\n"
    assert set(sink.lines) == {b"parent\n"}
