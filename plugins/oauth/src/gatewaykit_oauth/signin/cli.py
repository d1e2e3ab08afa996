"""``gatewaykit users``: people who sign in. Whoever can read the configuration may do everything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewaykit.commands import config_option, good, json_option, print_json, visible
from gatewaykit.errors import NotFound

from ..accounts import get_account
from ..keys.account_changes import AccountChanges, change_account
from ..keys.audit import record, take_turn
from ..keys.cli_base import CLI, Desk, opened
from ..keys.model import Account

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@click.group()
def users() -> None:
    """Let people sign in to the pages under /admin/."""


@users.command()
@click.argument("account_id", metavar="ID")
@click.option("--name", help="The full name.")
@click.option("--role", type=click.Choice(["member", "admin"]), help="What they manage: their own keys, or everything.")
@config_option
@json_option
def create(account_id: str, name: str | None, role: str | None, config: Path | None, as_json: bool) -> None:
    """Make an account, and print a link with which its password is chosen.

    An account that exists gets the name and the role that are given, and a new link.
    """
    from .links import invite, new_link

    given = {key: value for key, value in {"name": name, "role": role}.items() if value is not None}

    def work(session: Session) -> str:
        now = datetime.now(UTC)
        try:
            account = get_account(session, account_id)
        except NotFound:
            return invite(session, CLI, Account(id=account_id, **given), now)  # type: ignore[arg-type]
        if given:
            account = change_account(session, CLI, account_id, AccountChanges(**given))  # type: ignore[arg-type]
        return new_link(session, CLI, account, now)

    with opened(config) as desk:
        _tell(desk, account_id, desk.write(work), as_json)


@users.command()
@click.argument("account_id", metavar="ID")
@config_option
@json_option
def link(account_id: str, config: Path | None, as_json: bool) -> None:
    """Print a new link to choose a password; earlier links are void."""
    from .links import new_link

    with opened(config) as desk:
        token = desk.write(lambda session: new_link(session, CLI, get_account(session, account_id), datetime.now(UTC)))
        _tell(desk, account_id, token, as_json)


@users.command("remove-factor")
@click.argument("account_id", metavar="ID")
@config_option
def remove_factor(account_id: str, config: Path | None) -> None:
    """Ask for the password alone, of somebody who has lost the app and the recovery codes."""
    from .credentials import remove_factor as remove

    with opened(config) as desk:
        desk.write(lambda session: remove(session, CLI, account_id, datetime.now(UTC)))
    good(f"{visible(account_id)} signs in with a password alone.")


@users.command()
@click.argument("account_id", metavar="ID")
@config_option
def unlink(account_id: str, config: Path | None) -> None:
    """Forget which person at an outside OpenID provider an account belongs to: the next one of that name gets it."""
    from ..identity.people import unlink as forget

    with opened(config) as desk:
        forgotten = desk.write(lambda session: forget(session, CLI, account_id, datetime.now(UTC)))
    good(f"{visible(account_id)} belonged to somebody at {forgotten} providers, and no longer does.")


@users.command("end-sessions")
@click.argument("account_id", metavar="ID")
@config_option
def end_sessions(account_id: str, config: Path | None) -> None:
    """Sign somebody out everywhere."""
    from .sessions import end_all

    def work(session: Session) -> int:
        now = datetime.now(UTC)
        take_turn(session)
        get_account(session, account_id)
        record(session, CLI, "account.sessions.end", f"user:{account_id}", before=None, after=None, now=now)
        return end_all(session, account_id)

    with opened(config) as desk:
        ended = desk.write(work)
    good(f"{visible(account_id)} was signed in {ended} times, and is no longer.")


def _tell(desk: Desk, account_id: str, token: str, as_json: bool) -> None:
    from ..settings import AdminSettings

    base = desk.gateway.settings.get(AdminSettings).base_url or desk.address
    address = f"{base}/admin/setup/{token}"
    if as_json:
        print_json({"id": account_id, "link": address})
        return
    good(f"{visible(account_id)} chooses a password here, once, within a day:")
    click.echo(address)
