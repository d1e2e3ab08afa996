"""What an upstream's errors become, and what is kept back of them."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.answers import retry_after
from gatewaykit.errors import (
    BadRequest,
    BodyTooLarge,
    ContentBlocked,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)
from gatewaykit_openai.refusals import Refusals

KEY = "sk-canary-5f0c9d2e7b1a48c6"
ADDRESS = "llm.internal:8000"


def document(message="The upstream says why.", **fields) -> bytes:
    return msgspec.json.encode({"error": {"message": message, **fields}})


@pytest.fixture
def refusals():
    return Refusals([KEY], ADDRESS)


TABLE = [
    (400, document(param="messages[0]"), BadRequest),
    (400, document(code="context_length_exceeded"), ContextTooLong),
    (400, document("This model's maximum context length is 8 tokens."), ContextTooLong),
    (400, document(type="exceed_context_size_error", code=400), ContextTooLong),
    (400, document(code="content_filter"), ContentBlocked),
    (400, document(code="x", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentBlocked),
    (400, document("Incorrect API key provided: sk-***"), ProviderAuthFailed),
    (400, document(code="invalid_api_key"), ProviderAuthFailed),
    (401, document(code="invalid_api_key"), ProviderAuthFailed),
    (401, b"", ProviderAuthFailed),
    (402, document(), ProviderUnpaid),
    (403, document(), ProviderDenied),
    (403, b"<html>blocked</html>", ProviderDenied),
    (404, document(code="model_not_found"), ModelNotFound),
    (404, b"404 page not found", ModelNotFound),
    (405, b"", ProviderError),
    (408, b"", ProviderTimeout),
    (409, document(), BadRequest),
    (413, b"<html>too large</html>", BodyTooLarge),
    (415, document(), BadRequest),
    (418, document(), ProviderError),
    (422, b'{"detail":[{"loc":["body"],"msg":"bad"}]}', BadRequest),
    (429, document(type="requests", code="rate_limit_exceeded"), ProviderBusy),
    (429, document(type="insufficient_quota", code="insufficient_quota"), ProviderUnpaid),
    (429, document("maximum context length"), ProviderBusy),
    (429, b"", ProviderBusy),
    (500, document(type="server_error"), ProviderUnavailable),
    (500, b"\xff\xfe", ProviderUnavailable),
    (502, b"<html>bad gateway</html>", ProviderUnavailable),
    (503, document(type="overloaded_error"), ProviderUnavailable),
    (504, b"upstream timed out", ProviderUnavailable),
    (529, b"", ProviderUnavailable),
    (201, b"", ProviderBadAnswer),
    (301, b"", ProviderBadAnswer),
    (307, b"", ProviderBadAnswer),
]


@pytest.mark.parametrize(("status", "body", "kind"), TABLE)
def test_status_and_body_make_the_error(refusals, status, body, kind):
    """Every answer that is no success has its typed error."""
    error = refusals.from_answer(status, {}, body)
    assert type(error) is kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (document("Temperature is too high.", param="temperature"), "Temperature is too high."),
        (msgspec.json.encode([{"error": {"message": "In a list."}}]), "In a list."),
        (b'{"error":"Only text."}', "Only text."),
        (b'{"object":"error","message":"No wrapper.","code":400}', "No wrapper."),
        (b'{"detail":"A detail."}', "A detail."),
        (b"plain\r\n  text\x00", "plain text"),
        (document("line\nbreaks\u202eand\x1b[31mcolours"), "line breaks and [31mcolours"),
        (document("x" * 2000), "x" * 500),
        (b"<!DOCTYPE html><html></html>", BadRequest.default_message),
        (b"\xff\xfe", BadRequest.default_message),
        (b"", BadRequest.default_message),
        (b"null", BadRequest.default_message),
        (b'{"error":{"message":{"a":1}}}', BadRequest.default_message),
        (b'{"error":[]}', BadRequest.default_message),
        (b"[" * 5000, "[" * 500),
    ],
)
def test_message_of_a_bad_request(refusals, body, message):
    """What is wrong with a client's own request is told in the upstream's words, in whatever form they come."""
    assert refusals.from_answer(400, {}, body).message == message


def test_param_is_told(refusals):
    """The field that the upstream names reaches the client."""
    assert refusals.from_answer(400, {}, document(param="tools[0].name")).param == "tools[0].name"
    assert refusals.from_answer(404, {}, document()).param == "model"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 418, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        KEY.upper(),
        f"key {KEY[:12]}… is bad",
        f"…{KEY[-8:]}",
        f"http://{ADDRESS}/v1/chat",
        "LLM.internal:8000",
        "llm.internal",
    ],
)
def test_no_secret_gets_through(refusals, status, secret):
    """A message, parameter or code with any part of the key, or with the address, is kept back whole."""
    body = document(f"Failed: {secret}", param=secret, code=secret, type=secret)
    shown = repr(vars(refusals.from_answer(status, {}, body))).lower()
    for part in (KEY[:10], KEY[-8:], "internal"):
        assert part.lower() not in shown


@pytest.mark.parametrize(
    ("address", "said", "kept"),
    [
        ("10.1.2.3:8000", "10.1.2.3 is busy", True),
        ("[fd00::7]:8000", "fd00::7 is busy", True),
        ("ollama:11434", "ollama:11434 is busy", True),
        ("ollama:11434", "ollama has no such option", False),
    ],
)
def test_a_host_is_kept_back_without_its_port(address, said, kept):
    """The upstream's host is told to nobody, without its port either; a host of one word is a word then."""
    message = Refusals([KEY], address).from_answer(400, {}, document(said)).message
    assert (said not in message) is kept


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503])
def test_words_about_the_gateway_are_our_own(refusals, status):
    """Errors that concern the gateway and not the client's request never repeat the upstream's text."""
    error = refusals.from_answer(status, {}, document("Organisation org-77 owes money."))
    assert "org-77" not in f"{error} {error.message} {error.detail}"
    assert error.message == type(error).default_message


@given(st.binary(max_size=200), st.integers(100, 999))
def test_any_bytes_make_an_error(body, status):
    """Whatever the body and the status, there is an error of the tree, with a short printable message."""
    error = Refusals([KEY], ADDRESS).from_answer(status, {}, body)
    assert isinstance(error, GatewayError)
    assert 0 < len(error.message) <= 500
    assert error.message.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "param", "innererror"]), inner, max_size=5
        )
    ),
)


@given(json_values)
def test_any_document_makes_an_error(value):
    """Whatever stands in an error document, in a body or in mid-stream, there is an error of the tree."""
    refusals = Refusals([KEY], ADDRESS)
    assert isinstance(refusals.from_answer(400, {}, msgspec.json.encode(value)), GatewayError)
    assert isinstance(refusals.from_document(value), GatewayError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x", "code": 429}, ProviderBusy),
        ({"message": "x", "type": "insufficient_quota"}, ProviderUnpaid),
        ({"message": "x", "code": 401}, ProviderAuthFailed),
        ({"message": "x", "code": "model_not_found"}, ModelNotFound),
        ({"message": "x", "type": "invalid_request_error"}, BadRequest),
        ({"message": "x", "type": "rate_limit_error"}, ProviderBusy),
        ({"message": "x", "code": "context_length_exceeded"}, ContextTooLong),
        ({"message": "x", "code": "content_filter"}, ContentBlocked),
        ({"message": "x", "type": "server_error"}, ProviderUnavailable),
        ("just text", ProviderUnavailable),
        ({"code": 99999}, ProviderUnavailable),
        (True, ProviderUnavailable),
    ],
)
def test_errors_without_a_status(refusals, error, kind):
    """An error document in a stream is told by its code and type."""
    assert type(refusals.from_document(error)) is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e12"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 9999 07:28:00 -0000"}, 86400.0),
    ],
)
def test_retry_after(headers, seconds):
    """Seconds, milliseconds and dates are understood, nonsense is not, and no wait is longer than a day."""
    assert retry_after(headers) == seconds


@given(st.text(max_size=40), st.text(max_size=10))
def test_any_retry_after(date, milliseconds):
    """No header value can do harm."""
    seconds = retry_after({"retry-after": date, "retry-after-ms": milliseconds})
    assert seconds is None or 0 <= seconds <= 86400


def test_retry_after_date():
    """A date in the future is the time until then."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < (retry_after({"retry-after": later}) or 0) <= 100


@pytest.mark.parametrize("status", [429, 503])
async def test_wait_is_told(status, provider, upstream, make_call, target):
    """The upstream's wish to wait comes with the error, over a real connection."""
    upstream.answers(status, document(), ("Retry-After", "3"))
    with pytest.raises((ProviderBusy, ProviderUnavailable)) as caught:
        await anext(provider.stream(make_call(), target))
    assert caught.value.retry_after == 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("status", "kind"), [(400, BadRequest), (401, ProviderAuthFailed), (500, ProviderUnavailable)])
async def test_both_ways_in_both_modes(raw, stream, status, kind, provider, upstream, make_call, target):
    """Streamed or not, passed or translated: the same answer is the same error."""
    upstream.answers(status, document())
    call = make_call(raw=raw, stream=stream)
    with pytest.raises(kind):
        await (anext(provider.stream(call, target)) if stream else provider.complete(call, target))


async def test_endless_error_body(provider, upstream, make_call, target):
    """An error with a huge body is still that error, and the body is not read to its end."""

    async def script(request, wire):
        await wire.send(b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not wire.writer.is_closing():
            await wire.piece(b"x" * 65536)

    upstream.script = script
    with pytest.raises(ProviderUnavailable):
        await anext(provider.stream(make_call(), target))


async def test_no_secret_anywhere(make_provider, upstream, make_call, target, caplog):
    """The key is in no repr, no error, no traceback and no log line, even when the upstream echoes it."""
    caplog.set_level(logging.DEBUG)
    provider = make_provider(headers={"X-Token": KEY[::-1]})
    shown = [repr(provider), str(provider), repr(vars(provider)["_client"]), repr(vars(provider)["_upstream"])]
    for status in (400, 401, 429, 500):
        upstream.answers(status, document(f"You sent {KEY} and {KEY[::-1]}", code=KEY, param=KEY), ("X-Echo", KEY))
        with pytest.raises(GatewayError) as caught:
            await provider.complete(make_call(stream=False), target)
        shown += [repr(caught.value), str(caught.value), "".join(traceback.format_exception(caught.value))]
    text = "".join([*shown, caplog.text])
    assert KEY not in text
    assert KEY[::-1] not in text
    assert upstream.received[0].headers["x-token"] == KEY[::-1]
