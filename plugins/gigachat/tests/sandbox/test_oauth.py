"""The token endpoints."""

from __future__ import annotations

import base64
import http.client
import time

import pytest

from gatewaykit_gigachat.sandbox import B2B, CORP, PERS, SandboxSettings, running_sandbox


@pytest.mark.parametrize("scope", [PERS, B2B, CORP])
def test_token_for_each_scope(api, scope):
    """Each scope has a credential; the token is opaque, long, and lives 30 minutes, told in milliseconds."""
    answer = api.authorize({"scope": scope}, api.running.key(scope))
    assert answer.status_code == 200
    token = answer.json()
    assert len(token["access_token"]) == 1100
    assert token["expires_at"] == pytest.approx((time.time() + 1800) * 1000, abs=60_000)


@pytest.mark.parametrize("rquid", ["", "no-uuid", "736ba29f-7e21-195b-a0a6-ab5003dffc84"])
def test_rquid_is_required(api, rquid):
    """A missing, malformed or non-v4 RqUID gets 400 with an empty body."""
    answer = api.authorize({"scope": PERS}, api.running.credentials, rquid=rquid)
    assert (answer.status_code, answer.content) == (400, b"")


@pytest.mark.parametrize(
    ("form", "key", "status", "body"),
    [
        ({}, "PERS", 400, {"code": 5, "message": "scope is empty"}),
        ({"scope": "WHAT"}, "PERS", 400, {"code": 1, "message": "scope data format invalid"}),
        ({"scope": B2B}, "PERS", 400, {"code": 7, "message": "scope from db not fully includes consumed scope"}),
        ({"scope": PERS}, "%%%", 401, {"code": 4, "message": "Can't decode 'Authorization' header"}),
        ({"scope": PERS}, None, 401, {"code": 4, "message": "Can't decode 'Authorization' header"}),
        ({"scope": PERS}, "bm8tY29sb24=", 401, {"code": 4, "message": "Can't decode 'Authorization' header"}),
        ({"scope": PERS}, "YTpi", 401, {"code": 6, "message": "credentials doesn't match db data"}),
    ],
)
def test_oauth_errors(api, form, key, status, body):
    """Every documented OAuth error has its status and body."""
    answer = api.authorize(form, api.running.credentials if key == "PERS" else key)
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["content-type"] == "application/json"


def test_user_and_password(api):
    """``/token`` takes user and password, tells ``exp`` in seconds, and its token works."""
    for base in (api.running.base_url, api.running.new_base_url):
        answer = api.user_token(api.running.user_key, base)
        assert answer.json()["exp"] == pytest.approx(time.time() + 1800, abs=60)
        api.http.headers["authorization"] = f"Bearer {answer.json()['tok']}"
        assert api.http.get("/models").status_code == 200
    assert api.user_token(base64.b64encode(b"sandbox:wrong").decode()).status_code == 401


def test_seconds_on_request(open_api):
    """``expires_at_unit`` makes OAuth answers tell seconds."""
    with running_sandbox(SandboxSettings(expires_at_unit="s")) as running:
        answer = open_api(running).authorize({"scope": PERS}, running.credentials)
    assert answer.json()["expires_at"] < 10**11


def test_rate_and_lifetime_follow_the_clock(open_api):
    """The 11th token request within a second gets 429; a second later it passes; a token ends after 30 minutes."""
    now = [1_700_000_000.0]
    with running_sandbox(SandboxSettings(clock=lambda: now[0])) as running:
        api = open_api(running)
        statuses = [api.authorize({"scope": B2B}, running.key(B2B)).status_code for _ in range(10)]
        assert statuses == [200] * 9 + [429]
        assert api.authorize({"scope": PERS}, running.credentials).status_code == 200
        now[0] += 1.0
        assert api.authorize({"scope": B2B}, running.key(B2B)).status_code == 200
        now[0] += 1798.9
        assert api.http.get("/models").status_code == 200
        now[0] += 0.1
        answer = api.http.get("/models")
        assert (answer.status_code, answer.json()) == (401, {"status": 401, "message": "Token has expired"})


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic abc"])
def test_wrong_tokens(api, header):
    """Without a token, or with a wrong one, the API answers 401 ``Unauthorized``."""
    answer = api.http.get("/models", headers={"authorization": header})
    assert (answer.status_code, answer.json()) == (401, {"status": 401, "message": "Unauthorized"})


def test_user_agent_is_required(api):
    """Without ``User-Agent`` the API answers 403 with its special body; OAuth does not mind."""
    answer = api.http.get("/models", headers={"user-agent": ""})
    assert (answer.status_code, answer.json()) == (403, {"message": "Unauthorized"})
    bare = http.client.HTTPConnection(api.http.base_url.host, api.http.base_url.port)
    bare.request("GET", "/v1/models", headers={"authorization": api.http.headers["authorization"]})
    assert bare.getresponse().status == 403
    bare.close()
    granted = api.authorize({"scope": PERS}, api.running.credentials, **{"user-agent": ""})
    assert granted.status_code == 200


def test_user_agent_may_be_optional(open_api):
    """``require_user_agent`` switches the rule off."""
    with running_sandbox(SandboxSettings(require_user_agent=False)) as running:
        assert open_api(running).http.get("/models", headers={"user-agent": ""}).status_code == 200


def test_secrets_stay_out_of_representations(api):
    """No secret shows in the representation of the settings or of a remembered request."""
    api.http.get("/models")
    token = api.http.headers["authorization"].split()[1]
    assert "sandbox-secret" not in repr(api.running.sandbox.settings)
    assert "sandbox-password" not in repr(api.running.sandbox.settings)
    assert token not in repr(api.running.journal.entries())
    assert base64.b64decode(api.running.credentials) == b"sandbox-pers:sandbox-secret"
