"""``/oauth/authorize`` as browsers and programs see it: who is sent where, and what somebody agrees to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client

from gatewaykit_oauth.server.model import DEVICE_CODE

from .oauth_served import Served, served
from .oauth_world import CALLBACK, VERIFIER, challenge_of
from .web.browser import PASSWORD, Browser

ASKED = {
    "response_type": "code",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "state": "s 1&x",
    "scope": "openid inference",
}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One gateway for the whole module."""
    folder = tmp_path_factory.mktemp("authorize")
    with served(f"sqlite:///{folder}/gatewaykit.db") as found:
        yield found


@pytest.fixture(scope="module")
def app(there: Served) -> dict[str, Any]:
    """A client whose redirect URI is on the gateway itself, where there is nothing."""
    return there.client(redirect_uris=[f"{there.address}/back", CALLBACK, "https://client.test/q?a=1"])


def url_of(app: dict[str, Any], **changed: Any) -> str:
    """An authorization request; fields that are None are left out."""
    given = {**ASKED, "client_id": app["id"], "redirect_uri": CALLBACK, **changed}
    return "/oauth/authorize?" + urlencode([(name, value) for name, value in given.items() if value is not None])


def sent(answer: httpx.Response) -> dict[str, str]:
    """Where an error goes: the client's own address, with 303 and no trace in caches or referrers."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": challenge_of(VERIFIER) + "\n"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": 'code"'}, "unsupported_response_type"),
        ({"response_type": "кот"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "openid nonsense"}, "invalid_scope"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "https://else.test"}, "invalid_target"),
        ({"request": "a.b.c"}, "invalid_request"),
        ({"max_age": "x"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_errors_go_to_the_client(there: Served, app: dict[str, Any], changed: dict[str, Any], error: str) -> None:
    """Gap 1: no code without PKCE, with ``plain``, without a method or with a line feed in the challenge; every error
    brings ``state`` and ``iss`` back."""
    answer = there.admin.get(url_of(app, **changed))
    found = sent(answer)
    assert answer.headers["location"].startswith(f"{CALLBACK}?")
    assert (found["error"], found["state"], found["iss"]) == (error, "s 1&x", there.address)


def test_a_query_that_was_there_stays(there: Served, app: dict[str, Any]) -> None:
    """What the redirect URI has in its query comes back unchanged, and no state comes back where none was sent."""
    answer = there.admin.get(url_of(app, redirect_uri="https://client.test/q?a=1", response_type="token", state=None))
    assert answer.headers["location"].startswith("https://client.test/q?a=1&error=unsupported_response_type&")
    assert "state" not in sent(answer)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "client_none"},
        {"client_id": None},
        {"client_id": "кот"},
        {"client_id": 'x"\r\nx: y'},
        {"client_id": "https://192.0.2.1/x"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.test/cb"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "#x"},
        {"redirect_uri": "HTTPS://client.test/cb"},
        {"redirect_uri": 'https://client.test/"onload='},
        {"redirect_uri": "кот"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
def test_nobody_is_sent_to_a_stranger(there: Served, app: dict[str, Any], changed: dict[str, Any]) -> None:
    """Gap 3: a client or address that is not known, malformed ones included, is a 400 page with nothing unescaped."""
    answer = there.admin.get(url_of(app, **changed), headers={"accept-language": "en"})
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-frame-options"] == "DENY"
    assert not [value for value in changed.values() if value and '"' in value and value in answer.text]


def test_repeated_parameters(there: Served, app: dict[str, Any]) -> None:
    """A parameter that comes twice is refused; an address that does leads nowhere; a resource may be
    repeated, and what nobody knows is ignored."""
    assert sent(there.admin.get(url_of(app) + "&scope=openid"))["error"] == "invalid_request"
    assert there.admin.get(url_of(app) + f"&redirect_uri={CALLBACK}").status_code == 400
    twice = urlencode([("resource", f"{there.address}/v1"), ("resource", there.address)])
    assert there.admin.get(url_of(app) + "&" + twice).headers["location"].startswith("/admin/sign-in")
    assert there.admin.get(url_of(app, nonsense="x")).headers["location"].startswith("/admin/sign-in")


def test_a_client_that_may_not_ask_people(there: Served) -> None:
    """Without the grant a client is sent back with ``unauthorized_client``."""
    made = there.client("tool", grants=[DEVICE_CODE], redirect_uris=[CALLBACK])
    assert sent(there.admin.get(url_of(made)))["error"] == "unauthorized_client"


def test_a_request_may_be_a_form(there: Served, app: dict[str, Any]) -> None:
    """A POST from another site is asked again by GET, for only then do browsers send a session."""
    answer = there.admin.post("/oauth/authorize", data={**ASKED, "client_id": app["id"], "redirect_uri": CALLBACK})
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query)["state"] == ["s 1&x"]
    assert urlsplit(answer.headers["location"]).path == "/oauth/authorize"


def test_somebody_agrees(there: Served, app: dict[str, Any]) -> None:
    """The page names program, hosts, scopes and lives; saying yes leads to a code, saying no to ``access_denied``, and
    the same page works once."""
    back = f"{there.address}/back"
    with Browser(there.address) as browser:
        page = browser.send(
            browser.get(url_of(app, redirect_uri=back)), "/admin/sign-in", name="ann", password=PASSWORD
        )
        for words in ("app", "Use models on your behalf", "Know who you are", app["id"], "127.0.0.1", "1 hour", "Ann"):
            assert words in page.words, words
        assert f"Where: {there.address}" in page.words
        assert "on your own computer" in page.words
        assert page.response.headers["cache-control"] == "no-store"
        policy = page.response.headers["content-security-policy"]
        assert f"form-action 'self' {there.address}" in policy
        assert "frame-ancestors 'none'" in policy
        done = browser.send(page, "/oauth/consent", decision="allow")
        found = parse_qs(urlsplit(done.path).query)
        assert done.path.startswith("/back?")
        assert found["iss"] == [there.address]
        assert found["state"] == ["s 1&x"]
        assert found["code"][0].startswith("gka_")
        again = browser.send(page, "/oauth/consent", decision="allow")
        assert again.status == 404
        page = browser.get(url_of(app, redirect_uri=back))
        denied = parse_qs(urlsplit(browser.send(page, "/oauth/consent", decision="deny").path).query)
        assert denied["error"] == ["access_denied"]
        silent = parse_qs(urlsplit(browser.get(url_of(app, redirect_uri=back, prompt="none")).path).query)
        assert silent["error"] == ["consent_required"]


def test_a_consent_needs_our_own_page(there: Served, app: dict[str, Any]) -> None:
    """A form that another site sends, and one without the session's token, agree to nothing."""
    with Browser(there.address) as browser:
        url = url_of(app, redirect_uri=f"{there.address}/back")
        page = browser.send(browser.get(url), "/admin/sign-in", name="ann", password=PASSWORD)
        fields = [(name, value) for name, value in page.form("/oauth/consent").fields if name != "csrf"]
        assert browser.post("/oauth/consent", [*fields, ("decision", "allow")]).status == 403
        foreign = {"sec-fetch-site": "cross-site"}
        everything = [*page.form("/oauth/consent").fields, ("decision", "allow")]
        assert browser.post("/oauth/consent", everything, **foreign).status == 403
        assert browser.send(page, "/oauth/consent", decision="allow").path.startswith("/back?code=")


def test_known_programs_are_not_asked_about_again(there: Served) -> None:
    """A confidential client of the operator's needs one consent for the same scopes, and another for more."""
    back = f"{there.address}/back"
    made = there.client("site", confidential=True, redirect_uris=[back])
    done = there.agree(url_of(made, redirect_uri=back))
    code = parse_qs(urlsplit(done.path).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "redirect_uri": back}
    assert httpx.post(f"{there.address}/oauth/token", data=form, auth=(made["id"], made["secret"])).status_code == 200
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        assert browser.get(url_of(made, redirect_uri=back)).path.startswith("/back?code=")
        assert browser.get(url_of(made, redirect_uri=back, prompt="consent")).forms
        assert browser.get(url_of(made, redirect_uri=back, scope="openid inference usage")).forms


def test_what_is_not_asked_again_lives_no_longer(there: Served) -> None:
    """Tokens of a program that may have a year live as long as was agreed to last, also when nobody is asked again."""
    back = f"{there.address}/back"
    made = there.client("yearly", confidential=True, redirect_uris=[back], access_seconds=31_536_000)

    def lives(path: str) -> int:
        form = {"grant_type": "authorization_code", "code": parse_qs(urlsplit(path).query)["code"][0]}
        form |= {"code_verifier": VERIFIER, "redirect_uri": back}
        answer = httpx.post(
            f"{there.address}/oauth/token", data=form, auth=(made["id"], made["secret"]), trust_env=False
        )
        return int(answer.json()["expires_in"])

    url = url_of(made, redirect_uri=back)
    for seconds in (86_400, 3600):
        again = url_of(made, redirect_uri=back, prompt="consent")
        assert lives(there.agree(again, seconds=str(seconds)).path) == seconds
        with Browser(there.address) as browser:
            browser.sign_in("ann")
            assert lives(browser.get(url).path) == seconds


def test_programs_that_anybody_can_pretend_to_be(there: Served, app: dict[str, Any]) -> None:
    """A public client is asked about each time, whatever was agreed to before; its year is told."""
    back = f"{there.address}/back"
    public = there.client("public", redirect_uris=[back], access_seconds=31_536_000)
    for _ in range(2):
        code = parse_qs(urlsplit(there.agree(url_of(public, redirect_uri=back)).path).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": public["id"]}
        assert httpx.post(f"{there.address}/oauth/token", data=form, trust_env=False).status_code == 200
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        page = browser.get(url_of(public, redirect_uri=back))
        assert page.form("/oauth/consent")
        assert "1 year" in page.words


async def test_authlib_as_a_client(there: Served) -> None:
    """authlib's own client goes through the whole flow: PKCE, code, refresh, revocation, introspection."""
    import asyncio

    back = f"{there.address}/back"
    made = there.client("authlib", confidential=True, redirect_uris=[back])
    async with AsyncOAuth2Client(
        made["id"],
        made["secret"],
        redirect_uri=back,
        scope="openid inference",
        code_challenge_method="S256",
        token_endpoint=f"{there.address}/oauth/token",
        revocation_endpoint_auth_method="client_secret_basic",
        trust_env=False,
    ) as client:
        url, state = client.create_authorization_url(f"{there.address}/oauth/authorize", code_verifier=VERIFIER)
        done = await asyncio.to_thread(there.agree, url)
        token = await client.fetch_token(
            authorization_response=f"{there.address}{done.path}", state=state, code_verifier=VERIFIER
        )
        assert token["token_type"] == "Bearer"
        assert (await client.get(f"{there.address}/v1/models")).status_code == 200
        renewed = await client.refresh_token(token_url := f"{there.address}/oauth/token", token["refresh_token"])
        assert renewed["access_token"] != token["access_token"], token_url
        known = await client.introspect_token(f"{there.address}/oauth/introspect", token=renewed["access_token"])
        assert known.json()["active"] is True
        gone = await client.revoke_token(f"{there.address}/oauth/revoke", token=renewed["refresh_token"])
        assert gone.status_code == 200
        known = await client.introspect_token(f"{there.address}/oauth/introspect", token=renewed["access_token"])
        assert known.json() == {"active": False}


def test_somebody_takes_it_back(there: Served) -> None:
    """The page lists what programs may do; withdrawing it there ends the token at once."""
    back = f"{there.address}/back"
    made = there.client("to be withdrawn", redirect_uris=[back])
    code = parse_qs(urlsplit(there.agree(url_of(made, redirect_uri=back)).path).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": made["id"]}
    token = httpx.post(f"{there.address}/oauth/token", data=form).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{there.address}/v1/models", headers=bearer).status_code == 200
    (grant,) = there.admin.get("/api/admin/grants", params={"client": made["id"]}).json()["items"]
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        page = browser.get("/admin/grants")
        assert "to be withdrawn" in page.words
        done = browser.send(page, f"/admin/grants/{grant['id']}/end")
        assert "The access is withdrawn" in done.words
        assert "to be withdrawn" not in done.words
    assert httpx.get(f"{there.address}/v1/models", headers=bearer).status_code == 401
