"""``gatewaykit clients`` and ``gatewaykit tokens``: the authorization server from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from sqlalchemy.orm import Session

from gatewaykit.commands import config_option, good, json_option, note, print_json, print_table, visible
from gatewaykit.errors import ConfigError, ConfigFault, NotFound

from ..keys.audit import take_turn
from ..keys.cli_base import CLI, Desk, all_pages, opened
from ..keys.cli_show import print_secret
from ..keys.cli_values import NONE, show_ago, show_moment, span
from ..keys.documents import page_document
from .settings import OAuthSettings

GRANTS = {
    "code": "authorization_code",
    "refresh": "refresh_token",
    "credentials": "client_credentials",
    "device": "urn:ietf:params:oauth:grant-type:device_code",
}


@click.group()
def clients() -> None:
    """Manage the programs that may ask for access tokens."""


@click.group()
def tokens() -> None:
    """List and end what clients were allowed, and look after the keys that sign."""


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

    with _opened(config) as (desk, settings):
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

    with _opened(config) as (desk, _):
        find = partial(store.find, limit=limit)
        found = desk.read(lambda session: all_pages(lambda after: find(session, after=after), everything=everything))
    if as_json:
        print_json(page_document(found, document))
        return
    rows = [(_mark(one.enabled, one.id), visible(one.name), one.origin, _kinds(one.grants)) for one in found.items]
    _table(("  id", "name", "origin", "grants"), rows, "There are no clients yet.", more=found.next is not None)


@clients.command()
@click.argument("client_id", metavar="ID")
@config_option
@json_option
def show(client_id: str, config: Path | None, as_json: bool) -> None:
    """Print one client."""
    from . import clients as store
    from .api import document

    with _opened(config) as (desk, _):
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

    with _opened(config) as (desk, _):
        secrets = desk.secrets()
        made = desk.write(lambda session: store.renew_secret(session, CLI, client_id, secrets=secrets))
    if as_json:
        print_json(new_client_document(made))
        return
    good(f"{visible(made.client.id)} has a new secret.")
    print_secret(made.secret or "", f"  client_id      {made.client.id}\n  client_secret  the line above")


# Grants, tokens and keys


@tokens.command("list")
@click.option("--account", metavar="ACCOUNT", help="Only grants of this account.")
@click.option("--client", metavar="ID", help="Only grants of this client.")
@click.option("--ended", is_flag=True, help="Those too that have ended.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@config_option
@json_option
def list_grants(
    account: str | None, client: str | None, ended: bool, limit: int, config: Path | None, as_json: bool
) -> None:
    """List what accounts have allowed clients, and how many access tokens of each are alive."""
    from .api import document
    from .listing import find_grants

    now = datetime.now(UTC)
    with _opened(config) as (desk, _):
        found = desk.read(
            lambda session: find_grants(session, now=now, account=account, client=client, active=not ended, limit=limit)
        )
    if as_json:
        print_json(page_document(found, document))
        return
    rows = [
        (
            _mark(one.ended is None, one.id),
            one.account or "–",
            visible(one.client_name),
            str(one.tokens),
            show_ago(one.token_expires, now) if one.token_expires else "–",
        )
        for one in found.items
    ]
    heading = ("  id", "account", "client", "tokens", "last one ends")
    _table(heading, rows, "There are no grants.", more=found.next is not None)


@tokens.command()
@click.argument("grant_id", metavar="ID", required=False)
@click.option("--account", metavar="ACCOUNT", help="Everything of this account.")
@click.option("--client", metavar="ID", help="Everything of this client.")
@click.option("--everything", is_flag=True, help="All there is.")
@config_option
@json_option
def revoke(
    grant_id: str | None, account: str | None, client: str | None, everything: bool, config: Path | None, as_json: bool
) -> None:
    """End a grant or access token by its ID, or everything of an account, of a client, or at all.

    Gateways that run refuse the tokens within a second.
    """
    from .api import CutOff, subject_of

    with _opened(config) as (desk, _):
        if grant_id is not None:
            desk.write(lambda session: _end(session, grant_id))
            subject = grant_id
        else:
            subject = subject_of(CutOff(account=account, client=client, everything=True if everything else None))
            desk.write(lambda session: _cut_off(session, subject))
    if as_json:
        print_json({"revoked": subject})
    else:
        good(f"{visible(subject)} is revoked.")


@tokens.command("keys")
@config_option
@json_option
def list_signing_keys(config: Path | None, as_json: bool) -> None:
    """List the keys that sign access tokens."""
    from .api import document
    from .signing_keys import list_keys

    with _opened(config) as (desk, _):
        found = desk.read(list_keys)
    if as_json:
        print_json({"items": [document(key) for key in found], "next": None})
        return
    rows = [(key.kid, key.algorithm, key.state, show_moment(key.since)) for key in found]
    _table(("kid", "algorithm", "state", "since (UTC)"), rows, "There are none before the gateway's first start.")


@tokens.command("rotate-key")
@config_option
def rotate_key(config: Path | None) -> None:
    """Let the next key sign from now on; tokens that the one before has signed stay good."""
    from .signing_keys import rotate

    with _opened(config) as (desk, settings):
        secrets = desk.secrets()
        desk.write(lambda session: rotate(session, CLI, secrets, settings, datetime.now(UTC)))
    good("The next key signs now.")


@tokens.command("revoke-key")
@click.argument("kid")
@config_option
def revoke_signing_key(kid: str, config: Path | None) -> None:
    """End a key with every token that it has signed; for one that may be known to somebody."""
    from .signing_keys import revoke_key

    with _opened(config) as (desk, settings):
        secrets = desk.secrets()
        desk.write(lambda session: revoke_key(session, CLI, kid, secrets, settings, datetime.now(UTC)))
    good(f"{visible(kid)} is revoked, and so is every token that it has signed.")


# Steps


@contextmanager
def _opened(config: Path | None) -> Iterator[tuple[Desk, OAuthSettings]]:
    with opened(config) as desk:
        settings = desk.gateway.settings.get(OAuthSettings)
        if settings.issuer is None:
            raise ConfigError([ConfigFault("is not set: without it there is no authorization server", "oauth.issuer")])
        yield desk, settings


def _change(client_id: str, config: Path | None, as_json: bool, changes: dict[str, Any], done: str) -> None:
    from . import clients as store
    from .api import document
    from .model import ClientChanges

    with _opened(config) as (desk, settings):
        wanted = ClientChanges(**changes)
        client = desk.write(lambda session: store.update(session, CLI, client_id, wanted, settings=settings))
    if as_json:
        print_json(document(client))
    else:
        good(f"{visible(client.id)} {done}")


def _end(session: Session, name: str) -> None:
    from .grants import end_grant, revoke_access_token
    from .tables import AccessTokenRow, GrantRow

    take_turn(session)
    now = datetime.now(UTC)
    if session.get(GrantRow, name) is not None:
        end_grant(session, CLI, name, "it was withdrawn", now)
    elif session.get(AccessTokenRow, name) is not None:
        revoke_access_token(session, CLI, name, now)
    else:
        raise NotFound("There is no such grant or access token.")


def _cut_off(session: Session, subject: str) -> None:
    from .grants import cut_off, require_subject

    require_subject(session, subject)
    cut_off(session, CLI, subject, "all tokens were revoked")


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


def _mark(good_one: bool, text: str) -> str:
    return f"{click.style('✓', fg='green') if good_one else click.style('–', fg='yellow')} {text}"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _table(heading: Sequence[str], rows: Sequence[tuple[str, ...]], empty: str, *, more: bool = False) -> None:
    if not rows:
        note(empty)
        return
    print_table([tuple(click.style(cell, dim=True) for cell in heading), *rows], padded=len(heading) - 1)
    if more:
        note("There are more.")
