"""A gateway with people, keys and a month of usage, so that pages have something to show."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from gatewaykit import Gateway
from gatewaykit.storage.tables import UsageDay
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, Actor, KeyLimits, KeySpec
from gatewaykit_oauth.keys.secrets import Secrets
from gatewaykit_oauth.server import clients
from gatewaykit_oauth.server.grants import Office, Wanted, issue, open_grant
from gatewaykit_oauth.server.model import ClientSpec
from gatewaykit_oauth.server.settings import OAuthSettings
from gatewaykit_oauth.server.tables import ClientRow
from gatewaykit_oauth.signin.credentials import set_password
from gatewaykit_oauth.signin.passwords import hashed

from .browser import PASSWORD

PEPPER = "canary-pepper-7c1e0f2b9a4d6853c0ff"
CLI = Actor("cli")
SECRETS = Secrets(PEPPER)
PROVIDERS = plugin_of(providers=[FakeProvider(name="gigachat", models=["GigaChat-2", "GigaChat-2-Max", "Embeddings"])])


def seeded_gateway(folder: Path, **config: Any) -> Gateway:
    """A gateway whose pages work, with a provider and nothing in its database yet."""
    sections: dict[str, Any] = {
        "database": {"url": f"sqlite:///{folder}/gatewaykit.db"},
        "keys": {"pepper": PEPPER, "poll_seconds": 0.2},
        "timeouts": {"hook": 30},
        **config,
    }
    return make_gateway(plugin, PROVIDERS, **sections)


def add_people(session: Session) -> None:
    """Anna manages the gateway, Boris his own keys; both have :data:`PASSWORD`. A service, too."""
    now, password = datetime.now(UTC), hashed(PASSWORD)
    for account in (
        Account(id="anna", name="Anna Larina", role="admin"),
        Account(id="boris", name="Борис Петров", models=("GigaChat-2*",), limits=KeyLimits(rpm=60, budget=900_000_000)),
        Account(id="search-service", kind="service", limits=KeyLimits(tpm=200_000)),
    ):
        put_account(session, CLI, account)
        if account.kind == "user":
            set_password(session, CLI, account.id, password, now)


def add_keys(session: Session) -> dict[str, str]:
    """Keys of all kinds; their ids by name."""
    now, secrets = datetime.now(UTC), SECRETS
    specs = [
        KeySpec(
            name="Site search",
            owner="search-service",
            models=("GigaChat-2", "Embeddings"),
            limits=KeyLimits(rpm=600, tpm=120_000, budget=2_500_000_000),
            expires=now + timedelta(days=200),
        ),
        KeySpec(name="Notebook", owner="boris", models=("GigaChat-2*",), limits=KeyLimits(rpm=60, budget=300_000_000)),
        KeySpec(name="Nightly report", owner="boris", models=("GigaChat-2-Max",), expires=now + timedelta(days=5)),
        KeySpec(name="Old laptop", owner="boris", models=("GigaChat-2",), note="Sold in spring."),
        KeySpec(
            name="Intern", owner="anna", limits=KeyLimits(rpd=1000, concurrency=2), expires=now + timedelta(days=60)
        ),
    ]
    ids = {spec.name: store.create(session, CLI, spec, secrets=secrets).key.id for spec in specs}
    store.rotate(session, CLI, ids["Notebook"], secrets=secrets)
    store.revoke(session, CLI, ids["Old laptop"])
    store.set_enabled(session, CLI, ids["Intern"], enabled=False)
    return ids


def add_program(session: Session, settings: OAuthSettings) -> tuple[str, str]:
    """A program that Boris has allowed to act for him, with a token; the ids of the client and of the grant."""
    spec = ClientSpec(name="Atlas", redirect_uris=("https://atlas.example/cb",))
    made = clients.create(session, CLI, spec, secrets=SECRETS, settings=settings)
    client = session.get_one(ClientRow, made.client.id)
    office = Office(SECRETS, settings, "no-key", datetime.now(UTC))
    wanted = Wanted("boris", ("inference", "usage"), (str(settings.issuer),), 3600)
    grant = open_grant(session, CLI, client, wanted, office)
    issue(session, grant, client, office, scopes=grant.scopes, audience=grant.resources, thumbprint=None)
    return made.client.id, grant.id


def add_usage(session: Session, ids: dict[str, str], days: int = 30) -> None:
    """What three keys used, more on working days."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(days):
        day = today - timedelta(days=number)
        busy = 0.25 if day.weekday() >= 5 else 1 + 0.35 * math.sin(number / 3)
        for name, owner, model, calls in (
            ("Site search", "search-service", "GigaChat-2", 4200),
            ("Notebook", "boris", "GigaChat-2-Max", 310),
            ("Nightly report", "boris", "GigaChat-2-Max", 40),
        ):
            session.add(_day(day, ids[name], owner, model, int(calls * busy)))


def _day(begins: datetime, key: str, owner: str, model: str, requests: int) -> UsageDay:
    failed = requests // 23
    return UsageDay(
        begins=begins,
        principal=key,
        owner=owner,
        model=model,
        provider="gigachat",
        provider_model=model,
        currency="RUB",
        requests=requests,
        done=requests - failed,
        refused=0,
        client_gone=0,
        failed=failed,
        input_tokens=requests * 410,
        cached_tokens=0,
        output_tokens=requests * 180,
        reasoning_tokens=0,
        estimated=0,
        unpriced=0,
        cost=requests * 21_500,
        spend=requests * 21_500,
        seconds=requests * 1.27,
        first_event_seconds=requests * 0.4,
        first_events=requests,
    )
