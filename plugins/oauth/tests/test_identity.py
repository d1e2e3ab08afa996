"""Signing in through an outside OpenID provider: a real one, and one that lies in every way it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, select

from gatewaykit import Gateway
from gatewaykit.errors import ConfigError
from gatewaykit.testing import running
from gatewaykit.testing.gateways import bound
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.identity import people, provider
from gatewaykit_oauth.identity.failures import ProviderAway
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server.pace import Pace
from gatewaykit_oauth.signin import links
from gatewaykit_oauth.tables import AuditRow, IdentityRow, SessionRow
from gatewaykit_oauth.web import Site, identity

from .conftest import OPERATOR
from .lying_provider import CLIENT, SECRET, LyingProvider, plain
from .oauth_served import served
from .web.browser import PASSWORD, Browser, Page
from .web.seeding import add_people, seeded_gateway

WITH = "/admin/sign-in/with"
LIAR = {"label": "Liar & Sons", "client_id": CLIENT, "client_secret": SECRET, "timeout": 20}


@dataclass
class Place:
    """A gateway whose people sign in elsewhere."""

    gateway: Gateway
    address: str
    liar: LyingProvider

    def rows(self, query: Any) -> list[Any]:
        """What is in its database."""
        assert self.gateway.storage is not None
        with self.gateway.storage.transaction(write=False) as session:
            return list(session.scalars(query))

    def put(self, **account: Any) -> None:
        """Make or change an account."""
        assert self.gateway.storage is not None
        with self.gateway.storage.transaction() as session:
            put_account(session, OPERATOR, Account(**account))

    def forget(self) -> None:
        """Nobody has ever signed in elsewhere, or tried to, and the provider is good."""
        self.liar.reset()
        site = Site.of(self.gateway)
        assert site is not None
        site.pace = Pace()
        assert self.gateway.storage is not None
        with self.gateway.storage.transaction() as session:
            session.execute(delete(IdentityRow))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A gateway, and two names of one provider: by one accounts are made, by the other they are not."""
    liar, listener = LyingProvider(), bound()
    liar.issuer = "http://{}:{}".format(*listener.getsockname())
    making = {**LIAR, "issuer": liar.issuer, "create": True, "domains": ["example.com"], "admins": {"groups": ["root"]}}
    config = {"liar": {**LIAR, "issuer": liar.issuer}, "making": making}
    gateway = seeded_gateway(tmp_path_factory.mktemp("identity"), oauth={"identity_providers": config})
    with running(liar.app, listener), running(gateway) as address:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
            put_account(session, OPERATOR, Account(id="boris@example.com", name="Boris"))
            put_account(session, OPERATOR, Account(id="kte@example.com", name="Kte"))
        yield Place(gateway, address, liar)


@pytest.fixture
def place(there: Place) -> Place:
    """The same, with nothing left of other tests."""
    there.forget()
    return there


@pytest.fixture
def browser(place: Place) -> Iterator[Callable[[], Browser]]:
    """New browsers."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Browser(place.address))


def comes(browser: Browser, name: str = "liar", target: str = "/admin/account") -> Page:
    """The page where somebody ends who presses the button."""
    return browser.get(f"{WITH}/{name}?next={target}")


def test_a_gateway_signs_people_in_for_another(tmp_path: Path) -> None:
    """With a second gateway as the provider, over sockets: discovery, consent there, a session here; and what needs a
    fresh proof asks there once more."""
    with served(f"sqlite:///{tmp_path}/provider.db") as provider:
        callback = f"http://127.0.0.1{WITH}/second/back"
        made = provider.client(
            confidential=True, redirect_uris=[callback], grants=["authorization_code"], scopes=["openid", "profile"]
        )
        second = {
            "label": "the second",
            "issuer": provider.address,
            "client_id": made["id"],
            "client_secret": made["secret"],
            "scopes": ["openid", "profile"],
            "account_claim": "sub",
        }
        gateway = seeded_gateway(tmp_path, oauth={"identity_providers": {"second": second}})
        with running(gateway) as address, Browser(address) as browser:
            assert gateway.storage is not None
            with gateway.storage.transaction() as session:
                put_account(session, OPERATOR, Account(id="ann", name="Ann here"))
            page = browser.get("/admin/sign-in?next=/admin/account")
            assert "Sign in with the second" in page.words
            (button,) = [link for link in page.links if WITH in link]
            page = browser.get(button)
            assert str(page.response.url).startswith(provider.address)
            page = browser.send(page, "/admin/sign-in", name="ann", password=PASSWORD)
            page = browser.send(page, "/oauth/consent", decision="allow")
            assert str(page.response.url) == f"{address}/admin/account"
            assert "Ann here" in page.words
            with gateway.storage.transaction() as session:
                (row,) = session.scalars(select(SessionRow))
                session.execute(
                    SessionRow.__table__.update().values(authenticated=row.authenticated.replace(year=2026, month=1))
                )
            page = browser.get("/admin/keys/new")
            assert page.path.startswith("/admin/confirm")
            with gateway.storage.transaction() as session:
                assert session.scalar(select(IdentityRow.subject)) == "ann"


def test_what_is_asked_of_a_provider(place: Place, browser: Callable[[], Browser]) -> None:
    """State, nonce and PKCE by S256 go along, each new each time; the audit log says through whom."""
    first, second = browser(), browser()
    assert comes(first).path == comes(second).path == "/admin/account"
    one, other = place.liar.asked[-2:]
    assert one["code_challenge_method"] == "S256"
    assert one["response_type"] == "code"
    assert one["scope"] == "openid profile email"
    assert one["redirect_uri"] == f"{place.address}{WITH}/liar/back"
    for name in ("state", "nonce", "code_challenge"):
        assert one[name] != other[name]
        assert len(one[name]) >= 43
    begun = place.rows(select(AuditRow).where(AuditRow.action == "session.begin"))
    assert begun[-1].after == {"identity_provider": "liar"}


LIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "wrong nonce": ({"claims": {"nonce": "another"}}, 502, "nonce"),
    "no nonce": ({"claims": {"nonce": None}}, 502, "nonce"),
    "wrong audience": ({"claims": {"aud": "another"}}, 502, "InvalidAudienceError"),
    "several audiences": ({"claims": {"aud": [CLIENT, "another"]}}, 502, "party"),
    "another party": ({"claims": {"azp": "another"}}, 502, "azp"),
    "expired": ({"claims": {"exp": 1_700_000_000}}, 502, "ExpiredSignatureError"),
    "no end": ({"claims": {"exp": None}}, 502, "MissingRequiredClaimError"),
    "from the future": ({"claims": {"iat": 4_000_000_000}}, 502, "ImmatureSignatureError"),
    "another issuer": ({"claims": {"iss": "https://evil.example"}}, 502, "InvalidIssuerError"),
    "nobody": ({"claims": {"sub": None}}, 502, "MissingRequiredClaimError"),
    "another token's hash": ({"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}, 502, "at_hash"),
    "strange moment": ({"claims": {"auth_time": "yesterday"}}, 502, "auth_time"),
    "no ID token": ({"tokens": {"id_token": None}}, 502, "no ID token"),
    "no JWT": ({"tokens": {"id_token": "eyJ"}}, 502, "not a JWT"),
    "a long one": ({"tokens": {"id_token": "e" * 20_000}}, 502, "not a JWT"),
    "unsigned": ({"sign_with": (None, "none", {"kid": "k1"})}, 502, "algorithm"),
    "by the secret": ({"sign_with": (SECRET, "HS256", {"kid": "k1"})}, 502, "algorithm"),
    "by somebody": ({"sign_with": (ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "k1"})}, 502, "Signature"),
    "by a key unknown": ({"sign_with": (ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "k2"})}, 502, "key"),
    "another's answer": ({"back": {"iss": "https://evil.example"}}, 502, "issuer"),
    "nobody's answer": ({"back": {"iss": None}}, 502, "issuer"),
    "it says no": ({"back": {"code": None, "error": "access_denied"}}, 403, "access_denied"),
    "it says something": ({"back": {"code": None, "error": "<b>\n"}}, 403, "says no"),
    "another's state": ({"back": {"state": "another"}}, 400, "no attempt"),
    "no state": ({"back": {"state": None}}, 400, "no attempt"),
    "garbage": ({"broken": plain("<html>")}, 502, "token endpoint"),
    "a list": ({"broken": plain("[1]")}, 502, "token endpoint"),
    "too much": ({"broken": plain("x" * 300_000)}, 502, "too long"),
    "refused": ({"broken": plain('{"error": "invalid_grant"}', 400)}, 502, "invalid_grant"),
    "in trouble": ({"broken": plain("", 503)}, 503, "status 503"),
    "e-mail not verified": ({"claims": {"email_verified": False}}, 403, "not verified"),
    "e-mail perhaps verified": ({"claims": {"email_verified": "yes"}}, 403, "not verified"),
    "another's letters": ({"claims": {"email": "\u212ate@example.com"}}, 403, "no e-mail address"),
    "a subject that no database takes": ({"claims": {"sub": "person\0"}}, 502, "sub"),
    "no name of an account": ({"claims": {"email": "a\0b@example.com"}}, 403, "cannot be an account's id"),
    "unknown account": ({"claims": {"email": "carl@example.com"}}, 403, "no such account"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(place: Place, browser: Callable[[], Browser], lie: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is let in by what is not so; the page says what a person may know, the log why; no secret is in either."""
    change, status, reason = LIES[lie]
    for name, value in change.items():
        setattr(place.liar, name, value)
    it = browser()
    page = comes(it)
    assert page.status == status, (page.words, caplog.text)
    assert page.form("/admin/sign-in").action.endswith("next=%2Fadmin%2Faccount") or status == 400
    assert [line for line in caplog.messages if "nobody signed in with liar" in line and reason in line], caplog.text
    assert SECRET not in caplog.text + page.text
    place.liar.reset()
    assert it.get("/admin/account").path.startswith("/admin/sign-in")
    assert not place.rows(select(IdentityRow))


@pytest.mark.parametrize("moment", [10**12, 2**63, -5])
def test_a_moment_that_is_no_year_of_ours(place: Place, browser: Callable[[], Browser], moment: int) -> None:
    """A provider that counts in milliseconds, or in anything, is no failure; nobody has signed in later than now."""
    place.liar.claims = {"auth_time": moment}
    before = datetime.now(UTC)
    assert comes(browser()).path == "/admin/account"
    (session,) = place.rows(select(SessionRow).order_by(SessionRow.created.desc()).limit(1))
    assert session.authenticated <= datetime.now(UTC)
    assert (session.authenticated < before - timedelta(days=1)) == (moment < 0)


def test_only_the_id_token_says_when(place: Place, browser: Callable[[], Browser]) -> None:
    """What the user info says of the moment of the sign-in counts for nothing, and breaks nothing."""
    place.liar.claims = {"email": None}
    place.liar.user = {"email": "boris@example.com", "auth_time": "yesterday"}
    assert comes(browser()).path == "/admin/account"


METADATA: dict[str, dict[str, Any]] = {
    "another issuer": {"metadata": {"issuer": "https://evil.example"}},
    "without keys": {"metadata": {"jwks_uri": None}},
    "an address inside": {"metadata": {"token_endpoint": "http://192.0.2.1/token"}},
    "a file": {"metadata": {"jwks_uri": "file:///etc/passwd"}},
    "with a user": {"metadata": {"token_endpoint": "https://user@example.com/"}},
    "no address": {"metadata": {"authorization_endpoint": 7}},
    "a page": {"broken_metadata": plain("<html>")},
    "nothing there": {"broken_metadata": plain("", 404)},
    "elsewhere": {"broken_metadata": plain("", 302)},
}


@pytest.mark.parametrize("lie", METADATA)
def test_metadata_that_cannot_be_believed(tmp_path: Path, lie: str) -> None:
    """Nobody is sent anywhere by it, and nothing is asked there; once it is right the same gateway uses it."""
    liar, listener = LyingProvider(), bound()
    liar.issuer = "http://{}:{}".format(*listener.getsockname())
    for name, value in METADATA[lie].items():
        setattr(liar, name, value)
    gateway = seeded_gateway(tmp_path, oauth={"identity_providers": {"liar": {**LIAR, "issuer": liar.issuer}}})
    with running(liar.app, listener), running(gateway) as address, Browser(address) as browser:
        assert comes(browser).status == 502
        liar.reset()
        assert browser.client.get(f"{WITH}/liar", follow_redirects=False).status_code == 303


def test_a_provider_that_is_away_or_slow(tmp_path: Path) -> None:
    """Its users get 503 with Retry-After and the form for a password, in the time that is set; known metadata serve."""
    liar, listener = LyingProvider(), bound()
    liar.issuer = "http://{}:{}".format(*listener.getsockname())
    config = {**LIAR, "issuer": liar.issuer, "timeout": 2}
    gateway = seeded_gateway(tmp_path, oauth={"identity_providers": {"liar": config}})
    with running(gateway) as address, Browser(address) as browser:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
        with running(liar.app, listener):
            liar.delay = 8
            page = comes(browser)
            assert (page.status, page.response.headers["retry-after"]) == (503, "5")
            liar.reset()
            assert browser.client.get(f"{WITH}/liar", follow_redirects=False).status_code == 303
            liar.delay = 8
            assert comes(browser).status == 503
            liar.reset()
        assert browser.client.get(f"{WITH}/liar", follow_redirects=False).status_code == 303
        fresh = seeded_gateway(tmp_path, oauth={"identity_providers": {"liar": config}})
        with running(fresh) as other, Browser(other) as second:
            assert comes(second).status == 503
        assert browser.sign_in("boris").path == "/admin/"


def test_an_answer_counts_once_and_in_one_browser(place: Place, browser: Callable[[], Browser]) -> None:
    """The same answer again, with the cookie of before, is refused; so is another browser, and another provider's."""
    it, other = browser(), browser()
    off = it.client.get(f"{WITH}/liar", follow_redirects=False)
    back = httpx.get(off.headers["location"], trust_env=False).headers["location"]
    kept = it.client.cookies["gatewaykit_identity"]
    assert other.get(back).status == 400
    elsewhere = back.replace("/with/liar/", "/with/making/")
    assert it.get(elsewhere).status == 400
    it.client.cookies.set("gatewaykit_identity", kept)
    assert it.get(back).path == "/admin/"
    other.client.cookies.set("gatewaykit_identity", kept)
    assert other.get(back).status == 400
    other.client.cookies.set("gatewaykit_identity", kept[:-4] + "AAAA")
    assert other.get(back).status == 400
    assert other.get("/admin/account").path.startswith("/admin/sign-in")


def test_a_parameter_twice(place: Place, browser: Callable[[], Browser]) -> None:
    """An answer with two codes or two states is refused."""
    it = browser()
    off = it.client.get(f"{WITH}/liar", follow_redirects=False)
    back = httpx.get(off.headers["location"], trust_env=False).headers["location"]
    assert it.get(f"{back}&code=other").status == 400


def test_only_to_pages_of_ours(place: Place, browser: Callable[[], Browser]) -> None:
    """Whatever the button's address says, nobody is sent to another site afterwards."""
    assert comes(browser(), target="https://evil.example/").path == "/admin/"
    assert comes(browser(), target="//evil.example/").path == "/admin/"


def test_an_account_belongs_to_one_person(place: Place, browser: Callable[[], Browser]) -> None:
    """Another person with the same address at the same provider does not get the account; the first one keeps it when
    the address changes."""
    assert comes(browser()).path == "/admin/account"
    place.liar.claims = {"sub": "person-2"}
    assert comes(browser()).status == 403
    place.liar.claims = {"email": "boris.new@example.com"}
    page = comes(browser())
    assert page.path == "/admin/account"
    (row,) = place.rows(select(IdentityRow))
    assert (row.subject, row.account) == ("person-1", "boris@example.com")


def test_making_accounts_and_roles(place: Place, browser: Callable[[], Browser]) -> None:
    """Where it is allowed, somebody of the right domain gets an account; the role follows the claim at each sign-in."""
    place.liar.claims = {"sub": "dora", "email": "Dora@Example.com", "name": "Dora"}
    page = comes(browser(), "making")
    assert (page.path, "dora@example.com" in page.text) == ("/admin/account", True)
    place.liar.claims["groups"] = ["staff", "root"]
    it = browser()
    assert comes(it, "making", "/admin/users").path == "/admin/users"
    assert it.get("/admin/users").status == 200
    assert place.gateway.storage is not None
    with place.gateway.storage.transaction() as session:
        assert links.has_admin(session)
    place.liar.claims["groups"] = "staff"
    assert comes(browser(), "making", "/admin/users").status == 404
    assert it.get("/admin/users").status == 404
    place.liar.claims = {"sub": "eve", "email": "eve@evil.example"}
    assert comes(browser(), "making").status == 403
    place.liar.claims = {"sub": "eve", "email": "eve@evil@example.com"}
    assert comes(browser(), "making").status == 403
    place.liar.claims = {"sub": "fay", "email": "fay@example.com", "email_verified": None}
    place.liar.user = {"sub": "fay", "email_verified": False}
    assert comes(browser(), "making").status == 403
    place.liar.user = {"sub": "somebody else", "email_verified": True}
    assert comes(browser(), "making").status == 502
    place.liar.user = {"sub": "fay", "email_verified": True}
    assert comes(browser(), "making").path == "/admin/account"


def test_disabled_and_unlinked(place: Place, browser: Callable[[], Browser]) -> None:
    """A disabled account stays outside, whatever the provider says; an account that was unlinked is the next one's."""
    assert comes(browser()).path == "/admin/account"
    place.put(id="boris@example.com", name="Boris", enabled=False)
    assert comes(browser()).status == 403
    place.put(id="boris@example.com", name="Boris")
    place.liar.claims = {"sub": "person-2"}
    assert comes(browser()).status == 403
    assert place.gateway.storage is not None
    with place.gateway.storage.transaction() as session:
        assert people.unlink(session, OPERATOR, "boris@example.com", datetime.now(UTC)) == 1
    assert comes(browser()).path == "/admin/account"


def test_proving_it_once_more(place: Place, browser: Callable[[], Browser]) -> None:
    """What matters most sends somebody to the provider again, who has to say that it asked anew, and whom."""
    it = browser()
    place.liar.claims = {"auth_time": int(time.time()) - 86_400}
    comes(it)
    page = it.get("/admin/keys/new")
    assert page.path.startswith("/admin/confirm")
    assert "Confirm with Liar & Sons" in page.words
    for lie in ({"auth_time": int(time.time()) - 3600}, {"auth_time": None}, {"sub": "person-2"}):
        place.liar.claims = lie
        assert comes(it, target="/admin/keys/new").status == 403
    assert (place.liar.asked[-1]["prompt"], place.liar.asked[-1]["max_age"]) == ("login", "0")
    place.liar.claims = {}
    assert comes(it, target="/admin/keys/new").path == "/admin/keys/new"


def test_nobody_makes_the_gateway_ask_without_end(
    place: Place, browser: Callable[[], Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one address so many attempts a minute, and then 429; an unknown provider does not exist."""
    monkeypatch.setattr(identity, "MOST", 5)
    it = browser()
    assert it.get(f"{WITH}/nobody").status == 404
    statuses = {it.client.get(f"{WITH}/liar/back").status_code for _ in range(8)}
    assert statuses == {400, 429}


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://accounts.example.com"},
        {"issuer": "https://user@example.com"},
        {"issuer": "https://accounts.example.com?x"},
        {"scopes": ["email"]},
        {"create": True},
        {"domains": ["@example.com"]},
        {"require": {"groups": []}},
    ],
)
def test_settings_that_would_be_open(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Plain http, no openid, and accounts for everybody in the world are refused at the start."""
    given = {"label": "X", "issuer": "https://accounts.example.com", "client_id": "x", **wrong}
    with pytest.raises(ConfigError):
        seeded_gateway(tmp_path, oauth={"identity_providers": {"x": given}})


@pytest.mark.parametrize(
    ("sections", "said"),
    [({"admin": {"enabled": False}}, "admin.enabled"), ({"database": {}, "keys": {}}, "needs a database")],
)
def test_without_pages_there_is_no_way_in(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    """A provider that nobody could sign in with is a fault of the configuration, not ignored."""
    given = {"label": "X", "issuer": "https://accounts.example.com", "client_id": "x"}
    with pytest.raises(ConfigError, match=said):
        seeded_gateway(tmp_path, oauth={"identity_providers": {"x": given}}, **sections)


async def test_nobody_waits_for_a_provider_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who come while it is away wait once, together; an older document serves at once meanwhile, and the provider
    is asked again after a while."""
    asked: list[str] = []
    away = [False]

    class Wire:
        async def document(self, url: str) -> dict[str, Any]:
            asked.append(url)
            await asyncio.sleep(0.01)
            if away[0]:
                raise ProviderAway("no answer")
            return {"number": len(asked)}

    now = [1000.0]
    monkeypatch.setattr(provider, "monotonic", lambda: now[0])
    kept: Any = provider.Kept(Wire())  # type: ignore[arg-type]
    away[0] = True
    answers = await asyncio.gather(*(kept.get("x") for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ProviderAway] * 5
    away[0] = False
    now[0] += 1
    assert await kept.get("x") == {"number": len(asked)}
    before = len(asked)
    away[0], now[0] = True, now[0] + provider.KEPT + 1
    assert [await kept.get("x") for _ in range(5)] == [{"number": before}] * 5
    assert len(asked) == before + 1
    now[0] += provider.OLDEST
    with pytest.raises(ProviderAway):
        await kept.get("x")
