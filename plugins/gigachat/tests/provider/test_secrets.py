"""Secrets stay where they are: canaries in every credential, failures of every kind, and all that is printed."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import msgspec
import pytest

from gatewaykit.errors import GatewayError
from gatewaykit.types import Target
from gatewaykit_gigachat.sandbox import Account, Client, SandboxSettings

MODEL = Target("gigachat", "GigaChat-2-Max")
CLIENT = Client("canary-client", "canary-secret", "GIGACHAT_API_B2B")
ACCOUNT = Account("somebody", "canary-password")


@pytest.fixture
def sandbox_settings() -> SandboxSettings:
    """A sandbox whose every credential has a canary in it."""
    return SandboxSettings(clients=(CLIENT,), accounts=(ACCOUNT,))


def told(error: BaseException) -> str:
    """All that could be printed of an error, its causes included."""
    return "".join([repr(error), str(error), repr(vars(error)), *traceback.format_exception(error)])


@pytest.mark.parametrize(
    "fields",
    [
        {"credentials": CLIENT.key, "scope": CLIENT.scope},
        {"credentials": CLIENT.key, "scope": "GIGACHAT_API_CORP"},
        {"user": ACCOUNT.user, "password": ACCOUNT.password},
        {"user": ACCOUNT.user, "password": ACCOUNT.password + "-wrong"},
        {"access_token": "canary-token"},
    ],
)
@pytest.mark.parametrize("fault", ["", "status=401", "status=400", "html=500", "drop=before", "garbage", "status=429"])
async def test_no_secret_is_told(
    bench: Any, logged: list[str], caplog: pytest.LogCaptureFixture, fields: dict[str, str], fault: str
) -> None:
    """Whatever fails, no repr, error, traceback or log line holds a key, a password, a token or their encodings."""
    caplog.set_level(logging.DEBUG)
    provider = bench.provider(**fields, max_retries=1, session_secret="canary-session-secret")
    shown = [repr(provider)]
    if fault:
        bench.sandbox.faults.push(fault, times=None)
    for attempt in (
        lambda: provider.complete(bench.call(), MODEL),
        lambda: bench.events(provider, bench.call()),
        provider.models,
    ):
        try:
            await attempt()
        except GatewayError as error:
            shown += [told(error), repr(error.headers), error.message, error.detail or ""]
    shown += [repr(provider), repr(vars(provider)), *logged, caplog.text]
    everything = "\n".join(shown)
    secrets = {"canary", CLIENT.key, bench.sandbox.user_key}
    for entry in bench.sandbox.journal.entries():
        secrets.add(entry.headers.get("authorization", "canary").split()[-1])
    assert len(secrets) >= 3
    assert not [secret for secret in secrets if secret in everything]


async def test_a_provider_that_repeats_the_secret_is_not_repeated(bench: Any) -> None:
    """An upstream that writes the request's headers into its error message does not get them through to the client."""
    await bench.provider(credentials=CLIENT.key, scope=CLIENT.scope).models()
    token = bench.sandbox.journal.entries("/models")[0].headers["authorization"]
    for status in (400, 401, 403, 404, 422, 500):
        message = f"bad header authorization {token} at {bench.sandbox.base_url}"
        bench.sandbox.faults.push(f"status={status}; message={message}", times=2, path="/chat/completions")
        provider = bench.provider(credentials=CLIENT.key, scope=CLIENT.scope, max_retries=1)
        with pytest.raises(GatewayError) as caught:
            await provider.complete(bench.call(), MODEL)
        assert token.split()[1] not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)


async def test_secrets_go_where_they_belong_only(bench: Any) -> None:
    """The key goes to the token endpoint alone, the token to the API, and no tenant's own name to anybody."""
    provider = bench.provider(credentials=CLIENT.key, scope=CLIENT.scope)
    await provider.complete(bench.call(tenant="canary-tenant", session="canary-session"), MODEL)
    for entry in bench.sandbox.journal.entries():
        assert (CLIENT.key in entry.headers["authorization"]) == (entry.path == "/oauth")
        text = msgspec.json.encode(entry.headers).decode() + entry.body.decode()
        assert "canary-tenant" not in text
        assert "canary-session" not in text
