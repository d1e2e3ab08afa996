"""A gateway with an authorization server, and a browser's part in it without any page: codes for whoever asks."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

import httpx
from sqlalchemy.orm import Session

from gatewaykit import Gateway
from gatewaykit.testing import make_gateway
from gatewaykit.testing.gateways import KEY
from gatewaykit.testing.waiting import until
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server import clients
from gatewaykit_oauth.server.authority import Authority, digest_of
from gatewaykit_oauth.server.authorizing import AuthorizationRequest, write_code
from gatewaykit_oauth.server.model import DEVICE_CODE, ClientSpec, NewClient

from .conftest import OPERATOR, PEPPER

ISSUER = "https://gateway.test"
CALLBACK = "https://client.test/cb"
VERIFIER = "v" * 43
ADMIN_KEY = "admin-0123456789abcdefghijklmnop"
NOT_AHEAD = {"read_ahead": 0}
"""Tokens that a process has not seen are looked up when they come."""

PATIENT = {"code_seconds": 600, "refresh_grace_seconds": 60}
"""What is over within seconds is not over so soon here, however busy the machine is."""


class HeldBack:
    """Does what ``real`` does, in its thread, and answers only when it may: what it has ``read`` may be old by then."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.read, self.go = Event(), Event()

    def __call__(self, *arguments: Any) -> Any:
        """What was found before the wait."""
        found = self._real(*arguments)
        self.read.set()
        assert self.go.wait(60)
        return found


def challenge_of(verifier: str) -> str:
    """RFC 7636, 4.2, written down once more: S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def oauth_gateway(url: str, *, oauth: dict[str, Any] | None = None, **config: Any) -> Gateway:
    """A gateway with keys and an authorization server over the database at ``url``."""
    keys = {"pepper": PEPPER, "poll_seconds": 0.1, **config.pop("keys", {})}
    database = {"url": url, "pool_size": config.pop("database_pool", 4)}
    static = {"keys": {"test": KEY, "admin": ADMIN_KEY}, "scopes": {"admin": ["admin", "keys", "inference"]}}
    settings = {"issuer": ISSUER, **PATIENT, **(oauth or {})}
    config.setdefault("timeouts", {"hook": 30})
    plugins = (plugin, *config.pop("plugins_more", ()))
    return make_gateway(*plugins, static_keys=static, database=database, keys=keys, oauth=settings, **config)


@dataclass
class World:
    """A gateway that runs, and a client to ask it by HTTP."""

    gateway: Gateway
    http: httpx.AsyncClient
    account: str = "ann"
    made: dict[str, NewClient] = field(default_factory=dict)

    @property
    def authority(self) -> Authority:
        """The authorization server inside."""
        return plugin._authorities[self.gateway]

    @property
    def operator(self) -> dict[str, str]:
        """The header of somebody who may manage everything."""
        return {"authorization": f"Bearer {ADMIN_KEY}"}

    async def client(self, name: str = "app", **spec: Any) -> NewClient:
        """A client; the usual one is public, with :data:`CALLBACK`."""
        given = {"redirect_uris": (CALLBACK,), **spec}
        secrets, settings = self.authority.running.secrets, self.authority.settings
        made = await self.authority.change(
            lambda session: clients.create(
                session, OPERATOR, ClientSpec(name=name, **given), secrets=secrets, settings=settings
            )
        )
        self.made[made.client.id] = made
        return made

    async def code(self, made: NewClient, *, verifier: str = VERIFIER, **asked: Any) -> str:
        """A code, as if the account had agreed to the request."""
        given = {"scopes": ("inference", "usage"), "resources": (ISSUER,), **asked}
        seconds = given.pop("access_seconds", made.client.access_seconds or 3600)
        account, auth_time = given.pop("account", self.account), given.pop("auth_time", datetime.now(UTC))
        request = AuthorizationRequest(
            client=made.client.id, redirect_uri=CALLBACK, state=None, challenge=challenge_of(verifier), **given
        )
        _, office = await self.authority.office()

        def work(session: Session) -> str:
            return write_code(session, made.client, request, account, auth_time, seconds, office)

        return await self.authority.write(work)

    async def redeem(self, made: NewClient, code: str, **form: Any) -> httpx.Response:
        """The answer to a token request with this code; fields that are None are left out."""
        given = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        return await self.token(made, **{**given, **form})

    async def token(self, made: NewClient, *, headers: dict[str, str] | None = None, **form: Any) -> httpx.Response:
        """The answer to a token request of this client."""
        given = {"client_id": made.client.id, **({"client_secret": made.secret} if made.secret else {}), **form}
        data = {name: value for name, value in given.items() if value is not None}
        return await self.http.post("/oauth/token", data=data, headers=headers)

    async def tokens(self, made: NewClient | None = None, **asked: Any) -> dict[str, Any]:
        """The tokens that a client gets for a code."""
        made = made or await self.client()
        answer = await self.redeem(made, await self.code(made, **asked))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refresh(self, made: NewClient, token: str, **form: Any) -> httpx.Response:
        """The answer to a refresh."""
        return await self.token(made, grant_type="refresh_token", refresh_token=token, **form)

    async def revoke(self, made: NewClient, token: str, **form: Any) -> httpx.Response:
        """The answer to a revocation by this client."""
        given = {"token": token, "client_id": made.client.id, **({"client_secret": made.secret} if made.secret else {})}
        return await self.http.post("/oauth/revoke", data={**given, **form})

    async def models(self, token: str, **headers: str) -> httpx.Response:
        """The answer to the list of models with this token."""
        return await self.http.get("/v1/models", headers={"authorization": f"Bearer {token}", **headers})

    async def forget(self, token: str) -> None:
        """Let a token that was issued here be new to this process, which reads none ahead."""
        cache, digest = self.authority.running.lookup.cache, digest_of(token)
        await until(lambda: cache.get(digest) is not None)
        cache.forget(digest)

    async def is_good(self, token: str) -> bool:
        """Whether the gateway accepts the token."""
        answer = await self.models(token)
        assert answer.status_code in {200, 401}, answer.text
        return answer.status_code == 200


@asynccontextmanager
async def world(url: str, *, oauth: dict[str, Any] | None = None, **config: Any) -> AsyncIterator[World]:
    """A gateway that runs in this process, with an account ``ann``."""
    gateway = oauth_gateway(url, oauth=oauth, **config)
    async with gateway:
        transport = httpx.ASGITransport(gateway, client=("192.0.2.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            found = World(gateway, http)
            await found.authority.write(lambda session: put_account(session, OPERATOR, Account(id="ann", name="Ann")))
            yield found


EVERYTHING = ("authorization_code", "refresh_token", "client_credentials", DEVICE_CODE)
"""All grant types there are."""


def random_verifier() -> str:
    """A verifier of its own."""
    return secrets.token_urlsafe(32)
