"""What is asked about access tokens and of people who sign in, while something is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from .conftest import Opener, World

ISSUER = "http://127.0.0.1:9"
PASSWORD = "correct horse battery staple"


@dataclass
class Office:
    """A gateway with an authorization server, a client that acts for ``ann``, and ann herself."""

    it: World
    client: str = ""
    secret: str = ""

    async def issue(self) -> httpx.Response:
        """The answer to a request for a token."""
        return await self.it.http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, auth=(self.client, self.secret)
        )

    async def token(self) -> str:
        """A new token that nobody has used yet."""
        answer = await self.it.until_answered(200, self.issue)
        return str(answer.json()["access_token"])

    async def used_token(self) -> str:
        """A new token that this process has let in once."""
        token = await self.token()
        await self.it.until_answered(200, lambda: self.it.ask(token))
        return token

    async def ask(self, token: str, times: int = 1) -> list[httpx.Response]:
        """So many calls with this token."""
        return await self.it.ask_times(times, token)

    async def revoke(self, token: str) -> httpx.Response:
        """The answer when its client revokes it."""
        return await self.it.http.post("/oauth/revoke", data={"token": token}, auth=(self.client, self.secret))

    async def sign_in(self, password: str = PASSWORD) -> httpx.Response:
        """The answer to name and password, in a new browser."""
        address = str(self.it.http.base_url)
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as browser:
            page = await browser.get("/admin/sign-in")
            found = re.search(r'name="csrf" value="([^"]+)"', page.text)
            assert found is not None, page.text
            form = {"csrf": found[1], "name": "ann", "password": password}
            return await browser.post("/admin/sign-in", data=form, headers={"sec-fetch-site": "same-origin"})


@asynccontextmanager
async def office(world: Opener, *where: str, **config: Any) -> AsyncIterator[Office]:
    """A gateway that issues tokens; ``where`` are the URLs of database and Redis.

    It waits for the database for longer than the usual gateway of these tests: preparing takes what it takes.
    """
    given = {"oauth": {"issuer": ISSUER}, "database": {"timeout": 10}, **config}
    async with world(*where, **given) as it:
        yield await _opened(it)


async def _opened(it: World) -> Office:
    from gatewaykit_oauth.accounts import put_account
    from gatewaykit_oauth.keys.model import Account, Actor
    from gatewaykit_oauth.signin.credentials import set_password
    from gatewaykit_oauth.signin.passwords import hashed

    def add() -> None:
        digest = hashed(PASSWORD)
        assert it.gateway.storage is not None
        with it.gateway.storage.transaction() as session:
            put_account(session, Actor("cli"), Account(id="ann"))
            session.flush()
            set_password(session, Actor("cli"), "ann", digest, datetime.now(UTC))

    await asyncio.to_thread(add)
    spec = {"name": "job", "confidential": True, "owner": "ann", "grants": ["client_credentials"]}
    made = await it.until_answered(201, lambda: it.http.post("/api/admin/clients", json=spec))
    return Office(it, made.json()["id"], made.json()["secret"])
