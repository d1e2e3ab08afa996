"""Who used the CPU during a measurement: the subject, the harness, and everybody else on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from .processes import TICKS_PER_S, Group


class Meter:
    """CPU time from the meter's creation on."""

    def __init__(self, subject: Group, helpers: Iterable[Group]) -> None:
        """`helpers` work for the measurement, beside the harness itself."""
        self.subject = subject
        self.helpers = [group for group in helpers if group is not subject]
        self.began = time.monotonic()
        self.before = self._now()

    def subject_us(self) -> float:
        """CPU time of the subject's process tree in microseconds."""
        return (self._now()[0] - self.before[0]) * 1e6

    def other_share(self) -> float:
        """The part of the machine's CPU, 0 to 1, that others took: a figure is worth less the larger it is."""
        subject, ours, machine = (now - before for now, before in zip(self._now(), self.before, strict=True))
        others = machine - subject - ours
        return min(1.0, max(0.0, others / ((time.monotonic() - self.began) * (os.cpu_count() or 1))))

    def _now(self) -> tuple[float, float, float]:
        """CPU seconds so far of the subject, of the harness with helpers and ended generators, and of the machine."""
        ours = sum(os.times()[:4]) + sum(group.cpu_s() for group in self.helpers)
        return self.subject.cpu_s(), ours, machine_cpu_s()


def machine_cpu_s() -> float:
    """CPU seconds that every process of the machine used so far, with what its host took away (/proc/stat, proc(5))."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    user, nice, system, stolen = *fields[:3], fields[7]
    return (user + nice + system + stolen) / TICKS_PER_S
