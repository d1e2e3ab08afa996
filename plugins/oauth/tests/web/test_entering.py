"""Signing in: sessions, forms that are believed, guesses that wait, setup links and second factors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import delete, func, select, text, update
from starlette.applications import Starlette

from gatewaykit import Gateway, GatewayMiddleware
from gatewaykit.errors import NotFound, RateLimited, Unavailable
from gatewaykit.storage import Storage
from gatewaykit.testing import running
from gatewaykit_oauth.accounts import get_account, put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.signin import links, passwords
from gatewaykit_oauth.signin.credentials import set_password
from gatewaykit_oauth.signin.throttle import FORGOTTEN, LONGEST_WAIT, Count, begin_attempt, forgive
from gatewaykit_oauth.tables import AttemptsRow, CredentialsRow, SessionRow

from ..conftest import OPERATOR, storage_at
from ..oauth_served import served
from .browser import PASSWORD, Browser
from .conftest import Place
from .seeding import add_people, seeded_gateway

Browse = Callable[..., Browser]
NEW = "another long password"


def run(gateway: Gateway, statement: Any) -> None:
    """Change what the database has."""
    assert gateway.storage is not None
    with gateway.storage.transaction() as session:
        session.execute(statement)


def value(gateway: Gateway, query: Any) -> Any:
    """The one value that is asked for."""
    assert gateway.storage is not None
    with gateway.storage.transaction(write=False) as session:
        return session.execute(query).scalar_one()


@pytest.fixture
def alone(tmp_path: Path) -> object:
    """A gateway of this test's own, with people in it."""
    gateway = seeded_gateway(tmp_path)
    with running(gateway) as address:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
        yield Place(gateway, address, {})


# Forms


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
    ],
)
def test_forms_of_other_sites_are_refused(browse: Browse, headers: dict[str, str]) -> None:
    """With the right token, too; by what the browser says of where the form comes from."""
    browser = browse("anna")
    token = dict(browser.get("/admin/account").form("/password").fields)["csrf"]
    if not headers["sec-fetch-site"]:
        answer = browser.client.post("/admin/sign-out", data={"csrf": token}, headers={"origin": headers["origin"]})
    else:
        answer = browser.client.post("/admin/sign-out", data={"csrf": token}, headers=headers)
    assert answer.status_code == 403
    assert browser.get("/admin/").status == 200
    assert browser.get("/admin/").path == "/admin/"


def test_a_token_belongs_to_one_session(browse: Browse) -> None:
    """None, a made up one, that of the visit before and that of somebody else's session are refused."""
    other = dict(browse("boris").get("/admin/account").form("/password").fields)["csrf"]
    browser = browse()
    visit = dict(browser.get("/admin/sign-in").form("/sign-in").fields)["csrf"]
    browser.sign_in("anna")
    for token in ("", "0" * 64, "\u00e9", visit, other):
        assert browser.post("/admin/sign-out", [("csrf", token)]).status == 403
    assert browser.post("/admin/sign-out", [("other", "field")]).status == 403
    assert browser.client.post("/admin/sign-out", json={}).status_code == 400
    assert browser.get("/admin/").path == "/admin/"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/admin/../../x",
        "/admin//evil",
        "/other",
        "javascript:alert(1)",
        "/admin/\r\nx: y",
        "/administrator",
    ],
)
def test_signing_in_leads_to_no_other_site(browse: Browse, target: str) -> None:
    """Whatever ``next`` says, one comes to the first page."""
    browser = browse()
    url = str(httpx.URL("/admin/sign-in", params={"next": target}))
    page = browser.send(browser.get(url), "/admin/sign-in", name="anna", password=PASSWORD)
    assert (page.path, page.response.request.url.host) == ("/admin/", "127.0.0.1")


# Sessions


def test_a_new_id_at_each_proof(browse: Browse) -> None:
    """Signing in, a password confirmed and one changed give the browser another token; the old one opens nothing."""
    browser = browse("boris")
    first = browser.client.cookies["gatewaykit_session"]
    browser.send(browser.get("/admin/confirm"), "/admin/confirm", password=PASSWORD)
    second = browser.client.cookies["gatewaykit_session"]
    assert first != second
    stolen = browse()
    stolen.client.cookies.set("gatewaykit_session", first, domain="127.0.0.1")
    assert stolen.get("/admin/").path.startswith("/admin/sign-in")


def test_cookies_are_out_of_reach(browse: Browse, place: Place) -> None:
    """HttpOnly and SameSite; over HTTPS with the prefix that no other host can set, and Secure."""
    page = browse().get("/admin/sign-in")
    header = page.response.headers["set-cookie"]
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    with running(seeded_gateway(Path.cwd(), admin={"base_url": "https://gateway.example"})) as address:
        secure = httpx.get(f"{address}/admin/sign-in", trust_env=False).headers["set-cookie"]
    assert secure.startswith("__Host-gatewaykit_visit=")
    assert "Secure" in secure
    assert "Path=/;" in secure


def test_a_session_ends_by_itself(alone: Place) -> None:
    """Without requests for ``session_idle``, and after ``session_absolute`` however busy it is."""
    with Browser(alone.address) as browser:
        for column, moment in (
            ("seen", datetime.now(UTC) - timedelta(hours=2, seconds=1)),
            ("ends", datetime.now(UTC) - timedelta(seconds=1)),
        ):
            assert browser.sign_in("anna").path == "/admin/"
            run(alone.gateway, update(SessionRow).values({column: moment}))
            assert browser.get("/admin/").path.startswith("/admin/sign-in")


def test_signing_out_here_and_everywhere(alone: Place) -> None:
    """One session ends, or all but this one; a changed password ends all others."""
    with Browser(alone.address) as one, Browser(alone.address) as two, Browser(alone.address) as three:
        for browser in (one, two, three):
            browser.sign_in("anna")
        three.send(three.get("/admin/"), "/sign-out")
        assert three.get("/admin/").path.startswith("/admin/sign-in")
        page = one.get("/admin/account")
        other = next(form for form in page.forms if "id" in dict(form.fields))
        one.post("/admin/account/sessions", other.fields)
        assert two.get("/admin/").path.startswith("/admin/sign-in")
        two.sign_in("anna")
        changed = one.send(one.get("/admin/account"), "/password", old=PASSWORD, password=NEW, again=NEW)
        assert changed.path == "/admin/account?done=password"
        assert two.get("/admin/").path.startswith("/admin/sign-in")
        assert one.get("/admin/").path == "/admin/"
        assert two.sign_in("anna").status == 400
        assert two.sign_in("anna", NEW).path == "/admin/"


def test_what_matters_wants_a_fresh_password(alone: Place) -> None:
    """An hour after signing in a key is made, and a role changed, only after the password was given again, and then one
    is back there."""
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        run(alone.gateway, update(SessionRow).values(authenticated=datetime.now(UTC) - timedelta(hours=1, seconds=1)))
        page = browser.get("/admin/keys/new")
        assert page.path == "/admin/confirm?next=%2Fadmin%2Fkeys%2Fnew"
        assert "not your password" in browser.send(page, "/admin/confirm", password="wrong").words
        for path in ("/admin/users/boris/edit", "/admin/users/new"):
            assert browser.get(path).path.startswith("/admin/confirm"), path
        assert browser.send(page, "/admin/confirm", password=PASSWORD).path == "/admin/keys/new"
        assert browser.get("/admin/users/boris/edit").status == 200


def test_a_form_that_comes_too_late_leads_back_to_itself(alone: Place) -> None:
    """Whoever was away for so long that they have to sign in again, or to prove who they are, is told that nothing was
    sent, and comes back to the page with the form: in any case to one that is there.
    """
    with alone.gateway.storage.transaction() as session:  # type: ignore[union-attr]
        put_account(session, OPERATOR, Account(id="b.o+ris@example.com"))
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        another = "/admin/users/b.o+ris@example.com"
        forms = (
            ("/admin/keys/new", "/keys/new", "/admin/keys/new"),
            ("/admin/account", "account/password", "/admin/account"),
            (f"{another}/edit", "/edit", f"{another}/edit"),
            (another, "/link", another),
        )
        for path, action, expected in forms:
            page = browser.get(path)
            run(alone.gateway, update(SessionRow).values(ends=datetime.now(UTC)))
            late = browser.send(page, action, name="typed")
            assert late.path.startswith("/admin/sign-in?next="), (path, late.words)
            assert "The form was not sent" in late.words
            assert browser.send(late, "/sign-in", name="anna", password=PASSWORD).path == expected
        page = browser.get("/admin/keys/new")
        run(alone.gateway, update(SessionRow).values(authenticated=datetime.now(UTC) - timedelta(hours=1, seconds=1)))
        late = browser.send(page, "/keys/new", name="typed")
        assert "The form was not sent" in late.words
        assert browser.send(late, "/admin/confirm", password=PASSWORD).path == "/admin/keys/new"


def test_a_form_is_shown_where_there_is_time_to_fill_it_in(alone: Place) -> None:
    """While a password is only just fresh enough, forms that are open are taken, and new ones want it once more."""
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        page = browser.get("/admin/keys/new")
        run(alone.gateway, update(SessionRow).values(authenticated=datetime.now(UTC) - timedelta(minutes=50)))
        assert "/admin/confirm" in browser.get("/admin/keys/new").path
        assert browser.send(page, "/keys/new", name="In time").status == 200


def test_settings_are_changed_on_every_page(alone: Place) -> None:
    """The menu works on the page of a fault that a stranger meets first, and leads back to a page that is there."""
    with Browser(alone.address) as stranger:
        page = stranger.send(stranger.get("/admin/setup/old"), "/preferences", language="ru")
        assert (page.status, page.response.headers["content-language"]) == (404, "ru")
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        fault = browser.send(browser.get("/admin/account"), "account/password", old="x", password="y", again="z")
        assert fault.status == 400
        assert browser.send(fault, "/preferences", theme="dark").path == "/admin/account"
        for path in ("/admin/sign-out", "/admin/preferences"):
            assert browser.get(path).path == "/admin/"


@pytest.mark.parametrize("prefix", ["/llm", "/admin"])
async def test_pages_lead_below_where_they_are_mounted(tmp_path: Path, prefix: str) -> None:
    """The menu comes back to the page that it was opened on, whatever the gateway is mounted under."""
    gateway = seeded_gateway(tmp_path)
    transport = httpx.ASGITransport(GatewayMiddleware(Starlette(), gateway, prefix=prefix))
    async with gateway, httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = (await client.get(f"{prefix}/admin/sign-in?next={prefix}/admin/keys")).text
        (token,) = set(re.findall(r'name="csrf" value="(\w+)"', page))
        (here,) = re.findall(r'name="next" value="([^"]+)"', page)
        form = {"csrf": token, "next": here, "theme": "dark"}
        answer = await client.post(f"{prefix}/admin/preferences", data=form)
        assert answer.headers["location"] == f"{prefix}/admin/sign-in?next={prefix}/admin/keys"


def test_the_database_has_no_token_and_no_password(alone: Place) -> None:
    """Only digests, of sessions, links, passwords and the second factor."""
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        token = browser.client.cookies["gatewaykit_session"]
        browser.get("/admin/account")
    assert alone.gateway.storage is not None
    with alone.gateway.storage.transaction() as session:
        link = links.new_link(session, OPERATOR, get_account(session, "boris"), datetime.now(UTC))
        session.flush()
        tables = [name for (name,) in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))]
        kept = "".join(str([tuple(row) for row in session.execute(text(f'SELECT * FROM "{name}"'))]) for name in tables)
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in kept
    for secret in (token, link, PASSWORD):
        assert secret not in kept


# Guessing


def test_unknown_and_wrong_are_told_apart_by_nothing(browse: Browse, place: Place) -> None:
    """An account that is not there, a service and a wrong password: one status and one text."""
    pages = [browse().sign_in(name, "a wrong password") for name in ("anna", "nobody", "search-service", "no such id!")]
    assert {page.status for page in pages} == {400}
    assert {re.sub(r'value="[^"]*"', "", page.text) for page in pages} == {re.sub(r'value="[^"]*"', "", pages[0].text)}


def test_a_name_that_no_database_takes(url: str) -> None:
    """Postgres takes no NUL in a text: a form that has one is no form, and no failure of the gateway."""
    with served(url) as there, Browser(there.address) as browser:
        assert browser.sign_in("an\0n").status == 400


def test_guesses_at_an_account_wait_and_its_owner_does_not(alone: Place) -> None:
    """After five a stranger waits, with 429 and Retry-After, even with the right password; a known browser gets in."""
    with Browser(alone.address) as known, Browser(alone.address) as stranger:
        known.sign_in("anna")
        known.send(known.get("/admin/"), "/sign-out")
        guesses = [stranger.sign_in("anna", f"guess {number}").status for number in range(5)]
        assert guesses == [400] * 5
        is_of_anna = AttemptsRow.subject == Count.of_account("anna").subject
        counted = value(alone.gateway, select(AttemptsRow.failures).where(is_of_anna))
        assert counted == 5
        # No machine is too slow for a wait of minutes.
        run(alone.gateway, update(AttemptsRow).where(is_of_anna).values(failures=14, last=datetime.now(UTC)))
        late = stranger.sign_in("anna")
        assert late.status == 429
        assert 1 <= int(late.response.headers["retry-after"]) <= LONGEST_WAIT.total_seconds()
        assert known.sign_in("anna").path == "/admin/"


def test_waits_grow_to_a_bound_and_are_forgotten(url: str) -> None:
    """On either database: free attempts, then 1, 2, 4 … seconds up to five minutes; an hour later all is new."""
    now, count = datetime(2027, 1, 31, tzinfo=UTC), Count.of_account("anna")
    with storage_at(url).opened() as storage:

        def attempt(moment: datetime) -> float:
            with storage.transaction() as session:
                try:
                    begin_attempt(session, [count], moment)
                except RateLimited as error:
                    return error.retry_after or 0
            return 0

        assert [attempt(now) for _ in range(5)] == [0] * 5
        waits = []
        for _ in range(12):
            waits.append(wait := attempt(now))
            now += timedelta(seconds=wait)
            assert attempt(now) == 0
        assert waits[:4] == [1, 2, 4, 8]
        assert waits[-1] == LONGEST_WAIT.total_seconds()
        now += FORGOTTEN
        assert [attempt(now) for _ in range(6)] == [0] * 5 + [1]
        assert attempt(now - timedelta(days=30)) == 0, "the clock was ahead for a while"
        with storage.transaction() as session:
            forgive(session, [count])
            assert list(session.scalars(select(AttemptsRow))) == []


def test_guesses_at_once_are_not_one(url: str) -> None:
    """Of 24 attempts at the same moment five are free, on either database."""
    now, counts = datetime(2027, 1, 31, tzinfo=UTC), [Count.of_account("anna"), Count.of_address("192.0.2.1")]
    with storage_at(url, pool_size=8).opened() as storage:

        def attempt(_: int) -> bool:
            try:
                with storage.transaction() as session:
                    begin_attempt(session, counts, now)
            except RateLimited:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(24))) == 5


# Setup links


def test_the_first_admin(tmp_path: Path) -> None:
    """There is no default password: who follows the first link becomes admin, once, and then there is no such link."""
    gateway = seeded_gateway(tmp_path)
    with running(gateway) as address, Browser(address) as browser:
        greeting = dict(gateway.greetings(address))["set up"]
        replaced, link = greeting, dict(gateway.greetings(address))["set up"]
        assert browser.get(replaced).status == 404
        page = browser.get(link)
        for fields, said in (
            ({"password": "short", "again": "short"}, "12 to 1024"),
            ({"password": NEW, "again": NEW + "!"}, "not the same"),
            ({"password": "aaaaaaaaaaaaaa", "again": "aaaaaaaaaaaaaa"}, "too easy"),
            ({"password": NEW, "again": NEW, "name": "no spaces"}, "letters, digits"),
        ):
            refused = browser.send(page, "setup", **{"name": "first", **fields})
            assert refused.status == 400
            assert said in refused.words
        assert browser.send(page, "setup", name="first", password=NEW, again=NEW).path == "/admin/"
        assert browser.get("/admin/users").status == 200
        assert browser.get(link).status == 404
        assert dict(gateway.greetings(address)) == {"pages": f"{address}/admin/"}


def test_a_link_is_followed_once(url: str) -> None:
    """Of eight who follow it at the same time one succeeds; afterwards, and after a day, nobody does."""
    now = datetime(2027, 1, 31, tzinfo=UTC)
    account = Account(id="vera")
    with storage_at(url, pool_size=8).opened() as storage:
        with storage.transaction() as session:
            token = links.invite(session, OPERATOR, account, now)
            late = links.invite(session, OPERATOR, Account(id="late"), now)

        def follow(_: int) -> bool:
            try:
                with storage.transaction() as session:
                    links.follow(session, token, account, "digest", now)
            except NotFound:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(follow, range(8))) == 1
        with storage.transaction() as session, pytest.raises(NotFound):
            links.follow(session, late, account, "digest", now + links.LIFE)


# The second factor


def test_a_second_factor(alone: Place) -> None:
    """It is added with a code, asked for at sign-in, takes each code once, falls back to recovery codes, goes away."""
    with Browser(alone.address) as browser, Browser(alone.address) as other:
        browser.sign_in("anna")
        page = browser.get("/admin/account/factor")
        found = re.search(r'id="factor-secret">([A-Z2-7 ]+)<', page.text)
        assert found is not None
        otp = pyotp.TOTP(found[1].replace(" ", ""))
        assert "<svg" in page.text
        assert browser.send(page, "/factor", code="000000").status == 400
        code = otp.now()
        codes = re.findall(r"<li>(\w{5}-\w{5})</li>", browser.send(page, "/factor", code=code).text)
        assert len(codes) == 10
        asked = other.sign_in("anna")
        assert asked.path.startswith("/admin/code")
        assert other.get("/admin/keys").path.startswith("/admin/sign-in")
        assert other.send(asked, "/admin/code", code=code).status == 400  # used already
        assert other.send(asked, "/admin/code", code=codes[0].upper()).path == "/admin/"
        other.send(other.get("/admin/"), "/sign-out")
        assert other.send(other.sign_in("anna"), "/admin/code", code=codes[0]).status == 400
        with alone.gateway.storage.transaction() as session:  # type: ignore[union-attr]
            session.execute(update(CredentialsRow).values(factor_step=0))
        assert other.send(other.sign_in("anna"), "/admin/code", code=otp.now()).path == "/admin/"
        assert "9 recovery codes" in browser.get("/admin/account").words
        gone = browser.send(browser.get("/admin/account"), "/factor/remove", proof=PASSWORD)
        assert gone.path == "/admin/account?done=factor-removed"
        other.send(other.get("/admin/"), "/sign-out")
        assert other.sign_in("anna").path == "/admin/"


def test_an_account_without_a_password_is_offered_nothing_that_needs_one(alone: Place) -> None:
    """Whoever comes in through an outside provider alone reads so, instead of forms that always refuse."""
    with Browser(alone.address) as browser:
        browser.sign_in("boris")
        run(alone.gateway, delete(CredentialsRow).where(CredentialsRow.account == "boris"))
        page = browser.get("/admin/account")
        assert "no password here" in page.words
        assert not any("password" in form.action or "factor" in form.action for form in page.forms)
        assert not any("factor" in link for link in page.links)


def test_codes_cannot_be_guessed(alone: Place) -> None:
    """After five wrong ones each has to wait, however right it is."""
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        page = browser.get("/admin/account/factor")
        found = re.search(r'id="factor-secret">([A-Z2-7 ]+)<', page.text)
        assert found is not None
        browser.send(page, "/factor", code=pyotp.TOTP(found[1].replace(" ", "")).now())
        browser.send(browser.get("/admin/account"), "/sign-out")
        asked = browser.sign_in("anna")
        statuses = [browser.send(asked, "/admin/code", code=f"{n:06}").status for n in range(12)]
        assert statuses[:5] == [400] * 5
        assert 429 in statuses


# Where


async def test_plain_http_is_for_this_machine(tmp_path: Path) -> None:
    """From another host's name nobody signs in over plain HTTP, unless that is allowed."""
    with running(seeded_gateway(tmp_path)) as address:
        host = {"host": "gateway.example:8080"}
        refused = httpx.get(f"{address}/admin/sign-in", headers=host, trust_env=False)
        assert (refused.status_code, "HTTPS" in refused.text) == (403, True)
        assert "set-cookie" not in refused.headers
    with running(seeded_gateway(tmp_path, admin={"allow_http": True})) as address:
        assert httpx.get(f"{address}/admin/sign-in", headers=host, trust_env=False).status_code == 200


def test_pages_can_be_switched_off(tmp_path: Path) -> None:
    """Then there is nothing under /admin/."""
    with running(seeded_gateway(tmp_path, admin={"enabled": False})) as address:
        assert httpx.get(f"{address}/admin/sign-in", trust_env=False).status_code == 404


def test_passwords_are_written_in_one_way() -> None:
    """However the keyboard composes letters, and not cut at any length."""
    known = passwords.hashed("пароль é ﬁ" + "x" * 500)
    assert passwords._verify(known, "пароль e\u0301 fi" + "x" * 500)
    assert not passwords._verify(known, "пароль e\u0301 fi" + "x" * 499)
    assert not passwords._verify(None, "nobody's password")
    assert not passwords._verify("no digest", "x")


async def test_few_passwords_are_checked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes on top of those that may wait is told to come back; a digest of an older kind is made anew."""
    go, checked = Event(), passwords.Passwords()
    monkeypatch.setattr(passwords, "_verify", lambda known, password: go.wait(60))
    waiting = [asyncio.ensure_future(checked.verify(None, "x")) for _ in range(34)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await checked.verify(None, "x")
    go.set()
    assert await asyncio.gather(*waiting) == [True] * 34
    assert await checked.renewed(passwords.hashed("secret"), "secret") is None
    older = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    renewed = await checked.renewed(older, "secret")
    assert renewed is not None
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_an_older_digest_is_made_anew_at_sign_in(alone: Place) -> None:
    """Whoever signs in with it has one of now afterwards."""
    older = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    of_anna = CredentialsRow.account == "anna"
    run(alone.gateway, update(CredentialsRow).where(of_anna).values(password=older))
    with Browser(alone.address) as browser:
        assert browser.sign_in("anna").path == "/admin/"
    kept = value(alone.gateway, select(CredentialsRow.password).where(of_anna))
    assert kept != older
    assert kept.startswith("$argon2id$v=19$m=19456")


def test_a_password_that_is_changed_while_it_is_checked(alone: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes with the old one while it is replaced is not let in: no session outlives the change."""
    real = passwords._verify

    def replaced_meanwhile(known: str | None, password: str) -> bool:
        is_right = real(known, password)
        storage: Storage = alone.gateway.storage  # type: ignore[assignment]
        with storage.transaction() as session:
            set_password(session, OPERATOR, "anna", passwords.hashed(NEW), datetime.now(UTC))
        return is_right

    monkeypatch.setattr(passwords, "_verify", replaced_meanwhile)
    with Browser(alone.address) as browser:
        assert browser.sign_in("anna").status == 400
    assert value(alone.gateway, select(func.count()).select_from(SessionRow)) == 0


def test_a_role_change_reaches_open_sessions(alone: Place) -> None:
    """An admin who becomes a member sees the pages of admins no more, at once."""
    with Browser(alone.address) as browser:
        browser.sign_in("anna")
        assert browser.get("/admin/users").status == 200
        storage: Storage = alone.gateway.storage  # type: ignore[assignment]
        with storage.transaction() as session:
            put_account(session, OPERATOR, Account(id="anna"))
        assert browser.get("/admin/users").status == 404
