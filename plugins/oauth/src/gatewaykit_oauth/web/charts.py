"""Bar charts as shapes: where each bar, line and label of an SVG lies. Templates draw them."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from msgspec import Struct

_LEFT, _BOTTOM, _TOP = 52.0, 24.0, 10.0
_LINES = 4
_WHOLE = float(_LINES)
_THINNEST = 1.5


class Value(Struct, frozen=True):
    """What one bar shows: ``bad`` is the part of ``amount`` that is drawn in another colour."""

    label: str
    title: str
    amount: float
    bad: float = 0.0


class Bar(Struct, frozen=True):
    """One bar, and the slot around it that shows its title. ``label`` is empty where there is no room for one."""

    x: float
    width: float
    y: float
    height: float
    bad_y: float
    bad_height: float
    slot_x: float
    slot_width: float
    label: str
    title: str


class Chart(Struct, frozen=True):
    """All shapes; ``grid`` are lines with the amounts that they stand for."""

    width: float
    height: float
    left: float
    base: float
    bars: Sequence[Bar]
    grid: Sequence[tuple[float, float]]


def bars(values: Sequence[Value], width: float, height: float, labels: int, least: float = _WHOLE) -> Chart:
    """A chart of this size with at most so many ``labels`` along its axis, which reaches ``least`` at least."""
    top = ceiling(max((value.amount for value in values), default=0.0), least)
    base, room = height - _BOTTOM, height - _BOTTOM - _TOP
    slot = (width - _LEFT) / max(1, len(values))
    every = -(-len(values) // labels)
    drawn = [
        _bar(value, _LEFT + slot * number, slot, base, room / top, is_labelled=(len(values) - 1 - number) % every == 0)
        for number, value in enumerate(values)
    ]
    grid = [(round(base - room * line / _LINES, 1), top * line / _LINES) for line in range(1, _LINES + 1)]
    return Chart(width, height, _LEFT, base, drawn, grid)


def ceiling(amount: float, least: float = _WHOLE) -> float:
    """The smallest round number of at least ``amount``, and ``least``, that four lines divide evenly."""
    wanted = max(amount, least) if amount > 0 else _WHOLE
    size = 10.0 ** floor(log10(wanted))
    return next(step * size for step in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0) if step * size >= wanted)


def _bar(value: Value, x: float, slot: float, base: float, scale: float, *, is_labelled: bool) -> Bar:
    thickness = max(1.0, min(slot * 0.72, 36.0))
    height = max(_THINNEST, value.amount * scale) if value.amount else 0.0
    bad = height * value.bad / value.amount if value.amount else 0.0
    if 0 < bad < _THINNEST:  # both parts of a low bar are seen
        bad = min(_THINNEST, height / 2)
    return Bar(
        x=round(x + (slot - thickness) / 2, 1),
        width=round(thickness, 1),
        y=round(base - height, 1),
        height=round(max(0.0, height - bad), 1),
        bad_y=round(base - bad, 1),
        bad_height=round(bad, 1),
        slot_x=round(x, 1),
        slot_width=round(slot, 1),
        label=value.label if is_labelled else "",
        title=value.title,
    )
