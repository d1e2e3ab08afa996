"""``keys.longest_days``: the bound of every key's life, on whatever way it is made or changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gatewaykit.testing import running

from .oauth_world import world
from .surfaces import Place
from .test_oauth_cli import done, run
from .web.browser import Browser
from .web.seeding import add_people, seeded_gateway

LONGEST = {"longest_days": 30}


def in_days(days: float) -> str:
    """That moment."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


async def test_by_the_api(url: str) -> None:
    """Longer and endless keys are refused by name, new or changed; one of which nothing is said lives as long
    as it may."""
    async with world(url, keys=LONGEST) as there:

        async def make(**body: Any) -> tuple[int, Any]:
            answer = await there.http.post(
                "/api/admin/keys", json={"name": "x", "scopes": ["keys"], **body}, headers=there.operator
            )
            return answer.status_code, answer.json()

        status, made = await make()
        assert status == 201
        assert made["expires"] < in_days(30.1)
        assert (await make(expires=in_days(29)))[0] == 201
        for wrong in (None, in_days(31)):
            status, refused = await make(expires=wrong)
            assert (status, refused["error"]["param"]) == (400, "expires")
            path = f"/api/admin/keys/{made['id']}"
            answer = await there.http.patch(path, json={"expires": wrong}, headers=there.operator)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expires")
        answer = await there.http.patch(path, json={"note": "kept"}, headers=there.operator)
        assert answer.status_code == 200
    async with world(url) as there:
        assert (await make(expires=None))[0] == 201
        assert (await make())[1]["expires"] > in_days(89)


def test_by_command(tmp_path: Path) -> None:
    """The same by ``gatewaykit keys``."""
    place = Place(tmp_path)
    place.config.write_text(place.config.read_text().replace("[keys]\n", "[keys]\nlongest_days = 30\n"))
    made = done(place, "keys", "create", "x")
    assert made["expires"] < in_days(30.1)
    for arguments in (("create", "y", "--expires", "never"), ("update", made["id"], "--expires", "1y")):
        ran = run(place, "keys", *arguments)
        assert ran.exit_code == 1
        assert "30 days at most" in ran.stderr


def test_on_the_pages(tmp_path: Path) -> None:
    """The form says so at its field, in the language of the page."""
    gateway = seeded_gateway(tmp_path, keys={"pepper": "p" * 40, **LONGEST})
    with running(gateway) as address, Browser(address, "ru") as browser:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
        browser.sign_in("anna")
        page = browser.send(browser.get("/admin/keys/new"), "/admin/keys/new", name="x", lifetime="365")
        assert page.status == 400
        assert "не дольше 30 дней" in page.words
        assert browser.send(page, "/admin/keys/new", lifetime="30").status == 200
