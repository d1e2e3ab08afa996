"""The outbox: what is in it outlives its process, whatever becomes of the files."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit import ConfigError
from gatewaykit.builtin.ledger import LedgerSettings, writing
from gatewaykit.builtin.ledger import outbox as outbox_module
from gatewaykit.builtin.ledger import segments as segments_module
from gatewaykit.builtin.ledger.outbox import Outbox
from gatewaykit.builtin.ledger.segments import create, frame, unframe
from gatewaykit.storage import Storage
from gatewaykit.testing import make_gateway

from ..storage.conftest import start
from .conftest import counted, down, ids, is_private, ledger_at, opened, record, segments, storage_at, write

SEALER = """
import os, sys
from pathlib import Path
from gatewaykit import CallRecord
from gatewaykit.builtin.ledger import LedgerSettings
from gatewaykit.builtin.ledger.ledger import Ledger
from gatewaykit.pricing import PriceBook, PriceSettings
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
storage = Storage(DatabaseSettings(url=os.environ["URL"], busy_timeout=30))
ledger = Ledger(storage, LedgerSettings(outbox=os.environ["OUTBOX"]), PriceBook(PriceSettings()))
def seal(name):
    ledger.seal(CallRecord(name, 1_790_000_000.5, "POST", "/", "d", 200, "done", 0.25))
"""
DIES = (
    SEALER + "for number in range(100): seal(sys.argv[1] + str(number))\nprint('sealed', flush=True)\nsys.stdin.read()"
)
SHARES = (
    SEALER
    + """
import asyncio
async def main():
    async with storage.lifespan(), ledger.lifespan():
        for number in range(300):
            seal(f"{sys.argv[1]}-{number}")
            await asyncio.sleep(0.001)
asyncio.run(main())
"""
)
FULL = (
    SEALER
    + """
import resource
with storage.opened():
    seal("before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    for number in range(20): seal(f"during-{number}")
    ledger.writer.flush()
    print(ledger.outbox.refused, ledger.outbox.lost, ledger.outbox.depth, ledger.writer.failures, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seal("after")
    ledger.writer.flush()
    print(ledger.writer.written, ledger.writer.corrupt, ledger.outbox.depth, flush=True)
    ledger.outbox.close()
"""
)


def dead_segment(url: str, folder: Path, name: str = "dead-") -> Path:
    """A file of 100 records whose process was killed."""
    process = start(DIES, name, URL=url, OUTBOX=str(folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "sealed\n"
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    return segments(folder)[-1]


@given(st.binary().filter(lambda document: b"\n" not in document))
def test_a_line_is_read_as_it_was_written(document: bytes) -> None:
    """And one of which a bit is wrong is not read at all."""
    line = frame(document)
    assert unframe(line[:-1]) == document
    for place in range(0, len(line) - 1, 7):
        broken = bytearray(line[:-1])
        broken[place] ^= 4
        assert unframe(bytes(broken)) is None


def test_a_killed_process_loses_nothing(storage: Storage, url: str, folder: Path) -> None:
    """What was sealed before kill -9 is found and written by the next process, once, and the file goes."""
    dead_segment(url, folder)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert counted(storage) == [100, 100, 100]
        assert ledger.outbox.depth == 0
    assert list(folder.iterdir()) == []


def test_records_that_were_written_before_the_kill_are_not_counted_again(storage: Storage, folder: Path) -> None:
    """A file may be replayed whole: only what is new in it is counted."""
    with opened(storage, folder) as ledger:
        for number in range(10):
            ledger.seal(record(str(number)))
        (path,) = segments(folder)
        data = path.read_bytes()
        ledger.writer.flush()
        path.with_name(path.name.replace(".log", "-copy.log")).write_bytes(data * 2)
    with opened(storage, folder) as ledger:
        write(ledger, record("new"))
        assert counted(storage) == [11, 11, 11]
        assert ledger.books.duplicates == 20


def test_the_file_of_a_living_process_is_left_alone(storage: Storage, sqlite_url: str, folder: Path) -> None:
    """Its lock says that it is in use, even where nothing has happened to it for long."""
    process = start(DIES, "alive-", URL=sqlite_url, OUTBOX=str(folder))
    assert process.stdout is not None
    process.stdout.readline()
    outbox = Outbox(folder, segments(folder)[0].name.split("-")[0])
    assert outbox.adopt() == 0
    process.communicate(timeout=30)
    assert outbox.adopt() == 100
    outbox.close()


def test_a_torn_last_line_is_passed_over(storage: Storage, url: str, folder: Path) -> None:
    """Half a record, as a loss of power leaves it, costs that record and no other."""
    path = dead_segment(url, folder)
    path.write_bytes(path.read_bytes()[:-30])
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert counted(storage) == [99, 99, 99]
        assert ledger.writer.corrupt == 1


HARMS = {
    "zeros": b"\0" * 40,
    "line-feed": b"\n",
    "line-feeds": b"\n\n\n",
    "quote": b'"',
    "noise": random.Random(1).randbytes(100),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_damage_in_the_middle_costs_what_is_damaged(
    sqlite_url: str, folder: Path, harm: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows is written, the log says where it was, and the file is put aside for people to look at."""
    storage = storage_at(sqlite_url)
    path = dead_segment(sqlite_url, folder)
    data = path.read_bytes()
    path.write_bytes(data[:5000] + harm + data[5000 + len(harm) :])
    with opened(storage, folder) as ledger:
        write(ledger, record("new"))
        assert 98 <= len(ids(storage)) <= 100
        assert {"dead-0", "dead-99", "new"} <= set(ids(storage))
        assert ledger.writer.corrupt >= 1
    assert f"a line of {path} is damaged" in caplog.text
    assert [found.name for found in folder.iterdir()] == [path.with_suffix(".damaged").name]


def test_a_file_that_is_no_segment_at_all_harms_nothing(storage: Storage, url: str, folder: Path) -> None:
    """A megabyte without a line feed is passed over."""
    path = dead_segment(url, folder)
    path.write_bytes(b"x" * 1_000_000 + b"\n" + path.read_bytes())
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert len(ids(storage)) == 100


def test_six_processes_share_one_folder(url: str, folder: Path) -> None:
    """Each has files of its own; together they write every record once and leave nothing."""
    dead_segment(url, folder)
    storage_at(url).migrate()
    processes = [start(SHARES, str(number), URL=url, OUTBOX=str(folder)) for number in range(6)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, results
    storage = storage_at(url)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert counted(storage) == [1900, 1900, 1900]
        assert ledger.writer.written == 0
    assert list(folder.iterdir()) == []


def test_databases_that_share_a_folder_do_not_mix(tmp_path: Path, folder: Path) -> None:
    """What was meant for one is not written into another."""
    mine, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("mine", "other"))
    dead_segment(other, folder)
    with opened(storage_at(mine), folder) as ledger:
        ledger.writer.flush()
        assert ledger.outbox.depth == 0
    storage = storage_at(other)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert len(ids(storage)) == 100


def test_files_are_for_their_owner_alone(sqlite_url: str, folder: Path) -> None:
    """The folder and what is in it can be read by nobody else, whatever the umask."""
    before = os.umask(0)
    try:
        with opened(storage_at(sqlite_url), folder) as ledger:
            ledger.seal(record())
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert all(is_private(path) for path in folder.iterdir())
    finally:
        os.umask(before)


def test_files_are_begun_anew(sqlite_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is large enough is left for a new one, and removed once the database has all of it."""
    monkeypatch.setattr(outbox_module, "_LARGEST", 2_000)
    storage = storage_at(sqlite_url)
    with opened(storage, folder) as ledger:
        with down(storage):
            for batch in range(5):
                write(ledger, *(record(f"{batch}-{number}") for number in range(20)))
            assert len(segments(folder)) == 6
            assert ledger.outbox.depth == 100
            assert ledger.outbox.oldest_age > 0
        ledger.writer.flush()
        assert len(segments(folder)) == 1
        assert len(ids(storage)) == 100


def full(*_: object) -> int:
    """What a write says on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_records_wait_in_memory(
    storage: Storage, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the database all the same, the log says it once, and once that it is over."""
    with opened(storage, folder) as ledger:
        write(ledger, record("before"))
        with monkeypatch.context() as patched:
            patched.setattr(segments_module, "write", full)
            write(ledger, *(record(str(number)) for number in range(600)))
            write(ledger, record("more"))
        assert counted(storage) == [602, 602, 602]
        assert (ledger.outbox.refused, ledger.outbox.lost, ledger.outbox.depth) == (601, 0, 0)
        write(ledger, record("after"))
        assert counted(storage) == [603, 603, 603]
    assert caplog.text.count("takes no records (No space left on device)") == 1
    assert caplog.text.count("takes records again; 0 were lost") == 1


def test_what_waits_in_memory_is_bounded(sqlite_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither disk nor database the oldest go, and are counted; the rest is written to whichever comes back."""
    storage = storage_at(sqlite_url)
    ledger = ledger_at(storage, folder)
    ledger.outbox._capacity = 3
    with storage.opened():
        with monkeypatch.context() as patched, down(storage):
            patched.setattr(segments_module, "write", full)
            write(ledger, *(record(str(number)) for number in range(5)))
            assert (ledger.outbox.lost, ledger.outbox.depth) == (2, 3)
        ledger.outbox.close()
    with opened(storage, folder) as following:
        following.writer.flush()
        assert ids(storage) == ["2", "3", "4"]


def test_half_a_line_is_cut_off(sqlite_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes only the beginning of a record does not spoil the records around it."""
    storage = storage_at(sqlite_url)
    whole: Callable[[int, bytes], int] = writing.write
    for cut in (os.ftruncate, full):
        with opened(storage, folder) as ledger, monkeypatch.context() as patched:
            ledger.seal(record(f"before {cut.__name__}"))
            patched.setattr(segments_module, "write", lambda fd, data: whole(fd, data[:50]))
            patched.setattr(os, "ftruncate", cut)
            ledger.seal(record(f"half {cut.__name__}"))
            patched.setattr(segments_module, "write", whole)
            ledger.seal(record(f"after {cut.__name__}"))
            ledger.writer.flush()
            assert ledger.outbox.depth == 0
    with storage.opened():
        assert len(ids(storage)) == 6


def test_a_limit_of_the_system_is_like_a_full_disk(sqlite_url: str, folder: Path) -> None:
    """With files of 400 bytes at most (RLIMIT_FSIZE) neither outbox nor database takes anything; then all is there."""
    process = start(FULL, URL=sqlite_url, OUTBOX=str(folder))
    out, err = process.communicate(timeout=60)
    refused, lost, depth, failures = map(int, out.splitlines()[0].split())
    assert (lost, depth, failures) == (0, 21, 1), err
    assert refused >= 19
    assert out.splitlines()[1] == "22 0 0"
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert counted(storage) == [22, 22, 22]


async def test_without_an_outbox_the_gateway_does_not_start(sqlite_url: str, tmp_path: Path) -> None:
    """The error names the setting, the folder and the reason."""
    (tmp_path / "file").write_text("")
    gateway = make_gateway(database={"url": sqlite_url}, ledger={"outbox": f"{tmp_path}/file/outbox"})
    with pytest.raises(ConfigError, match=r"ledger\.outbox: .*/file/outbox takes no files: Not a directory"):
        await gateway.start()
    await gateway.stop()


def test_where_the_outbox_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an SQLite file; else in the folder that systemd gives, or in the working directory; or as it is said."""
    monkeypatch.chdir(tmp_path)
    assert LedgerSettings().folder(Path("/data/g.db")) == Path("/data/g.db-outbox")
    assert LedgerSettings().folder(None) == tmp_path / "gatewaykit-outbox"
    assert LedgerSettings(state_directory="/var/lib/g:/var/lib/h").folder(None) == Path("/var/lib/g/outbox")
    assert LedgerSettings(outbox=Path("here")).folder(Path("/data/g.db")) == tmp_path / "here"


def test_a_forked_process_has_nothing_of_its_parents(sqlite_url: str, folder: Path) -> None:
    """It neither writes its parent's records nor holds their files: it begins with its own."""
    program = (
        SEALER
        + """
with storage.opened():
    pass
seal("parent")
if (pid := os.fork()) == 0:
    assert ledger.outbox.depth == 0
    seal("child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(len(list(ledger.outbox.folder.glob("*.log"))), ledger.outbox.depth, ledger.outbox.adopt())
"""
    )
    done = subprocess.CompletedProcess([], 0, *start(program, URL=sqlite_url, OUTBOX=str(folder)).communicate())
    assert done.stdout == "2 1 1\n", done.stderr


def test_a_file_that_is_locked_before_its_owner_locks_it_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making and locking a file somebody may take it for an orphan's: then another is made."""
    real, calls = fcntl.flock, []

    def taken_once(fd: int, how: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise BlockingIOError
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", taken_once)
    segment = create(folder, "x")
    assert len(segments(folder)) == 2
    assert segment.path == segments(folder)[1]
    segment.finish()
    assert len(segments(folder)) == 1


def test_other_threads_do_not_get_in_between(folder: Path) -> None:
    """A thread that waits for its turn gets it when that is due, and not whenever a record is written."""
    outbox, go = Outbox(folder, "test"), threading.Lock()
    turns: list[int] = []
    outbox.open()
    go.acquire()

    def work() -> None:
        go.acquire()
        turns.append(1)

    thread, interval = threading.Thread(target=work), sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(30)
    try:
        go.release()
        for _ in range(100):
            outbox.append(b"a line\n")
        assert not turns
    finally:
        sys.setswitchinterval(interval)
        thread.join()
        outbox.close()
    assert turns
