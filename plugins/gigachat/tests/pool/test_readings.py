"""What a pool of credentials tells the metrics."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from gatewaykit_gigachat.sandbox import B2B, PERS, running_sandbox
from gatewaykit_gigachat.settings import ALONE

from .test_gateway import ask, client_of, pool_of


async def test_state_token_and_places_of_each_credential_are_measured() -> None:
    """Each credential has its state, its token's end and its busy places; the queue its length and its waits; a
    credential that is refused shows so, and so do the tokens asked for in vain; none of them tells the credential.
    """
    with running_sandbox() as sandbox:
        async with client_of(pool_of(sandbox, PERS, B2B)) as (client, _):
            for _ in range(3):
                assert (await ask(client, "k0")).status_code == 200
            good = (await client.get("/metrics")).text
        revoked = pool_of(sandbox, PERS, B2B)
        revoked["pool"]["b2b"]["credentials"] = sandbox.key(B2B)[:-8] + "AAAAAAA="
        async with client_of(revoked) as (client, _):
            for _ in range(3):
                assert (await ask(client, "k0")).status_code == 200
            bad = (await client.get("/metrics")).text
    for name in ("pers", "b2b"):
        labels = f'gatewaykit_credential="{name}",gatewaykit_state="%s",gen_ai_provider_name="gigachat"'
        assert f"gatewaykit_credential_state{{{labels % 'good'}}} 1.0" in good
        assert f"gatewaykit_credential_state{{{labels % 'refused'}}} 0.0" in good
        whose = f'{{gatewaykit_credential="{name}",gen_ai_provider_name="gigachat"}}'
        assert f"gatewaykit_credential_slots_busy{whose} 0.0" in good
    ends = [line for line in good.splitlines() if line.startswith("gatewaykit_credential_token_expires_seconds{")]
    assert ends
    assert all(time.time() < float(line.split()[-1]) < time.time() + 3600 for line in ends)
    assert 'gatewaykit_queue_length{gen_ai_provider_name="gigachat"} 0.0' in good
    assert 'gatewaykit_queue_wait_seconds_count{gen_ai_provider_name="gigachat"}' in good
    failures = (
        'gatewaykit_credential_token_failures_total{gatewaykit_credential="%s",'
        'gatewaykit_reason="upstream_auth_failed",gen_ai_provider_name="gigachat"} '
    )
    assert failures % "pers" + "0.0" in good
    assert failures % "pers" + "0.0" in bad
    assert failures % "b2b" + "0.0" in good
    assert failures % "b2b" + "0.0" not in bad
    refused = 'gatewaykit_credential="b2b",gatewaykit_state="refused",gen_ai_provider_name="gigachat"'
    assert f"gatewaykit_credential_state{{{refused}}} 1.0" in bad
    assert not [text for text in (good, bad) for scope in (PERS, B2B) if sandbox.key(scope) in text]


async def test_ends_of_certificates_are_measured(tmp_path: Path) -> None:
    """When the client certificate ends, under its credential's name, and when the next trusted authority does."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=20)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued = authority.issue_cert("client.example", not_after=soon)
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    section = {
        "base_url": "https://gigachat.invalid/api/v1",
        "cert_file": str(tmp_path / "client.pem"),
        "ca_bundle_file": str(tmp_path / "authority.pem"),
    }
    async with client_of(section) as (client, _):
        text = (await client.get("/metrics")).text
    ends = {
        line.partition('gatewaykit_credential="')[2].partition('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("gatewaykit_credential_expires_seconds{")
    }
    assert set(ends) == {ALONE, "ca_bundle_file"}
    assert ends[ALONE] == soon.timestamp()
    assert ends["ca_bundle_file"] > soon.timestamp()
