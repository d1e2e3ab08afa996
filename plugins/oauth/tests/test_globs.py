"""Globs as sets of names, compared with what :func:`gatewaykit.admission.matches` really lets pass."""

from __future__ import annotations

import time

from hypothesis import example, given
from hypothesis import strategies as st

from gatewaykit.admission import matches
from gatewaykit_oauth.keys.globs import common, covers

GLOBS = st.text("ab*?", min_size=1, max_size=7)
LISTS = st.lists(GLOBS, min_size=1, max_size=3).map(tuple)
NAMES = st.text("ab", max_size=8)


@given(LISTS, LISTS, st.lists(NAMES, min_size=5, max_size=20))
@example(("?*",), ("*?",), ["", "a", "ab"])
@example(("????",), ("[ab]",), ["a"])
@example(("[ab]",), ("a",), ["a"])
def test_what_a_covered_glob_matches_its_parent_matches(
    parents: tuple[str, ...], children: tuple[str, ...], names: list[str]
) -> None:
    """A parent that covers a child lets every name pass that the child lets pass."""
    if covers(parents, children):
        for name in names:
            assert matches(parents, name) or not matches(children, name)


@given(LISTS, LISTS, st.lists(NAMES, min_size=5, max_size=20))
@example(("a*",), ("*b",), ["ab", "aab", "b", "a"])
@example(("ab*",), ("*ba",), ["aba", "abba", "ab", "ba"])
@example(("*",), ("a?",), ["ab", "a"])
@example(("a[bc]",), ("a*",), ["ab"])
def test_common_globs_match_what_both_match(first: tuple[str, ...], second: tuple[str, ...], names: list[str]) -> None:
    """What two lists have in common matches a name exactly when both lists do."""
    shared = common(first, second)
    for name in names:
        both = matches(first, name) and matches(second, name)
        assert matches(shared, name) == both or ("[" in str(first + second) and not matches(shared, name))


@given(GLOBS)
def test_every_glob_holds_itself(glob: str) -> None:
    """A key can always be made like the one that makes it."""
    assert covers((glob,), (glob,))
    assert covers(("*",), (glob,))


def test_usual_allow_lists() -> None:
    """Lists as people write them become what they would expect."""
    assert common(("gpt-*", "GigaChat"), ("*",)) == ("gpt-*", "GigaChat")
    assert set(common(("gpt-*", "GigaChat"), ("gpt-4*", "Giga*"))) == {"gpt-4*", "GigaChat"}
    assert "gpt-*-mini" in common(("gpt-*",), ("*-mini",))
    assert common(("gpt-*",), ("claude-*",)) == ()


def test_spiteful_globs_take_no_time() -> None:
    """Two of the longest globs with the most stars are compared, and their common part found, in moments; what is found
    is still common to both."""
    first, second = "a*" * 8 + "b" * 112, "*ab" * 8 + "c" * 104
    began = time.process_time()
    assert not covers((first,), (second,))
    shared = common(("*a" * 8 + "?*b",), ("*b" * 8 + "?*a*",))
    assert time.process_time() - began < 2
    for glob in shared:
        name = glob.replace("*", "").replace("?", "b")
        assert matches(("*a" * 8 + "?*b",), name)
        assert matches(("*b" * 8 + "?*a*",), name)
