"""What keys tell of themselves to the metrics."""

from __future__ import annotations

from gatewaykit.storage import Storage
from gatewaykit.testing import gateway_client, make_gateway
from gatewaykit_oauth import plugin

from .conftest import PEPPER, made, text_of


async def test_age_of_what_is_known_and_keys_in_memory_are_scraped(url: str, storage: Storage) -> None:
    """A scrape says how old the knowledge of revocations is, and how many keys are remembered; never which."""
    created = made(storage)
    gateway = make_gateway(plugin, database={"url": url}, keys={"pepper": PEPPER}, timeouts={"hook": 30})
    async with gateway_client(gateway, text_of(created)) as client:
        assert (await client.get("/v1/models")).status_code == 200
        text = (await client.get("/metrics", headers={"authorization": ""})).text
    (lag,) = [line for line in text.splitlines() if line.startswith("gatewaykit_revocation_lag_seconds ")]
    assert 0 <= float(lag.split()[1]) < 60
    assert 'gatewaykit_cache_entries{gatewaykit_cache="keys"} 1.0' in text
    assert text_of(created) not in text
    assert created.key.id not in text
