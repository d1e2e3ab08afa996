"""The two ways to manage keys, on one database: commands as a user runs them, and a gateway that serves the API.

Both take and give the same documents, so that tests can compare them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import httpx

from gatewaykit import Gateway
from gatewaykit.testing import program

ADMIN_KEY = "admin-0123456789abcdefghijklmnop"
CONFIG = """
[database]
url = "sqlite:///{folder}/gatewaykit.db"
[static_keys]
keys = {{ admin = "{key}" }}
scopes = {{ admin = ["admin", "keys", "inference", "usage"] }}
[keys]
poll_seconds = 0.1
[log]
access = false
"""


class Refused(Exception):
    """What was asked for was not done; the message is what a user reads."""


class Place:
    """A folder with a configuration and a database."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.config = folder / "gatewaykit.toml"
        self.config.write_text(CONFIG.format(folder=folder, key=ADMIN_KEY) + more)

    def gateway(self) -> Gateway:
        """A gateway as the configuration describes it, with all plugins that are installed."""
        return Gateway(self.config, environ={})

    def environ(self, **more: str) -> dict[str, str]:
        """What a command sees of the environment."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONWARNINGS": "error",
            **more,
        }

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """``gatewaykit`` with these arguments, in this folder."""
        return program.run(*arguments, folder=self.folder, environ=self.environ(**environ))


class Surface(Protocol):
    """All that can be done, with fields as they stand in documents."""

    def create(self, name: str, **fields: Any) -> Any: ...

    def list(self, **filters: Any) -> Any: ...

    def show(self, key_id: str) -> Any: ...

    def update(self, key_id: str, **fields: Any) -> Any: ...

    def rotate(self, key_id: str, grace: int | None = None, repetition: str | None = None) -> Any: ...

    def change(self, key_id: str, what: str) -> Any: ...

    def audit(self, key_id: str | None = None) -> Any: ...

    def create_account(self, account_id: str, **fields: Any) -> Any: ...

    def list_accounts(self) -> Any: ...

    def show_account(self, account_id: str) -> Any: ...

    def update_account(self, account_id: str, **fields: Any) -> Any: ...

    def enable_account(self, account_id: str, enabled: bool) -> Any: ...


class Api:
    """By HTTP."""

    def __init__(self, address: str, key: str = ADMIN_KEY) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=f"{address}/api/admin", headers=headers, timeout=120, trust_env=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The answer's document. Raises :class:`Refused`."""
        response = self.client.request(method, path, **options)
        assert response.headers["cache-control"] == "no-store"
        if response.status_code >= 400:
            raise Refused(response.json()["error"]["message"])
        return response.json()

    def create(self, name: str, **fields: Any) -> Any:
        return self.ask("POST", "/keys", json={"name": name, **fields})

    def list(self, **filters: Any) -> Any:
        return self.ask("GET", "/keys", params=filters)

    def show(self, key_id: str) -> Any:
        return self.ask("GET", f"/keys/{key_id}")

    def update(self, key_id: str, **fields: Any) -> Any:
        return self.ask("PATCH", f"/keys/{key_id}", json=fields)

    def rotate(self, key_id: str, grace: int | None = None, repetition: str | None = None) -> Any:
        headers = {"Idempotency-Key": repetition} if repetition else {}
        body = {} if grace is None else {"grace": grace}
        return self.ask("POST", f"/keys/{key_id}/rotate", json=body, headers=headers)

    def change(self, key_id: str, what: str) -> Any:
        return self.ask("POST", f"/keys/{key_id}/{what}")

    def audit(self, key_id: str | None = None) -> Any:
        return self.ask("GET", f"/keys/{key_id}/audit" if key_id else "/audit")

    def create_account(self, account_id: str, **fields: Any) -> Any:
        return self.ask("POST", "/accounts", json={"id": account_id, **fields})

    def list_accounts(self) -> Any:
        return self.ask("GET", "/accounts")

    def show_account(self, account_id: str) -> Any:
        return self.ask("GET", f"/accounts/{account_id}")

    def update_account(self, account_id: str, **fields: Any) -> Any:
        return self.ask("PATCH", f"/accounts/{account_id}", json=fields)

    def enable_account(self, account_id: str, enabled: bool) -> Any:
        return self.update_account(account_id, enabled=enabled)


class Cli:
    """By commands, each a process of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self, *arguments: str) -> Any:
        """What a command prints as JSON. Raises :class:`Refused`."""
        done = self._place.run(*arguments, "--json")
        if done.returncode:
            raise Refused(done.stderr)
        return json.loads(done.stdout)

    def create(self, name: str, **fields: Any) -> Any:
        return self.run("keys", "create", name, *options(fields))

    def list(self, **filters: Any) -> Any:
        return self.run("keys", "list", *options({"search" if k == "text" else k: v for k, v in filters.items()}))

    def show(self, key_id: str) -> Any:
        return self.run("keys", "show", key_id)

    def update(self, key_id: str, **fields: Any) -> Any:
        return self.run("keys", "update", key_id, *options(fields))

    def rotate(self, key_id: str, grace: int | None = None, repetition: str | None = None) -> Any:
        given = [] if grace is None else ["--grace", f"{grace}s"]
        given += ["--idempotency-key", repetition] if repetition else []
        return self.run("keys", "rotate", key_id, *given)

    def change(self, key_id: str, what: str) -> Any:
        return self.run("keys", what, key_id, *(["--yes"] if what == "revoke" else []))

    def audit(self, key_id: str | None = None) -> Any:
        return self.run("keys", "audit", *([key_id] if key_id else []))

    def create_account(self, account_id: str, **fields: Any) -> Any:
        return self.run("accounts", "create", account_id, *options(fields))

    def list_accounts(self) -> Any:
        return self.run("accounts", "list")

    def show_account(self, account_id: str) -> Any:
        return self.run("accounts", "show", account_id)

    def update_account(self, account_id: str, **fields: Any) -> Any:
        return self.run("accounts", "update", account_id, *options(fields))

    def enable_account(self, account_id: str, enabled: bool) -> Any:
        return self.run("accounts", "enable" if enabled else "disable", account_id)


def options(fields: dict[str, Any]) -> list[str]:
    """Fields of a document as options of a command."""
    given: list[str] = []
    for name, value in fields.items():
        if name == "limits":
            given += options({limit.replace("_", "-"): amount for limit, amount in value.items()})
        elif name == "budget":
            given += ["--budget", "none" if value is None else f"{value // 10**6}.{value % 10**6:06}"]
        elif name in {"models", "routes", "networks", "scopes"}:
            given += [word for one in value or ["any"] for word in (f"--{name[:-1]}", one)]
        else:
            empty = "never" if name == "expires" else "none"
            given += [f"--{name}", empty if value is None else str(value)]
    return given
