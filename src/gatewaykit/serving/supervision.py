"""Several worker processes that share one socket: forked when the gateway is put together, replaced when they die.

A worker is a copy of the process that made the gateway, so all know the same settings and keys, and share the memory of
what was loaded. Parent and worker are joined by a pair of sockets: the worker writes a byte when it accepts; the end of
the stream tells either that the other one is gone. By a second pair it reports what it counts.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias

from gatewaykit.metrics import names
from gatewaykit.tallying import TallyHub

READY = b"r"
RESTART_SECONDS = 2.0
"""From one start in a worker's place to the next, at least: what ends at once does so again and again."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL = signal.SIGHUP
_SIGNALS = (*STOP_SIGNALS, RELOAD_SIGNAL)
Work: TypeAlias = Callable[[int, socket.socket, socket.socket], None]
logger = logging.getLogger(__name__)


class Supervisor:
    """Keeps ``count`` workers running ``work`` until SIGTERM or SIGINT; a second signal kills them. At SIGHUP
    ``on_reload`` is called, and if it says that all is well, the workers get the signal, too.

    If any of the first workers cannot start, none shall serve. Later ones are tried until they can: what keeps one
    from starting, a database that is away, say, may not end those that serve.

    ``work`` gets the worker's number, from 0, which one that takes a dead one's place has from it, and its ends of both
    pairs: it writes :data:`READY` into the first when it serves, returns at SIGTERM, and should also return when that
    stream ends. SIGINT, which a terminal sends to all processes at once, is the parent's alone.
    """

    def __init__(self, count: int, work: Work, on_reload: Callable[[], bool] = lambda: True) -> None:
        self._count = count
        self._on_reload = on_reload
        self._work = work
        self._pids: dict[socket.socket, int] = {}
        self._numbers: dict[socket.socket, int] = {}
        self._ready: set[socket.socket] = set()
        self._began: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._greeted = False
        self._selector = selectors.DefaultSelector()
        self._hub = TallyHub(self._selector)
        self._hub.count(names.WORKER_DEATHS, 0)
        self._stopping = False
        self._failed = False

    def run(self, on_ready: Callable[[], None], on_stop: Callable[[], None]) -> None:
        """Return when all workers have ended. ``on_ready`` is called once, when all of them serve for the first time;
        ``on_stop`` before they are asked to stop. Raises :class:`SystemExit` when a worker could not start.
        """
        with _signals() as signals, self._selector:
            self._selector.register(signals, selectors.EVENT_READ)
            for number in range(self._count):
                self._start(number)
            while self._pids or self._due:
                for key, _ in self._selector.select(self._pause()):
                    if key.data is not None:
                        key.data(key)
                    elif key.fileobj is signals:
                        self._heed(signals, on_stop)
                    else:
                        self._hear(key.fileobj, on_stop)
                self._hub.tick()
                for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
                    self._start(number)
                if not self._greeted and len(self._ready) == self._count:
                    self._greeted = True
                    on_ready()
        if self._failed:
            raise SystemExit(1)

    def _pause(self) -> float | None:
        """Seconds until there is something to do, whatever happens; ``None`` if there is nothing."""
        waits = [max(0.0, due - time.monotonic()) for due in self._due.values()]
        return min([*waits, *([] if self._hub.timeout is None else [self._hub.timeout])], default=None)

    def _start(self, number: int) -> None:
        self._due.pop(number, None)
        self._began[number] = time.monotonic()
        ours, theirs = socket.socketpair()
        tally = self._hub.open()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become_worker(number, theirs, tally)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        tally.close()
        self._pids[ours] = pid
        self._numbers[ours] = number
        self._selector.register(ours, selectors.EVENT_READ)

    def _become_worker(self, number: int, link: socket.socket, tally: socket.socket) -> NoReturn:
        """Forget the parent's signals and sockets, work, and end without the parent's clean-up."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # that to reload waits until it serves
            self._selector.close()
            for other in self._pids:
                other.close()
            self._hub.close_inherited()
            self._work(number, link, tally)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            logger.error("worker %d failed: %s", os.getpid(), type(error).__name__, exc_info=error)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _heed(self, signals: socket.socket, on_stop: Callable[[], None]) -> None:
        numbers = set(signals.recv(64))
        if numbers == {RELOAD_SIGNAL}:
            if self._on_reload():
                self._tell_all(RELOAD_SIGNAL)
        elif self._stopping:
            self._tell_all(signal.SIGKILL)
        else:
            self._stop(on_stop)

    def _hear(self, link: object, on_stop: Callable[[], None]) -> None:
        """A worker serves, or is gone: then another takes its place, unless it is one of the first and never served."""
        if not isinstance(link, socket.socket):
            return
        if _receive(link):
            self._ready.add(link)
            return
        self._selector.unregister(link)
        link.close()
        pid, number = self._pids.pop(link), self._numbers.pop(link)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if self._stopping:
            return
        if link in self._ready:
            self._ready.discard(link)
            logger.error("worker %d ended (%s); another takes its place", pid, _in_words(status))
            self._hub.count(names.WORKER_DEATHS)
        elif self._greeted:
            logger.error("worker %d could not start (%s); another will try", pid, _in_words(status))
        else:
            logger.error("worker %d could not start (%s)", pid, _in_words(status))
            self._failed = True
            self._stop(on_stop)
            return
        self._due[number] = self._began[number] + RESTART_SECONDS

    def _stop(self, on_stop: Callable[[], None]) -> None:
        self._stopping = True
        self._due.clear()
        on_stop()
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: signal.Signals) -> None:
        for pid in self._pids.values():
            os.kill(pid, number)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that becomes readable at a signal; what is read are the signals' numbers."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writer.fileno())
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _receive(link: socket.socket) -> bytes:
    try:
        return link.recv(1)
    except ConnectionError:
        return b""


def _in_words(status: int) -> str:
    return f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"exit code {status}"
