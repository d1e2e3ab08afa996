"""What Linux tells of processes: their children, and the connections that they have accepted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_ESTABLISHED = "01"


def children_of(pid: int) -> list[int]:
    """The process ids of the children of ``pid``: of a gateway's parent process, its workers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections_of(pid: int, port: int) -> int:
    """How many connections to ``port`` (IPv4) this process has accepted and still has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED}
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it may be closed by now
            found += str(descriptor.readlink()) in ours
    return found
