"""``gatewaykit tokens``: what clients were allowed, its end, and the keys that sign."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy.orm import Session

from gatewaykit.commands import config_option, good, json_option, print_json, visible
from gatewaykit.errors import NotFound

from ..keys.audit import take_turn
from ..keys.cli_base import CLI
from ..keys.cli_values import show_ago, show_moment
from ..keys.documents import page_document
from .cli_base import mark, opened_server, show_table


@click.group()
def tokens() -> None:
    """List and end what clients were allowed, and look after the keys that sign."""


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
    with opened_server(config) as (desk, _):
        found = desk.read(
            lambda session: find_grants(session, now=now, account=account, client=client, active=not ended, limit=limit)
        )
    if as_json:
        print_json(page_document(found, document))
        return
    rows = [
        (
            mark(one.ended is None, one.id),
            one.account or "–",
            visible(one.client_name),
            str(one.tokens),
            show_ago(one.token_expires, now) if one.token_expires else "–",
        )
        for one in found.items
    ]
    heading = ("  id", "account", "client", "tokens", "last one ends")
    show_table(heading, rows, "There are no grants.", more=found.next is not None)


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

    with opened_server(config) as (desk, _):
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

    with opened_server(config) as (desk, _):
        found = desk.read(list_keys)
    if as_json:
        print_json({"items": [document(key) for key in found], "next": None})
        return
    rows = [(key.kid, key.algorithm, key.state, show_moment(key.since)) for key in found]
    show_table(("kid", "algorithm", "state", "since (UTC)"), rows, "There are none before the gateway's first start.")


@tokens.command("rotate-key")
@config_option
def rotate_key(config: Path | None) -> None:
    """Let the next key sign from now on; tokens that the one before has signed stay good."""
    from .signing_keys import rotate

    with opened_server(config) as (desk, settings):
        secrets = desk.secrets()
        desk.write(lambda session: rotate(session, CLI, secrets, settings, datetime.now(UTC)))
    good("The next key signs now.")


@tokens.command("revoke-key")
@click.argument("kid")
@config_option
def revoke_signing_key(kid: str, config: Path | None) -> None:
    """End a key with every token that it has signed; for one that may be known to somebody."""
    from .signing_keys import revoke_key

    with opened_server(config) as (desk, settings):
        secrets = desk.secrets()
        desk.write(lambda session: revoke_key(session, CLI, kid, secrets, settings, datetime.now(UTC)))
    good(f"{visible(kid)} is revoked, and so is every token that it has signed.")


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
