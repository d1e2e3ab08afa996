"""``gatewaykit clients`` and ``tokens``, beside a gateway that serves; in this process, for one each would be slow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gatewaykit.cli import main
from gatewaykit.testing import running

from .surfaces import Place

OAUTH = '\n[oauth]\nissuer = "https://gateway.test"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with a configuration that has an issuer."""
    return Place(tmp_path, OAUTH)


def run(place: Place, *arguments: str) -> Result:
    """A command with these arguments and the configuration of this place."""
    return CliRunner().invoke(main, [*arguments, "--config", str(place.config)], env=place.environ())


def done(place: Place, *arguments: str) -> Any:
    """The document that a command prints."""
    ran = run(place, *arguments, "--json")
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)


def test_from_the_first_client_to_the_last_token(place: Place) -> None:
    """A client is made, gets a token from a gateway that serves, and loses it by each command that ends tokens."""
    run(place, "accounts", "create", "robots")
    made = done(
        place, "clients", "create", "Night job", "--confidential", "--grant", "credentials", "--owner", "robots"
    )
    assert made["secret"].startswith("gkc_")
    shown = done(place, "clients", "show", made["id"])
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert [one["id"] for one in done(place, "clients", "list")["items"]] == [made["id"]]
    with running(place.gateway()) as address, httpx.Client(base_url=address, trust_env=False, timeout=120) as client:

        def token() -> str:
            form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
            answer = client.post("/oauth/token", data=form)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["access_token"])

        def status(text: str) -> int:
            return client.get("/v1/models", headers={"authorization": f"Bearer {text}"}).status_code

        first = token()
        (grant,) = done(place, "tokens", "list", "--account", "robots")["items"]
        assert grant["tokens"] == 1
        keys = done(place, "tokens", "keys")["items"]
        (active,) = [key["kid"] for key in keys if key["state"] == "active"]
        for arguments in (
            ("tokens", "revoke", grant["id"]),
            ("tokens", "revoke", "--client", made["id"]),
            ("tokens", "revoke", "--account", "robots"),
            ("tokens", "revoke", "--everything"),
            ("tokens", "revoke-key", active),
        ):
            current = token()
            assert status(current) == 200
            ran = run(place, *arguments)
            assert ran.exit_code == 0, ran.stderr
            assert until_refused(status, current)
        assert status(first) == 401
        assert run(place, "clients", "disable", made["id"]).exit_code == 0
        form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
        assert client.post("/oauth/token", data=form).status_code == 401


def until_refused(status: Any, token: str) -> bool:
    """Whether the token is refused in time."""
    import time

    ends = time.monotonic() + 60
    while status(token) != 401:
        if time.monotonic() > ends:
            return False
    return True


def test_changes_and_faults(place: Place) -> None:
    """Clients are changed and get new secrets; wrong values and missing things are told in one line."""
    made = done(place, "clients", "create", "Tool", "--redirect-uri", "http://127.0.0.1/cb")
    assert made["secret"] is None
    changed = done(place, "clients", "update", made["id"], "--access", "1y", "--name", "Better tool", "--bound")
    assert (changed["access_seconds"], changed["name"], changed["bound"]) == (31_536_000, "Better tool", True)
    back = done(place, "clients", "update", made["id"], "--access", "none", "--not-bound")
    assert (back["access_seconds"], back["bound"]) == (None, False)
    for arguments, words in (
        (("clients", "update", made["id"]), "Nothing to change"),
        (("clients", "update", made["id"], "--access", "2y"), "60 to 31536000"),
        (("clients", "create", "x", "--redirect-uri", "http://evil.example/cb"), "redirect URIs"),
        (("clients", "create", "x", "--grant", "credentials"), "must be confidential"),
        (("clients", "create", "x", "--scope", "nonsense", "--redirect-uri", "https://a.test/cb"), "scopes"),
        (("clients", "renew-secret", made["id"]), "no secret"),
        (("clients", "show", "client_none"), "no such client"),
        (("tokens", "revoke", "grant_none"), "no such grant"),
        (("tokens", "revoke", "--account", "nobody"), "nobody of this name"),
        (("tokens", "revoke"), "Say one of"),
    ):
        ran = run(place, *arguments)
        assert ran.exit_code in {1, 2}
        assert words in ran.stderr, ran.stderr
        assert "Traceback" not in ran.stderr
    for command in (("clients", "list"), ("clients", "show", made["id"]), ("tokens", "list"), ("tokens", "keys")):
        assert run(place, *command).exit_code == 0


def test_without_an_issuer(tmp_path: Path) -> None:
    """The commands say what is missing."""
    ran = run(Place(tmp_path), "clients", "list")
    assert ran.exit_code == 1
    assert "oauth.issuer" in ran.stderr
