"""Reload of a running gateway, as an operator does it: by SIGHUP and by the admin API, with one worker and with two."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from gatewaykit.testing.processes import children_of

from .conftest import PATIENCE, Place, Running
from .test_serve import until

KEY = "gk_0123456789abcdefghij"
CONFIG = f"""
[static_keys]
keys = {{ team = "{KEY}" }}
scopes = {{ team = ["admin", "inference"] }}
[openai.upstreams.one]
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
[router.models.NAME]
targets = [{{ to = "one/m" }}]
"""
AGAIN = "read the configuration again"


def configure(place: Place, name: str) -> None:
    place.configure(CONFIG.replace("NAME", name))


def served(address: str) -> set[str]:
    """The models that a new connection sees."""
    with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as http:
        answer = http.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})
    return {model["id"] for model in answer.json()["data"]}


def seen(address: str) -> set[str]:
    """What any worker shows."""
    return set().union(*(served(address) for _ in range(8)))


@pytest.mark.parametrize(("workers", "times"), [("1", 1), ("2", 3)])
def test_sighup_reloads(place: Place, workers: str, times: int) -> None:
    """Every worker has the new table; a file with faults is told of, and changes nothing."""
    configure(place, "before")
    with place.start("serve", "--port", "0", "--workers", workers) as gateway:
        address = gateway.address
        configure(place, "after")
        gateway.send(signal.SIGHUP)
        gateway.wait_for(AGAIN, stream="out", times=times)
        assert seen(address) == {"after", "m"}
        place.configure("[router]\nunknown = 1\n")
        gateway.send(signal.SIGHUP)
        gateway.wait_for("the configuration stays as it was", stream="out")
        assert seen(address) == {"after", "m"}
        assert gateway.end() == 0
    assert gateway.out.count(AGAIN) == times


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see child processes")
def test_the_admin_api_reloads_all_workers(place: Place) -> None:
    """Whichever worker hears it, all of them do it; and one that is replaced later knows the new table."""
    configure(place, "before")
    with place.start("serve", "--port", "0", "--workers", "2") as gateway:
        address = gateway.address
        configure(place, "after")
        done = httpx.post(
            f"{address}/api/admin/routes/reload", headers={"authorization": f"Bearer {KEY}"}, trust_env=False
        )
        assert done.json()["in_force"] == ["router"]
        gateway.wait_for(AGAIN, stream="out", times=4)
        assert seen(address) == {"after", "m"}
        replace_workers(gateway)
        assert seen(address) == {"after", "m"}
        assert gateway.end() == 0


def replace_workers(gateway: Running) -> None:
    before = set(children_of(gateway.process.pid))
    for worker in before:
        os.kill(worker, signal.SIGKILL)
        gateway.wait_for(f"worker {worker} ended", stream="out")
    until(lambda: len(set(children_of(gateway.process.pid)) - before) == 2)


def test_routes_explain(place: Place) -> None:
    """By the configuration alone, or by the running gateway, which knows more; for people and for programs."""
    configure(place, "smart")
    offline = place.run("routes", "explain", "smart")
    assert "smart is served by smart (order)" in offline.stdout
    assert "one/m" in offline.stdout
    assert place.run("routes", "explain").returncode == 1
    with place.start("serve", "--port", "0") as gateway:
        asked = ("routes", "explain", "smart", "--json", "--gateway", gateway.address)
        environ = {"GATEWAYKIT_ADMIN_KEY": KEY}
        assert '"order": [\n    "one/m"\n  ]' in place.run(*asked, environ=environ).stdout
        refused = place.run(*asked)
        assert (refused.returncode, "401" in refused.stderr) == (1, True)
        assert gateway.end() == 0
