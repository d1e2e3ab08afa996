"""Error answers, and the texts in them."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewaykit.answers import retry_after
from gatewaykit.errors import (
    BadRequest,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    NotFound,
    PermissionDenied,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)
from gatewaykit_gigachat.api import json_object
from gatewaykit_gigachat.errors import api_refusal, short, token_refusal

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}


def error_of(status: int, message: str | None, headers: dict[str, str] = JSON) -> GatewayError:
    body = b"" if message is None else msgspec.json.encode({"status": status, "message": message})
    return api_refusal(status, headers, body).error


@pytest.mark.parametrize(
    ("status", "message", "kind", "param"),
    [
        (400, "Your request contains invalid JSON syntax.", BadRequest, None),
        (400, 'Unknown type "json_object" in response_format', BadRequest, "response_format"),
        (400, "Empty schema with json format type is not supported", BadRequest, "response_format"),
        (401, "Token has expired", ProviderAuthFailed, None),
        (402, "Payment Required", ProviderUnpaid, None),
        (403, "Permission denied", ProviderDenied, None),
        (403, "Access to file 'abc' is denied", PermissionDenied, None),
        (403, "Unauthorized", ProviderAuthFailed, None),
        (404, "No such model", ModelNotFound, "model"),
        (404, None, ModelNotFound, "model"),
        (404, "Unknown tool x", BadRequest, "tools"),
        (404, "No such file", NotFound, None),
        (408, None, ProviderTimeout, None),
        (413, "Payload too large", ContextTooLong, None),
        (418, "teapot", ProviderError, None),
        (422, "Invalid params: system message must be the first message", BadRequest, "messages"),
        (422, "Invalid params: repetition_penalty must be in range (0, +inf)", BadRequest, "frequency_penalty"),
        (422, "Requested model does not support functions", BadRequest, "tools"),
        (422, "Field 'properties.data.properties' is missing", BadRequest, "tools"),
        (422, "Invalid params: every assistant function call must have a result in history", BadRequest, "messages"),
        (422, "Invalid params: invalid function result json string 5, error: x", BadRequest, "messages"),
        (422, "Unprocessable Entity", BadRequest, None),
        (422, None, BadRequest, None),
        (429, "Too many requests", ProviderBusy, None),
        (500, "Internal Server Error", ProviderUnavailable, None),
        (503, None, ProviderUnavailable, None),
        (302, None, ProviderBadAnswer, None),
        (204, None, ProviderBadAnswer, None),
    ],
)
def test_each_answer_is_its_error(
    status: int, message: str | None, kind: type[GatewayError], param: str | None
) -> None:
    """Status and message decide the error, and the client's field where the message tells it."""
    error = error_of(status, message)
    assert type(error) is kind
    assert error.param == param
    assert f"HTTP {status}" in (error.detail or "")


def test_a_bad_request_says_what_the_provider_said() -> None:
    """The provider's words about the request reach the client, shortened."""
    assert (
        "system message must be the first" in error_of(422, "Invalid params: system message must be the first").message
    )
    assert len(error_of(400, "word " * 500).message) < 350


def test_a_page_at_404_is_a_wrong_address() -> None:
    """An HTML page in place of JSON is no missing model; the log points to the base URL."""
    error = api_refusal(404, HTML, b"<html>nginx</html>").error
    assert type(error) is ProviderError
    assert "gigachat.base_url" in (error.detail or "")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ProviderAuthFailed), (429, ProviderBusy), (503, ProviderUnavailable)]
)
def test_a_message_in_another_encoding_hides_no_status(status: int, kind: type[GatewayError]) -> None:
    """A body whose text is no UTF-8 is an error of its status all the same, at the API and at the token endpoint."""
    body = '{"message": "Сервис недоступен"}'.encode("cp1251")
    assert type(api_refusal(status, JSON, body).error) is kind
    assert type(token_refusal(status, JSON, body).error) is kind


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 5000, b'{"object": "\xff"}'])
def test_what_is_no_json_object_is_a_bad_answer(body: bytes) -> None:
    """An answer in one piece that cannot be read is ProviderBadAnswer, whatever is wrong with it."""
    with pytest.raises(ProviderBadAnswer):
        json_object(body)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retry_after_is_kept(status: int) -> None:
    """Errors that may pass keep the server's wish."""
    assert error_of(status, None, {**JSON, "retry-after": "7"}).retry_after == 7


def test_retry_after_may_be_a_date() -> None:
    """A date is the seconds until then; a past one is none, and anything else is no wish."""
    assert 58 < (retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) or 0) <= 60
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    for text in ("", "soon", "-5", "1e9", "nan", "٣"):
        assert retry_after({"retry-after": text}) is None
    assert retry_after({}) is None


@given(st.text(max_size=300))
@example("0\x1f")
def test_any_retry_after_is_a_wait_or_none(text: str) -> None:
    """No header value raises or gives a negative wait."""
    wait = retry_after({"retry-after": text})
    assert wait is None or wait >= 0


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(["content-type", "retry-after"]), st.text()), st.binary())
def test_any_answer_is_a_typed_error(status: int, headers: dict[str, str], body: bytes) -> None:
    """No status, header or body breaks the reading of an error."""
    assert isinstance(api_refusal(status, headers, body).error, GatewayError)
    assert isinstance(token_refusal(status, headers, body).error, GatewayError)


@pytest.mark.parametrize(
    "text",
    [
        "see https://gigachat.devices.sberbank.ru/api/v1/chat?x=canary",
        "header Authorization: Bearer canary",
        "header Basic canary==",
        "token " + "canary" * 20,
    ],
)
def test_addresses_and_secrets_are_cut_out(text: str) -> None:
    """A message that repeats an address or a credential is shown without it."""
    assert "canary" not in short(text)
    assert short(text).split()[0] == text.split()[0]


@given(st.one_of(st.text(max_size=2000), st.integers(), st.none(), st.lists(st.integers())))
def test_short_texts_are_one_printable_line(value: Any) -> None:
    """Whatever the provider says becomes at most 300 printable characters."""
    text = short(value)
    assert len(text) <= 300
    assert text.isprintable()
