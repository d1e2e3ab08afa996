"""Keys, accounts and the audit log as JSON: what the API answers, and what the commands print with ``--json``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from .model import Account, ApiKey, AuditEntry, Created, Page

T = TypeVar("T")


def key_document(key: ApiKey) -> dict[str, Any]:
    """All that is known of a key. Moments are RFC 3339 in UTC, money is in micro-units."""
    return {"id": key.id, "status": key.status_at(datetime.now(UTC)), **msgspec.to_builtins(key)}


def created_document(created: Created) -> dict[str, Any]:
    """The same with the new secret, which nothing else ever shows; ``null`` when the request was a repetition."""
    return {**key_document(created.key), "secret": created.secret}


def account_document(account: Account) -> dict[str, Any]:
    """All that is known of an account."""
    return dict(msgspec.to_builtins(account))


def audit_document(entry: AuditEntry) -> dict[str, Any]:
    """One change."""
    return dict(msgspec.to_builtins(entry))


def page_document(page: Page[T], document: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """``items``, and ``next``: what to give as ``after`` for those that follow, ``null`` at the end."""
    return {"items": [document(item) for item in page.items], "next": page.next}
