"""``gatewaykit accounts``: who owns keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from gatewaykit.commands import config_option, good, json_option, note, print_json, visible

from ..accounts import get_account, list_accounts
from .account_changes import AccountChanges, add_account, change_account
from .cli_base import CLI, all_pages, limit_options, limits_of, opened
from .cli_show import print_accounts
from .cli_values import NONE, span
from .documents import account_document, page_document
from .model import Account, KeyLimits, LimitChanges


@click.group()
def accounts() -> None:
    """Manage the people and services that own keys."""


_name = click.option("--name", help="What it is called.")
_models = click.option(
    "--model", "models", multiple=True, metavar="GLOB", help="Model that its keys may use; without it all."
)
_role = click.option(
    "--role", type=click.Choice(["member", "admin"]), help="What a person manages: own keys, or everything."
)
_longest = click.option(
    "--longest-access",
    metavar="TIME",
    help="Longest life of its access tokens, up to 1y; 'none' is no limit of its own.",
)
_kind = click.option("--kind", type=click.Choice(["user", "service"]), help="A person (the default), or a program.")


@accounts.command()
@click.argument("account_id", metavar="ID")
@_name
@_kind
@_role
@_models
@_longest
@limit_options
@config_option
@json_option
def create(account_id: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Make an account; its limits are for all its keys together."""
    account = Account(id=account_id, limits=limits_of(given).applied(KeyLimits()), **_said(given))
    with opened(config) as desk:
        made = desk.write(lambda session: add_account(session, CLI, account))
    _tell(made, as_json, "is made.")


@accounts.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@config_option
@json_option
def list_all(limit: int, everything: bool, config: Path | None, as_json: bool) -> None:
    """List the accounts."""
    with opened(config) as desk:
        find = partial(list_accounts, limit=limit)
        found = desk.read(lambda session: all_pages(lambda after: find(session, after=after), everything=everything))
    if as_json:
        print_json(page_document(found, account_document))
    elif found.items:
        print_accounts(found.items)
    else:
        note("There are no accounts yet.")
    if found.next is not None and not as_json:
        note("There are more; --all shows them.")


@accounts.command()
@click.argument("account_id", metavar="ID")
@config_option
@json_option
def show(account_id: str, config: Path | None, as_json: bool) -> None:
    """Print one account."""
    with opened(config) as desk:
        account = desk.read(lambda session: get_account(session, account_id))
    if as_json:
        print_json(account_document(account))
    else:
        print_accounts([account])


@accounts.command()
@click.argument("account_id", metavar="ID")
@_name
@_kind
@_role
@_models
@_longest
@limit_options
@config_option
@json_option
def update(account_id: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Change an account; what is not said stays."""

    limits = limits_of(given)
    changes = AccountChanges(**_said(given), limits=limits)
    if changes == AccountChanges(limits=LimitChanges()):
        raise click.UsageError("Nothing to change: say at least one option.")
    with opened(config) as desk:
        changed = desk.write(lambda session: change_account(session, CLI, account_id, changes))
    _tell(changed, as_json, "is changed.")


@accounts.command()
@click.argument("account_id", metavar="ID")
@config_option
@json_option
def disable(account_id: str, config: Path | None, as_json: bool) -> None:
    """Let no key of an account work until it is enabled again."""
    _set_enabled(account_id, config, as_json, enabled=False)


@accounts.command()
@click.argument("account_id", metavar="ID")
@config_option
@json_option
def enable(account_id: str, config: Path | None, as_json: bool) -> None:
    """Let the keys of a disabled account work again."""
    _set_enabled(account_id, config, as_json, enabled=True)


def _set_enabled(account_id: str, config: Path | None, as_json: bool, *, enabled: bool) -> None:
    changes = AccountChanges(enabled=enabled)
    with opened(config) as desk:
        account = desk.write(lambda session: change_account(session, CLI, account_id, changes))
    _tell(account, as_json, "is enabled." if enabled else "is disabled, and so are all its keys.")


def _tell(account: Account, as_json: bool, done: str) -> None:
    if as_json:
        print_json(account_document(account))
    else:
        good(f"{visible(account.id)} {done}")


def _said(given: dict[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in given.items() if value not in {None, ()}}
    longest = said.pop("longest_access", None)
    if longest is None:
        return said
    return {**said, "longest_access_seconds": None if longest == NONE else int(span(longest).total_seconds())}
