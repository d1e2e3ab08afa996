"""Keys, accounts and the audit log as people read them: aligned, dated from now, and safe for any terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from gatewaykit.commands import print_table, visible
from gatewaykit.types import INFERENCE, KEYS

from .cli_values import show_ago, show_moment, show_money, show_span
from .model import Account, ApiKey, AuditEntry, KeyLimits

MARKS = {
    "active": click.style("✓", fg="green"),
    "disabled": click.style("–", fg="yellow"),
    "expired": click.style("✗", fg="red"),
    "revoked": click.style("✗", fg="red"),
}
_WIDEST = 40
_NONE = "–"


def print_keys(keys: Iterable[ApiKey]) -> None:
    """A table, one key a line."""
    now = datetime.now(UTC)
    heading = ("  id", "name", "owner", "secret", "last used", "expires")
    print_table([_dim(heading), *(_row(key, now) for key in keys)], padded=5)


def print_key(key: ApiKey) -> None:
    """All of one key."""
    click.echo(f"{MARKS[key.status]} {click.style(key.id, bold=True)}  {visible(key.name)}")
    print_table([(f"  {_dim([label])[0]}", text) for label, text in _facts(key, datetime.now(UTC))], padded=1)


def print_accounts(accounts: Iterable[Account]) -> None:
    """A table, one account a line."""
    rows = [
        (f"{MARKS['active' if one.enabled else 'disabled']} {one.id}", one.kind, _short(one.name), _bounds(one))
        for one in accounts
    ]
    print_table([_dim(("  id", "kind", "name", "limits")), *rows], padded=3)


def _bounds(account: Account) -> str:
    found, longest = limits(account.limits), account.longest_access_seconds
    if longest is None:
        return found
    life = f"access {show_span(timedelta(seconds=longest))}"
    return life if found == "none" else f"{found}, {life}"


def print_audit(entries: Iterable[AuditEntry]) -> None:
    """A table, one change a line, the newest first."""
    rows = [(show_moment(one.at), visible(one.actor), one.action, one.object, _difference(one)) for one in entries]
    print_table([_dim(("when (UTC)", "who", "what", "of", "changed")), *rows], padded=4)


def print_secret(secret: str, curl: str) -> None:
    """The one time that it is seen."""
    click.echo(
        "\n".join(
            [
                "",
                f"  {click.style(secret, fg='cyan')}",
                click.style("  It is shown this once: keep it now.", dim=True),
                "",
                curl,
                "",
            ]
        )
    )


def curl_line(address: str, key: ApiKey, secret: str) -> str:
    """A request that this key may make, ready to be pasted."""
    path = "/v1/models" if INFERENCE in key.scopes else "/api/admin/keys"
    if INFERENCE not in key.scopes and not {KEYS, "admin"}.intersection(key.scopes):
        path = "/v1/usage"
    return f"curl -s {address}{path} -H 'Authorization: Bearer {secret}'"


def limits(found: KeyLimits) -> str:
    """``rpm 100, budget 50.00 a month``."""
    words = [
        f"{name} {getattr(found, name)}"
        for name in ("rpm", "tpm", "rpd", "tpd", "concurrency")
        if getattr(found, name) is not None
    ]
    if found.budget is not None:
        period = "in total" if found.budget_period == "total" else f"a {found.budget_period}"
        words.append(f"budget {show_money(found.budget)} {period}")
    return ", ".join(words) or "none"


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    return (
        f"{MARKS[key.status]} {key.id}",
        _short(key.name),
        _short(key.owner or _NONE),
        f"{key.hint} +{len(key.secrets) - 1}" if len(key.secrets) > 1 else key.hint,
        show_ago(key.last_used, now) if key.last_used else "never",
        key.status if key.status in {"revoked", "disabled"} else _when(key.expires, now),
    )


def _facts(key: ApiKey, now: datetime) -> Iterator[tuple[str, str]]:
    yield "status", key.status + (f" since {show_moment(key.revoked)}" if key.revoked else "")
    for number, secret in enumerate(key.secrets):
        ends = f", until {show_moment(secret.ends)} ({show_ago(secret.ends, now)})" if secret.ends else ""
        yield "" if number else "secret", f"{secret.hint}  since {show_moment(secret.created)}{ends}"
    yield "owner", visible(key.owner or _NONE)
    yield "scopes", ", ".join(key.scopes) or "none"
    yield "models", visible(", ".join(key.models)) or "none"
    yield "routes", visible(", ".join(key.routes)) or "none"
    yield "networks", ", ".join(key.networks) or "any"
    yield "limits", limits(key.limits)
    yield "expires", _when(key.expires, now) + (f"  {show_moment(key.expires)}" if key.expires else "")
    used = f"{show_ago(key.last_used, now)} from {key.last_used_from or 'nowhere'}" if key.last_used else "never"
    yield "last used", used
    yield "created", f"{show_moment(key.created)} by {visible(key.created_by)}"
    if key.note:
        yield "note", visible(key.note)


def _when(expires: datetime | None, now: datetime) -> str:
    return show_ago(expires, now) if expires else "never"


def _difference(entry: AuditEntry) -> str:
    """The fields that are not as they were, with their values where both are short."""
    before, after = entry.before or {}, entry.after or {}
    if not before or not after:
        return ""
    names = [name for name in after if after[name] != before.get(name) and name not in {"version"}]
    return ", ".join(_changed(name, before.get(name), after[name]) for name in names)


def _changed(name: str, before: Any, after: Any) -> str:
    if isinstance(before, str | int) and isinstance(after, str | int):
        return f"{name} {_short(str(before))} → {_short(str(after))}"
    return name


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _dim(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(click.style(cell, dim=True) for cell in cells)
