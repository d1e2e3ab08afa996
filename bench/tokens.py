"""What it costs to know a caller: an access token that was seen before, one that was not, and an API key beside them.

    .venv/bin/python bench/tokens.py

Times are of one call of the authenticator in one thread, in microseconds: the median, and the 99th percentile, of many.
The process that issued a token knows it when it comes for the first time. Another one has read ahead what the database
says of it, and checks its signature, which is shown apart; what it has not read ahead it looks up besides.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gatewaykit.testing import make_gateway
from gatewaykit.testing.waiting import until
from gatewaykit.types import Incoming
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, Actor, KeySpec
from gatewaykit_oauth.server import clients
from gatewaykit_oauth.server.access_tokens import sign, verify
from gatewaykit_oauth.server.authority import digest_of
from gatewaykit_oauth.server.grants import Wanted, issue, open_grant
from gatewaykit_oauth.server.model import ClientSpec
from gatewaykit_oauth.server.signing_keys import KeySet
from gatewaykit_oauth.server.tables import ClientRow

ISSUER = "https://gateway.test"
BENCH = Actor("bench")
SEEN, FIRST = 20_000, 500
GOAL = 20.0


def main() -> None:
    """Print the table."""
    rows = [("", "µs, median", "p99")]
    for algorithm in ("ES256", "EdDSA", "RS256"):
        with tempfile.TemporaryDirectory() as folder:
            rows += asyncio.run(measured(folder, algorithm))
    for name, *figures in rows:
        print(f"{name:56}" + "".join(f"{figure:>12}" for figure in figures))


def opened(folder: str, algorithm: str, read_ahead: int = 10_000) -> Any:
    """One of several gateways over one database."""
    return make_gateway(
        plugin,
        database={"url": f"sqlite:///{folder}/bench.db"},
        keys={"pepper": "p" * 32},
        oauth={"issuer": ISSUER, "algorithm": algorithm, "read_ahead": read_ahead},
    )


async def measured(folder: str, algorithm: str) -> list[tuple[str, str, str]]:
    """The rows of one algorithm; API keys, which have none, come with the first."""
    async with opened(folder, algorithm) as gateway:
        tokens, key = await issued(gateway)
        authority = plugin._authorities[gateway]
        by_token, by_key = asked(gateway, tokens[0]), asked(gateway, key)
        await by_token()
        await by_key()
        rows = [] if algorithm != "ES256" else [row("API key, seen before", await timed(by_key, SEEN))]
        seen = await timed(by_token, SEEN)
        rows.append(row(f"access token, seen before ({algorithm}; goal {GOAL:g})", seen))
        for token in tokens[1:]:
            await given(authority, token)
        rows.append(row(f"access token, first time, issued here ({algorithm})", await first_times(gateway, tokens[1:])))
    for how, size in (("read ahead", 10_000), ("looked up", 0)):
        async with opened(folder, algorithm, size) as gateway:
            running = plugin._authorities[gateway].running
            await until(lambda running=running, size=size: len(running.ahead) == min(size, len(tokens)))
            first, alone = await beside_signatures(gateway, tokens, await running.keyring.keys())
            rows.append(row(f"access token, first time, {how} ({algorithm})", first))
            rows.append(row(f"  the signature alone, at the same time ({algorithm})", alone))
            assert all(running.lookup.remembered(digest_of(token)) is not None for token in tokens)
    return rows


async def issued(gateway: Any) -> tuple[list[str], str]:
    """Many access tokens of one grant, and an API key."""
    authority = plugin._authorities[gateway]
    signer, office = await authority.office()

    def work(session: Any) -> tuple[list[Any], str]:
        put_account(session, BENCH, Account(id="bench"))
        spec = ClientSpec(name="bench", redirect_uris=("https://client.test/",))
        made = clients.create(session, BENCH, spec, secrets=office.secrets, settings=office.settings)
        client = session.get(ClientRow, made.client.id)
        wanted = Wanted("bench", ("inference",), (ISSUER,), 3600, None, datetime.now(UTC))
        grant = open_grant(session, BENCH, client, wanted, office)
        give = {"scopes": ("inference",), "audience": (ISSUER,), "thumbprint": None, "refresh": False}
        tokens = [issue(session, grant, client, office, **give) for _ in range(FIRST)]
        return tokens, store.create(session, BENCH, KeySpec(name="bench"), secrets=office.secrets).secret or ""

    found, key = await authority.change(work)
    return [sign(signer, ISSUER, one) for one in found], key


def asked(gateway: Any, credential: str) -> Callable[[], Awaitable[Any]]:
    """One question to all authenticators, as each request asks it."""
    headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
    incoming = Incoming("POST", "/v1/chat/completions", headers, "192.0.2.1", "req")
    return lambda: gateway.authenticate(incoming)


async def timed(ask: Callable[[], Awaitable[Any]], times: int) -> list[float]:
    """Microseconds of each of so many calls."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began) * 1e6)
    return found


async def given(authority: Any, token: str) -> None:
    """Give a token out, as the token endpoint does, and wait until it is known."""
    await authority.given_out(token)
    lookup, digest = authority.running.lookup, digest_of(token)
    await until(lambda: lookup.cache.get(digest) is not None)


async def first_times(gateway: Any, tokens: list[str]) -> list[float]:
    """Microseconds of the first call of each token."""
    return [spent for token in tokens for spent in await timed(asked(gateway, token), 1)]


async def beside_signatures(gateway: Any, tokens: list[str], keys: KeySet) -> tuple[list[float], list[float]]:
    """Microseconds of each token's first call and, in turns with them, of checking the signature of another one."""
    first, alone = [], []
    for token, other in zip(tokens, reversed(tokens), strict=True):
        first += await timed(asked(gateway, token), 1)
        alone.append(spent(verify, other, keys, ISSUER))
    return first, alone


def spent(work: Callable[..., Any], *arguments: Any) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    assert work(*arguments) is not None
    return (time.perf_counter() - began) * 1e6


def row(name: str, figures: list[float]) -> tuple[str, str, str]:
    """Median and 99th percentile."""
    ordered = sorted(figures)
    return name, f"{ordered[len(ordered) // 2]:.1f}", f"{ordered[len(ordered) * 99 // 100]:.1f}"


if __name__ == "__main__":
    main()
