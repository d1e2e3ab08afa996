"""What an HTTP answer means in the gateway's words."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit import errors
from gatewaykit.answers import read_json, refusal, retry_after


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, errors.ProviderBadAnswer),
        (302, errors.ProviderBadAnswer),
        (400, errors.BadRequest),
        (401, errors.ProviderAuthFailed),
        (402, errors.ProviderUnpaid),
        (403, errors.ProviderDenied),
        (404, errors.ModelNotFound),
        (408, errors.ProviderTimeout),
        (413, errors.BodyTooLarge),
        (418, errors.ProviderError),
        (422, errors.BadRequest),
        (429, errors.ProviderBusy),
        (500, errors.ProviderUnavailable),
        (529, errors.ProviderUnavailable),
    ],
)
def test_status_has_its_meaning(status: int, kind: type[errors.GatewayError]) -> None:
    """Each status becomes one error; the status itself is for the log alone."""
    error = refusal(status, {})
    assert type(error) is kind
    assert error.detail == f"HTTP {status}"
    assert str(status) not in error.message


def test_retry_after_is_seconds_or_a_date() -> None:
    """Both forms of the header are read, and none waits longer than a day."""
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "9" * 400}) == 86_400
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (retry_after({"retry-after": soon}) or 0) <= 60
    assert retry_after({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0
    assert retry_after({}) is None


@given(st.text())
def test_any_retry_after_is_harmless(value: str) -> None:
    """Whatever an upstream writes there, the wait is none or possible."""
    wait = retry_after({"retry-after": value})
    assert wait is None or 0 <= wait <= 86_400


class Word(msgspec.Struct):
    word: str


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Bytes that are no such document become one error."""
    with contextlib.suppress(errors.ProviderBadAnswer):
        assert isinstance(read_json(data, Word), Word)


def test_unreadable_answer_is_not_repeated() -> None:
    """The error says which kind of fault it was and has nothing of the answer in it, not even as its cause."""
    with pytest.raises(errors.ProviderBadAnswer) as caught:
        read_json(b'{"word": ["secret"]}', Word)
    assert caught.value.detail == "the answer cannot be read: ValidationError"
    assert caught.value.__cause__ is None


def test_deep_nesting_is_refused() -> None:
    """A document deeper than the decoder goes is a bad answer, not a crash."""
    with pytest.raises(errors.ProviderBadAnswer):
        read_json(b'{"word": ' + b"[" * 100_000, dict[str, object])


def test_json_is_an_object_of_the_type_asked_for() -> None:
    """Fields that are not named are passed over."""
    assert read_json(b'{"word": "a", "more": 1}', Word) == Word("a")
