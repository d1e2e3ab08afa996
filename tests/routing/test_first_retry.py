"""The library of retries comes with the first retry, and the event loop does not wait for it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import asyncio, json, sys, threading
from gatewaykit import Finished, Provider, ProviderUnavailable, TextDelta
from gatewaykit.testing import gateway_client, make_gateway, plugin_of
import gatewaykit_gigachat.retries
import gatewaykit_openai.provider

WATCHED = {"stamina", "tenacity", "prometheus_client"}
imported = {}

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in WATCHED:
            imported[name] = threading.current_thread() is threading.main_thread()

class Flapping(Provider):
    name = "one"
    tries = 0

    async def stream(self, call, target):
        self.tries += 1
        if self.tries == 1:
            raise ProviderUnavailable()
        yield TextDelta("hello")
        yield Finished()

async def main():
    flapping = Flapping()
    gateway = make_gateway(plugin_of(providers=[flapping]), retries={"attempts": 1, "backoff": 0.0})
    async with gateway_client(gateway) as client:
        before = sorted(WATCHED & sys.modules.keys())
        body = {"model": "one/m", "messages": [{"role": "user", "content": "hi"}]}
        answer = await client.post("/v1/chat/completions", json=body)
        print(json.dumps([before, answer.status_code, flapping.tries, imported]))

sys.meta_path.insert(0, Watch())
asyncio.run(main())
"""


def test_it_is_imported_by_the_first_retry_and_off_the_loop() -> None:
    """A gateway that started has none of it, whatever provider it has; then it is read in a thread, with what it
    imports in its turn.
    """
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    before, status, tries, imported = json.loads(done.stdout)
    assert (before, status, tries) == ([], 200, 2)
    assert imported == {"stamina": False, "tenacity": False, "prometheus_client": False}
