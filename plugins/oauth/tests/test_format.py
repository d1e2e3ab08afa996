"""The look of keys, and their digests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit_oauth.keys.format import has_checksum, has_shape, hint, new_key
from gatewaykit_oauth.keys.secrets import Secrets, pepper_id

from .conftest import PEPPER

ENVS = st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True)
LIKE_OURS = "gk_live_" + "0" * 42
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@given(ENVS)
def test_a_new_key_is_one_of_ours(env: str) -> None:
    """Every new key has the shape, its checksum fits, it has 36 random base62 digits, and no two are the same."""
    key, other = new_key(env), new_key(env)
    assert re.fullmatch(rf"gk_{env}_[0-9A-Za-z]{{36}}[0-9A-Za-z]{{6}}", key)
    assert has_shape(key)
    assert has_checksum(key)
    assert key != other


@given(st.integers(8, len(new_key("live")) - 1), st.integers(1, len(BASE62) - 1))
def test_one_wrong_character_is_noticed(place: int, by: int) -> None:
    """Whichever base62 digit of a key is mistyped, or two neighbours are swapped, the checksum tells."""
    key = new_key("live")
    letter = BASE62[(BASE62.index(key[place]) + by) % len(BASE62)]
    wrong = key[:place] + letter + key[place + 1 :]
    assert has_shape(wrong)
    assert not has_checksum(wrong)
    swapped = key[: place - 1] + key[place] + key[place - 1] + key[place + 1 :] if place > 8 else key
    assert swapped == key or not has_checksum(swapped)


@given(st.text(max_size=80) | st.from_regex(r"gk_.{0,70}", fullmatch=True))
def test_whatever_is_sent_is_judged_without_a_fault(text: str) -> None:
    """Any text is either of our shape, and then plain ASCII of the right length, or not ours."""
    if has_shape(text):
        assert text.isascii()
        assert len(text.rpartition("_")[2]) == 42
        has_checksum(text)


@pytest.mark.parametrize(
    "text",
    [
        "gk_test_0123456789abcdefghij",
        "gk_local_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
        LIKE_OURS + "x",
        LIKE_OURS[:-1],
        LIKE_OURS + "\n",
        LIKE_OURS.replace("gk_", "GK_"),
        LIKE_OURS.replace("gk_", "sk-"),
    ],
)
def test_keys_of_the_configuration_do_not_look_like_ours(text: str) -> None:
    """Another length or another alphabet is another kind of key, also after ``gk_``."""
    assert has_shape(LIKE_OURS)
    assert not has_shape(text)


def test_a_hint_shows_prefix_and_end_only() -> None:
    """Of the 36 random digits a hint shows none, of the checksum four."""
    key = new_key("prod")
    assert hint(key) == f"gk_prod_…{key[-4:]}"


def test_secrets_print_nothing_secret() -> None:
    """Neither pepper nor key is in any repr, and the id of a pepper is no part of it."""
    secrets = Secrets(PEPPER, ["an-older-pepper-of-thirty-two-characters"])
    new = secrets.new()
    for shown in (repr(secrets), repr(new), str(new)):
        assert PEPPER not in shown
        assert "older" not in shown
        assert new.text not in shown
    assert secrets.current not in PEPPER


def test_digests_differ_by_pepper_and_the_current_one_comes_first() -> None:
    """Each pepper makes a digest of 32 bytes of its own; the same pepper given twice counts once."""
    old = "an-older-pepper-of-thirty-two-characters"
    secrets = Secrets(PEPPER, [old, PEPPER])
    key = new_key("live")
    assert secrets.digests(key) == (Secrets(PEPPER).digest(key), Secrets(old).digest(key))
    assert [len(digest) for digest in secrets.digests(key)] == [32, 32]
    assert secrets.ids == {pepper_id(PEPPER), pepper_id(old)}
