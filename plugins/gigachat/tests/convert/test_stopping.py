"""Texts that are cut while they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatewaykit_gigachat.convert.stopping import StopCutter
from gatewaykit_gigachat.convert.thinking import ThinkSplitter

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

letters = st.text("abc", max_size=5)


def cut_by_definition(text: str, stops: list[str]) -> str:
    """The text until the first moment at which it ends with a stop sequence, without the longest such end."""
    for end in range(len(text) + 1):
        ends = [len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if ends:
            return text[: end - max(ends)]
    return text


@CALM
@given(st.lists(letters, max_size=12), st.lists(letters, max_size=4))
@example(["a", "b", "ab", "c"], ["abab", "bc"])
def test_cutting_pieces_equals_cutting_the_whole(pieces: list[str], stops: list[str]) -> None:
    """However a text is cut into pieces, what passes is the text before the first complete stop sequence."""
    cutter = StopCutter(tuple(stops))
    passed = "".join([*map(cutter.feed, pieces), cutter.flush()])
    whole = "".join(pieces)
    assert passed == cut_by_definition(whole, stops)
    assert cutter.stopped == (passed != whole or any(stop and whole.endswith(stop) for stop in stops))


@CALM
@given(st.lists(letters, max_size=12), st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4))
def test_no_more_is_held_back_than_could_begin_a_stop(pieces: list[str], stops: list[str]) -> None:
    """Text is late only while it may still turn out to be a stop sequence."""
    cutter = StopCutter(tuple(stops))
    text = passed = ""
    for piece in pieces:
        text, passed = text + piece, passed + cutter.feed(piece)
        if cutter.stopped:
            return
        held = text[len(passed) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Hello", "", "Hello"),
        ("<think>Hm.</think>Yes", "Hm.", "Yes"),
        ("\n <think>\nHm.</think>\n\nYes <think>no</think>", "\nHm.", "Yes <think>no</think>"),
        ("<think>never closed", "never closed", ""),
        ("<thin", "", "<thin"),
        ("Say <think>x</think>", "", "Say <think>x</think>"),
        ("<think>a</b</think>", "a</b", ""),
    ],
)
@CALM
@given(cuts=st.lists(st.integers(0, 40)))
def test_thinking_is_told_from_the_answer(text: str, reasoning: str, answer: str, cuts: list[int]) -> None:
    """Leading think tags become reasoning, in any pieces; later ones are text."""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    splitter = ThinkSplitter()
    found = [splitter.feed(text[start:end]) for start, end in pairwise(edges)]
    found.append(splitter.flush())
    assert "".join(one for one, _ in found) == reasoning
    assert "".join(one for _, one in found) == answer
