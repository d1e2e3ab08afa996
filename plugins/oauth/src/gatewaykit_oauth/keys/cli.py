"""``gatewaykit keys``: API keys from the command line, with or without a gateway that runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from gatewaykit.commands import config_option, good, json_option, note, print_json, visible
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from . import store
from .cli_accounts import accounts
from .cli_base import CLI, Desk, all_pages, limit_options, limits_of, opened
from .cli_show import curl_line, print_audit, print_key, print_keys, print_secret
from .cli_values import ANY, NEVER, expiry, show_moment, span
from .documents import audit_document, created_document, key_document, page_document
from .model import ApiKey, Created, KeyChanges, KeyLimits, KeySpec, LimitChanges

SCOPES = (INFERENCE, USAGE, KEYS, ADMIN)
STATUSES = ("active", "disabled", "expired", "revoked")
SORTS = ("created", "-created", "name", "-name", "expires", "-expires", "last_used", "-last_used")


def add_commands(cli: click.Group) -> None:
    """``keys`` and ``accounts``."""
    cli.add_command(keys)
    cli.add_command(accounts)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


def _rights(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for what a key may do."""
    options: list[Callable[..., Any]] = [
        click.option("--model", "models", multiple=True, metavar="GLOB", help="Model it may use; without it all."),
        click.option("--route", "routes", multiple=True, metavar="GLOB", help="Path it may call; without it all."),
        click.option(
            "--network",
            "networks",
            multiple=True,
            metavar="CIDR",
            help=f"Network it works from, or {ANY}: the default.",
        ),
        click.option(
            "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="What it may do: inference and usage."
        ),
        click.option("--expires", type=expiry, metavar="WHEN", help="90d, 2027-01-01, or never."),
        limit_options,
        click.option("--note", help="Anything worth knowing."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@keys.command()
@click.argument("name")
@click.option("--owner", metavar="ACCOUNT", help="Account it belongs to.")
@_rights
@click.option("--idempotency-key", metavar="TEXT", help="A repetition with the same text makes no other key.")
@config_option
@json_option
def create(
    name: str, owner: str | None, idempotency_key: str | None, config: Path | None, as_json: bool, **given: Any
) -> None:
    """Make a key, and print it this once.

    It expires after 90 days unless --expires says otherwise. The options --model, --route, --network and --scope may
    be repeated.
    """
    limits, unsaid = limits_of(given).applied(KeyLimits()), given["expires"] is None
    spec = KeySpec(name=name, owner=owner, limits=limits, **_said(given))
    with opened(config) as desk:
        lifetime = store.usual_lifetime(desk.longest) if unsaid else None
        make = partial(
            store.create,
            secrets=desk.secrets(),
            lifetime=lifetime,
            longest=desk.longest,
            idempotency_key=idempotency_key,
        )
        made = desk.write(lambda session: make(session, CLI, spec))
        ends = f"expires {show_moment(made.key.expires)} UTC" if made.key.expires else "never expires"
        _hand_over(desk, made, as_json, f"{made.key.id} {visible(made.key.name)!r} is made; it {ends}.")


@keys.command("list")
@click.option("--owner", metavar="ACCOUNT", help="Only keys of this account.")
@click.option(
    "--status", type=click.Choice(STATUSES), metavar="STATUS", help="Only active, disabled, expired or revoked keys."
)
@click.option("--search", metavar="TEXT", help="Only keys with this text in name, note or id.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="-created",
    show_default=True,
    metavar="ORDER",
    help="By created, name, expires or last_used; with - before it the other way round.",
)
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@config_option
@json_option
def list_keys(
    owner: str | None,
    status: Any,
    search: str | None,
    sort: Any,
    limit: int,
    everything: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """List the keys, never their secrets."""
    find = partial(store.find, owner=owner, status=status, text=search or None, sort=sort, limit=limit)
    with opened(config) as desk:
        found = desk.read(
            lambda session: all_pages(lambda after: find(session, after=after), everything=everything),
        )
    if as_json:
        print_json(page_document(found, key_document))
        return
    if not found.items:
        note("There is no such key." if owner or status or search else "There are no keys yet.")
        return
    print_keys(found.items)
    if found.next is not None:
        note("There are more; --all shows them.")


@keys.command()
@click.argument("key_id", metavar="ID")
@config_option
@json_option
def show(key_id: str, config: Path | None, as_json: bool) -> None:
    """Print all that is known of a key."""
    with opened(config) as desk:
        key = desk.read(lambda session: store.get(session, key_id))
    if as_json:
        print_json(key_document(key))
    else:
        print_key(key)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--name", help="What it is called.")
@_rights
@config_option
@json_option
def update(key_id: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Change what a key may do.

    What is not said stays. A limit goes away with "none"; a repeatable option replaces what was there.
    """

    limits = limits_of(given)
    changes = KeyChanges(**_said(given), limits=limits)
    if changes == KeyChanges(limits=LimitChanges()):
        raise click.UsageError("Nothing to change: say at least one option.")
    with opened(config) as desk:
        key = desk.write(lambda session: store.update(session, CLI, key_id, changes, longest=desk.longest))
    if as_json:
        print_json(key_document(key))
    else:
        print_key(key)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--grace", type=span, metavar="TIME", help="How long the old secret still works: 24h, or 0.")
@click.option("--idempotency-key", metavar="TEXT", help="A repetition with the same text does not rotate again.")
@config_option
@json_option
def rotate(
    key_id: str, grace: timedelta | None, idempotency_key: str | None, config: Path | None, as_json: bool
) -> None:
    """Give a key a new secret, and print it this once.

    Id, rights, limits and what was spent stay; the old secret works for 24 hours unless --grace says otherwise.
    """
    grace = store.DEFAULT_GRACE if grace is None else grace
    with opened(config) as desk:
        rotated = partial(store.rotate, grace=grace, idempotency_key=idempotency_key, secrets=desk.secrets())
        made = desk.write(lambda session: rotated(session, CLI, key_id))
        old = [secret.ends for secret in made.key.secrets if secret.ends]
        until = f"the old secret works until {show_moment(max(old))} UTC" if old else "the old secret works no more"
        _hand_over(desk, made, as_json, f"{key_id} has a new secret; {until}.")


@keys.command()
@click.argument("key_id", metavar="ID")
@config_option
@json_option
def cut(key_id: str, config: Path | None, as_json: bool) -> None:
    """End the old secrets of a rotated key now."""
    _change(store.cut, key_id, config, as_json, "has one secret now.")


@keys.command()
@click.argument("key_id", metavar="ID")
@config_option
@json_option
def disable(key_id: str, config: Path | None, as_json: bool) -> None:
    """Let a key work no more until it is enabled again."""
    _change(partial(store.set_enabled, enabled=False), key_id, config, as_json, "is disabled.")


@keys.command()
@click.argument("key_id", metavar="ID")
@config_option
@json_option
def enable(key_id: str, config: Path | None, as_json: bool) -> None:
    """Let a disabled key work again."""
    _change(partial(store.set_enabled, enabled=True), key_id, config, as_json, "is enabled.")


@keys.command()
@click.argument("key_ids", metavar="ID...", nargs=-1)
@click.option("--owner", metavar="ACCOUNT", help="All keys of this account, instead of IDs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def revoke(key_ids: tuple[str, ...], owner: str | None, yes: bool, config: Path | None, as_json: bool) -> None:
    """Revoke keys for good: all of those that are named, or none."""
    if bool(key_ids) == (owner is not None):
        raise click.UsageError("Say either IDs or --owner.")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody is there to ask; say --yes.")
        named = ", ".join(map(visible, key_ids)) if owner is None else f"All keys of {visible(owner)}"
        click.confirm(f"{named} will never work again. Revoke?", abort=True, err=True)
    with opened(config) as desk:
        revoked = desk.write(lambda session: store.revoke_many(session, CLI, key_ids, owner))
    if as_json:
        documents = [key_document(key) for key in revoked]
        print_json(documents[0] if len(key_ids) == 1 else {"items": documents})
        return
    for key in revoked:
        good(f"{key.id} {visible(key.name)!r} is revoked.")
    if not revoked:
        note("There was no key to revoke.")


@keys.command()
@click.argument("key_id", metavar="ID", required=False)
@click.option("--actor", metavar="ID", help="Only what this principal did; 'cli' is the command line.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@config_option
@json_option
def audit(
    key_id: str | None, actor: str | None, limit: int, everything: bool, config: Path | None, as_json: bool
) -> None:
    """List the changes of one key or of all: who, when, what."""

    def work(session: Session) -> Any:
        if key_id is not None:
            store.get(session, key_id)
        look = partial(store.audit, session, key_id=key_id, actor=actor, limit=limit)
        return all_pages(lambda after: look(after=after), everything=everything)

    with opened(config) as desk:
        found = desk.read(work)
    if as_json:
        print_json(page_document(found, audit_document))
        return
    print_audit(found.items)
    if found.next is not None:
        note("There are more; --all shows them.")


def _said(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given; words that stand for nothing are taken for it."""
    said = {name: value for name, value in given.items() if value not in {None, ()}}
    if said.get("networks") == (ANY,):
        said["networks"] = ()
    if said.get("expires") == NEVER:
        said["expires"] = None
    return said


def _change(
    change: Callable[[Session, Any, str], ApiKey], key_id: str, config: Path | None, as_json: bool, done: str
) -> None:
    with opened(config) as desk:
        key = desk.write(lambda session: change(session, CLI, key_id))
    if as_json:
        print_json(key_document(key))
    else:
        good(f"{key.id} {visible(key.name)!r} {done}")


def _hand_over(desk: Desk, made: Created, as_json: bool, done: str) -> None:
    """Print the new secret, which nobody will see again."""
    if as_json:
        print_json(created_document(made))
        return
    if made.secret is None:
        note(f"{made.key.id} was done before by this idempotency key; its secret was printed then.")
        return
    good(done)
    print_secret(made.secret, curl_line(desk.address, made.key, made.secret))
