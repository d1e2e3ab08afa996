"""``gatewaykit clients``: the programs that may ask for access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from gatewaykit.commands import config_option, good, json_option, print_json, print_table, visible

from ..keys.cli_base import CLI, all_pages
from ..keys.cli_show import print_secret
from ..keys.cli_values import NONE, span
from ..keys.documents import page_document
from .cli_base import mark, opened_server, show_table
from .cli_tokens import tokens

GRANTS = {
    "code": "authorization_code",
    "refresh": "refresh_token",
    "credentials": "client_credentials",
    "device": "urn:ietf:params:oauth:grant-type:device_code",
}


@click.group()
def clients() -> None:
    """Manage the programs that may ask for access tokens."""


def add_commands(cli: click.Group) -> None:
    """``clients`` and ``tokens``."""
    cli.add_command(clients)
    cli.add_command(tokens)


_redirects = click.option(
    "--redirect-uri", "redirect_uris", multiple=True, metavar="URI", help="Where it is sent back."
)
_grants = click.option(
    "--grant",
    "grants",
    multiple=True,
    type=click.Choice(list(GRANTS)),
    metavar="GRANT",
    help=f"How it gets tokens: {', '.join(GRANTS)}.",
)
_scopes = click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may ask for.")
_owner = click.option("--owner", metavar="ACCOUNT", help="Account for which it acts on its own.")
_life = click.option("--access", metavar="TIME", help="Life of its access tokens, up to 1y; none is the usual hour.")


# Clients


@clients.command()
@click.argument("name")
@_redirects
@click.option("--confidential", is_flag=True, help="It can keep a secret, and gets one.")
@click.option(
    "--keys",
    "jwks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with its public keys (a JWK set): it signs instead of having a secret.",
)
@_grants
@_scopes
@_owner
@_life
@click.option("--bound", is_flag=True, help="It has to prove possession of a key (DPoP).")
@config_option
@json_option
def create(name: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Make a client, and print its secret this once, if it has one.

    It gets tokens by code and refresh unless --grant says otherwise. The options --redirect-uri, --grant and --scope
    may be repeated.
    """
    from . import clients as store
    from .api import new_client_document
    from .model import ClientSpec

    with opened_server(config) as (desk, settings):
        jwks = _key_set(given.pop("jwks"))
        signs = {} if jwks is None else {"jwks": jwks, "confidential": True}
        spec = ClientSpec(name=name, **{**_said(given), **signs})
        make = partial(store.create, secrets=desk.secrets(), settings=settings)
        made = desk.write(lambda session: make(session, CLI, spec))
    if as_json:
        print_json(new_client_document(made))
        return
    good(f"{made.client.id} {visible(made.client.name)!r} is made.")
    if made.secret is not None:
        print_secret(made.secret, f"  client_id      {made.client.id}\n  client_secret  the line above")


@clients.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@config_option
@json_option
def list_clients(limit: int, everything: bool, config: Path | None, as_json: bool) -> None:
    """List the clients, never their secrets."""
    from . import clients as store
    from .api import document

    with opened_server(config) as (desk, _):
        find = partial(store.find, limit=limit)
        found = desk.read(lambda session: all_pages(lambda after: find(session, after=after), everything=everything))
    if as_json:
        print_json(page_document(found, document))
        return
    rows = [(mark(one.enabled, one.id), visible(one.name), one.origin, _kinds(one.grants)) for one in found.items]
    show_table(("  id", "name", "origin", "grants"), rows, "There are no clients yet.", more=found.next is not None)


@clients.command()
@click.argument("client_id", metavar="ID")
@config_option
@json_option
def show(client_id: str, config: Path | None, as_json: bool) -> None:
    """Print one client."""
    from . import clients as store
    from .api import document

    with opened_server(config) as (desk, _):
        client = desk.read(lambda session: store.get(session, client_id))
    if as_json:
        print_json(document(client))
        return
    click.echo(f"{client.id}  {visible(client.name)}")
    facts = document(client)
    print_table(
        [(f"  {name}", visible(_text(value))) for name, value in facts.items() if value not in (None, [])], padded=1
    )


@clients.command()
@click.argument("client_id", metavar="ID")
@click.option("--name", help="What it is called.")
@_redirects
@_grants
@_scopes
@_owner
@_life
@click.option("--bound/--not-bound", default=None, help="Whether it has to prove possession of a key (DPoP).")
@config_option
@json_option
def update(client_id: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Change a client; what is not said stays."""
    changes = _said(given)
    if not changes:
        raise click.UsageError("Nothing to change: say at least one option.")
    _change(client_id, config, as_json, changes, "is changed.")


@clients.command()
@click.argument("client_id", metavar="ID")
@config_option
@json_option
def disable(client_id: str, config: Path | None, as_json: bool) -> None:
    """Let neither a client nor its tokens work until it is enabled again."""
    _change(client_id, config, as_json, {"enabled": False}, "is disabled, and so are all its tokens.")


@clients.command()
@click.argument("client_id", metavar="ID")
@config_option
@json_option
def enable(client_id: str, config: Path | None, as_json: bool) -> None:
    """Let a disabled client work again."""
    _change(client_id, config, as_json, {"enabled": True}, "is enabled.")


@clients.command("renew-secret")
@click.argument("client_id", metavar="ID")
@config_option
@json_option
def renew_secret(client_id: str, config: Path | None, as_json: bool) -> None:
    """Give a client another secret; the one before works no longer."""
    from . import clients as store
    from .api import new_client_document

    with opened_server(config) as (desk, settings):
        renew = partial(store.renew_secret, secrets=desk.secrets(), settings=settings)
        made = desk.write(lambda session: renew(session, CLI, client_id))
    if as_json:
        print_json(new_client_document(made))
        return
    good(f"{visible(made.client.id)} has a new secret.")
    print_secret(made.secret or "", f"  client_id      {made.client.id}\n  client_secret  the line above")


# Steps


def _change(client_id: str, config: Path | None, as_json: bool, changes: dict[str, Any], done: str) -> None:
    from . import clients as store
    from .api import document
    from .model import ClientChanges

    with opened_server(config) as (desk, settings):
        wanted = ClientChanges(**changes)
        client = desk.write(lambda session: store.update(session, CLI, client_id, wanted, settings=settings))
    if as_json:
        print_json(document(client))
    else:
        good(f"{visible(client.id)} {done}")


def _key_set(file: Path | None) -> dict[str, Any] | None:
    """The keys in a file, which are checked with the rest."""
    if file is None:
        return None
    try:
        found = msgspec.json.decode(file.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{file} holds no JWK set.")
    return found


def _said(given: dict[str, Any]) -> dict[str, Any]:
    """What was said, in the words of the API."""
    life = given.pop("access", None)
    said = {name: value for name, value in given.items() if value not in {None, (), False} or name == "enabled"}
    if given.get("bound") is False:
        said["bound"] = False
    if "grants" in said:
        said["grants"] = tuple(GRANTS[name] for name in said["grants"])
    if life is not None:
        said["access_seconds"] = None if life == NONE else int(span(life).total_seconds())
    return said


def _kinds(grants: Sequence[str]) -> str:
    names = {full: short for short, full in GRANTS.items()}
    return ", ".join(names.get(one, one) for one in grants)


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
