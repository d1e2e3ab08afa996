"""Names that have to differ."""

from __future__ import annotations

import os

from gatewaykit import chance


def in_a_child() -> str:
    """What a forked process draws first."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, f"{chance.bits(96):024x} {chance.bits(80):020x}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        return said.read()


def test_forked_processes_draw_differently() -> None:
    """Processes that were forked from one that had begun draw neither each other's numbers nor its own."""
    drawn = [in_a_child(), in_a_child(), f"{chance.bits(96):024x} {chance.bits(80):020x}"]
    assert len({part for line in drawn for part in line.split()}) == 6
