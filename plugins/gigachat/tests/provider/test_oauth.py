"""Token endpoints: what is sent, what their errors mean, and what never shows."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any
from urllib.parse import parse_qs

import pytest

from gatewaykit.errors import (
    GatewayError,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderTimeout,
    ProviderUnavailable,
)
from gatewaykit.testing import Step, Upstream, UpstreamAnswer, refusing_address
from gatewaykit.testing.upstream import Script
from gatewaykit_gigachat.control import MAX_BODY_BYTES, Control
from gatewaykit_gigachat.credentials import OAuthEndpoint, PasswordEndpoint
from gatewaykit_gigachat.retries import Retries
from gatewaykit_gigachat.sandbox import B2B, CORP, SandboxSettings
from gatewaykit_gigachat.token import TokenKeeper

PATH = "/api/v2/oauth"
KEY = "Y2FuYXJ5OmNhbmFyeQ=="
GOOD = {"access_token": "token", "expires_at": 4102444800000}
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def control() -> Control:
    """HTTP without any trust: nothing here speaks TLS."""
    return Control(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), {"User-Agent": "tests"}, 10.0)


def retries(most: int = 2) -> Retries:
    return Retries(most, 0.001, 1.0, (429, 500, 503))


async def test_the_request_is_as_documented(control: Control) -> None:
    """The key goes as Basic, with a fresh UUID v4 for each request, the scope as a form, and a User-Agent."""
    async with Upstream(lambda _: UpstreamAnswer.of_json(GOOD).script()) as upstream:
        endpoint = OAuthEndpoint(control, retries(), upstream.url + PATH, KEY, CORP)
        for _ in range(2):
            assert (await endpoint()).value == "token"
    first, second = upstream.requests
    assert (first.method, first.path) == ("POST", PATH)
    assert first.headers["authorization"] == f"Basic {KEY}"
    assert first.headers["user-agent"] == "tests"
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(first.body.decode()) == {"scope": [CORP]}
    assert UUID4.fullmatch(first.headers["rquid"])
    assert first.headers["rquid"] != second.headers["rquid"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {}, "HTTP 400"),
        (400, {"code": 5, "message": "scope is empty"}, "gigachat.scope"),
        (400, {"code": 1, "message": "scope data format invalid"}, "gigachat.scope"),
        (400, {"code": 7, "message": "scope from db not fully includes consumed scope"}, "another scope"),
        (401, {"code": 7, "message": "scope from db not fully includes consumed scope"}, "another scope"),
        (401, {"code": 4, "message": "Can't decode 'Authorization' header"}, "gigachat.credentials"),
        (401, {"code": 6, "message": "credentials doesn't match db data"}, "wrong or revoked"),
        (403, {"message": f"no access for {KEY} at https://inner.example/x"}, "no access for"),
    ],
)
async def test_configuration_errors_are_asked_once(
    control: Control, status: int, body: dict[str, Any], told: str
) -> None:
    """A refused key or scope is ProviderAuthFailed, told apart in the log's detail, and never tried again."""
    async with Upstream(lambda _: UpstreamAnswer.of_json(body, status).script()) as upstream:
        with pytest.raises(ProviderAuthFailed) as caught:
            await OAuthEndpoint(control, retries(), upstream.url + PATH, KEY, B2B)()
    assert len(upstream.requests) == 1
    assert told in str(caught.value)
    assert "inner.example" not in str(caught.value)
    assert caught.value.message == ProviderAuthFailed.default_message


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (UpstreamAnswer.of_json({"code": 9, "message": "TOO_MANY_REQUESTS"}, 429).script(), ProviderBusy),
        (UpstreamAnswer((b"<html>busy</html>",), 503).script(), ProviderUnavailable),
        (UpstreamAnswer(status=500).script(), ProviderUnavailable),
        ([Step.RESET], ProviderUnavailable),
        ([Step.CLOSE], ProviderUnavailable),
        ([Step.HOLD], ProviderTimeout),
    ],
)
async def test_what_may_pass_is_tried_again(script: Script, kind: type[GatewayError]) -> None:
    """Busy, broken and silent token endpoints are tried three times in all, then told as what they were."""
    limit = 0.05 if kind is ProviderTimeout else 10.0
    control = Control(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), {}, limit)
    async with Upstream(lambda _: script) as upstream:
        with pytest.raises(kind):
            await OAuthEndpoint(control, retries(), upstream.url + PATH, KEY, B2B)()
    assert kind is ProviderTimeout or len(upstream.requests) == 3


async def test_one_that_cannot_be_reached_is_unavailable(control: Control) -> None:
    """A refused connection is told as such, as often as it is tried."""
    with refusing_address() as url, pytest.raises(ProviderUnavailable):
        await OAuthEndpoint(control, retries(), url + PATH, KEY, B2B)()


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"access_token": 5, "expires_at": 1}', '{"tok": "a b", "exp": 1}']
)
async def test_answers_without_a_token_are_bad_answers(control: Control, body: str) -> None:
    """A 200 that holds no token is ProviderBadAnswer."""
    async with Upstream(lambda _: UpstreamAnswer((body.encode(),)).script()) as upstream:
        with pytest.raises(ProviderBadAnswer):
            await OAuthEndpoint(control, retries(), upstream.url + PATH, KEY, B2B)()


async def test_an_answer_has_an_end(control: Control) -> None:
    """A token endpoint that sends more than eight mebibytes is ProviderBadAnswer."""
    async with Upstream(lambda _: UpstreamAnswer((b"x" * MAX_BODY_BYTES, b"x")).script()) as upstream:
        with pytest.raises(ProviderBadAnswer):
            await OAuthEndpoint(control, retries(), upstream.url + PATH, KEY, B2B)()


@pytest.mark.parametrize(
    "sandbox_settings", [SandboxSettings(expires_at_unit="s"), SandboxSettings(expires_at_unit="ms")]
)
async def test_tokens_of_both_units_live_half_an_hour(bench: Any, control: Control) -> None:
    """Against the sandbox a token's end is half an hour away, whatever its unit."""
    endpoint = OAuthEndpoint(control, retries(), bench.sandbox.auth_url, bench.sandbox.key(B2B), B2B)
    now = bench.sandbox.sandbox.settings.clock()
    assert 1790 < (await endpoint()).expires - now < 1810


async def test_a_user_gets_tokens_too(bench: Any, control: Control) -> None:
    """User and password give a token from the API's own endpoint; a wrong password is ProviderAuthFailed."""
    url = bench.sandbox.base_url + "/token"
    assert (await PasswordEndpoint(control, retries(), url, "sandbox", "sandbox-password")()).value
    with pytest.raises(ProviderAuthFailed):
        await PasswordEndpoint(control, retries(), url, "sandbox", "wrong")()


async def test_a_token_is_renewed_before_it_ends(bench: Any, control: Control) -> None:
    """With the sandbox's tokens of half an hour, a call in the last minute brings a new one, and all are accepted."""
    endpoint = OAuthEndpoint(control, retries(), bench.sandbox.auth_url, bench.sandbox.key(B2B), B2B)
    now = bench.sandbox.sandbox.settings.clock()
    keeper = TokenKeeper(endpoint, 60.0, lambda: now)
    first = await keeper.authorization()
    now += 1700
    assert await keeper.authorization() == first
    assert bench.sandbox.stats.tokens_issued == 1
    now += 55
    async with asyncio.timeout(10):
        while await keeper.authorization() == first:
            await asyncio.sleep(0.005)
    assert bench.sandbox.stats.tokens_issued == 2


async def test_a_wrong_key_is_the_gateways_failure(bench: Any) -> None:
    """A key of another scope or of nobody fails calls as ProviderAuthFailed, a 502."""
    for fields in ({"credentials": bench.sandbox.key(B2B), "scope": CORP}, {"credentials": KEY}):
        with pytest.raises(ProviderAuthFailed) as caught:
            await bench.provider(**fields).models()
        assert caught.value.status == 502
