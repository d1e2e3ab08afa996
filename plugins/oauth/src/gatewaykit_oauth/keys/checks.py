"""What a key or an account may look like: each fault is a :class:`~gatewaykit.errors.BadRequest` naming the field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gatewaykit.errors import BadRequest
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from ..words import N_
from .model import Account, KeyLimits, KeySpec

SCOPES = (INFERENCE, USAGE, KEYS, ADMIN)
LONGEST_NAME, LONGEST_NOTE, LONGEST_GLOB = 100, 1000, 128
MOST_ENTRIES = 64
MOST_STARS = 8
RESERVED = "client_"
"""How the ids of OAuth clients begin: a token's subject must not be taken for an account's (RFC 9068, 5)."""

LONGEST_GRACE = timedelta(days=30)
SHORTEST_ACCESS, LONGEST_ACCESS = 60, 31_536_000
ACCESS_LIFE = N_("Access tokens live between a minute and a year.")
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_account_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}").fullmatch
_idempotency_key = re.compile(r"[!-~]{1,255}").fullmatch


def checked(spec: KeySpec, now: datetime) -> KeySpec:
    """``spec`` with networks in their usual form and without repetitions."""
    _check_text(spec.name, "name", LONGEST_NAME)
    _check_note(spec.note)
    if spec.owner is not None:
        check_account_id(spec.owner, "owner")
    _check_scopes(spec.scopes)
    for field in ("models", "routes"):
        _check_globs(getattr(spec, field), field)
    if spec.expires is not None:
        _check_moment(spec.expires, now)
    _check_limits(spec.limits)
    return msgspec.structs.replace(
        spec,
        scopes=tuple(dict.fromkeys(spec.scopes)),
        models=tuple(dict.fromkeys(spec.models)),
        routes=tuple(dict.fromkeys(spec.routes)),
        networks=_networks(spec.networks),
        expires=spec.expires.astimezone(UTC) if spec.expires else None,
    )


def check_account(account: Account) -> None:
    """Raise for the first fault."""
    check_account_id(account.id, "id")
    if account.name:
        _check_text(account.name, "name", LONGEST_NAME)
    if account.kind not in ("user", "service"):
        raise BadRequest("An account is of kind 'user' or 'service'.", param="kind")
    if account.role not in ("member", "admin"):
        raise BadRequest("The role of an account is 'member' or 'admin'.", param="role")
    if account.role == "admin" and account.kind == "service":
        raise BadRequest("A service does not sign in, and so has no role but 'member'.", param="role")
    _check_globs(account.models, "models")
    _check_limits(account.limits)
    longest = account.longest_access_seconds
    if longest is not None and not SHORTEST_ACCESS <= longest <= LONGEST_ACCESS:
        raise BadRequest(ACCESS_LIFE, param="longest_access_seconds")


def check_account_id(account_id: str, field: str) -> None:
    """An account's id is part of names of limits and stands in logs."""
    if account_id.startswith(RESERVED):
        raise BadRequest(f"An account's id cannot begin with {RESERVED}: clients are called so.", param=field)
    if not _account_id(account_id):
        raise BadRequest("An account's id is 1 to 64 letters, digits and any of . _ @ + -.", param=field)


def check_idempotency_key(text: str) -> None:
    """Any visible text that is not too long."""
    if not _idempotency_key(text):
        raise BadRequest("An idempotency key is 1 to 255 visible ASCII characters.", param="Idempotency-Key")


def check_grace(grace: timedelta) -> None:
    """How long the old secret stays valid."""
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        raise BadRequest("The old secret can stay valid for 0 seconds to 30 days.", param="grace")


def _check_text(text: str, field: str, longest: int) -> None:
    if not 0 < len(text.strip()) <= len(text) <= longest or not text.isprintable():
        raise BadRequest(f"The {field} must be 1 to {longest} printable characters.", param=field)


def _check_note(note: str) -> None:
    if len(note) > LONGEST_NOTE or not note.replace("\n", "").replace("\t", "").isprintable():
        raise BadRequest(f"The note must be at most {LONGEST_NOTE} printable characters.", param="note")


def _check_scopes(scopes: Sequence[str]) -> None:
    if not scopes or not set(scopes) <= set(SCOPES):
        raise BadRequest(f"A key has one or more of the scopes {', '.join(SCOPES)}.", param="scopes")


def _check_globs(globs: Sequence[str], field: str) -> None:
    if not 0 < len(globs) <= MOST_ENTRIES:
        raise BadRequest(f"There must be 1 to {MOST_ENTRIES} {field}; '*' stands for all.", param=field)
    for glob in globs:
        if not 0 < len(glob) <= LONGEST_GLOB or not glob.isprintable() or glob.count("*") > MOST_STARS:
            message = f"The {field} are of 1 to {LONGEST_GLOB} printable characters, with at most {MOST_STARS} '*'."
            raise BadRequest(message, param=field)
        if "[" in glob:
            raise BadRequest("Only '*' and '?' stand for other characters; '[' cannot be used.", param=field)


def _networks(networks: Sequence[str]) -> tuple[str, ...]:
    if len(networks) > MOST_ENTRIES:
        raise BadRequest(f"There can be at most {MOST_ENTRIES} networks.", param="networks")
    try:
        return tuple(dict.fromkeys(str(ipaddress.ip_network(network)) for network in networks))
    except ValueError:
        message = "A network is an address, or the first address and a length, as 192.0.2.0/24 or 2001:db8::/32."
        raise BadRequest(message, param="networks") from None


def _check_moment(moment: datetime, now: datetime) -> None:
    if moment.tzinfo is None:
        raise BadRequest("The moment needs a time zone, such as Z.", param="expires")
    if not now < moment < _LATEST:
        raise BadRequest("The moment at which the key expires must be in the future.", param="expires")


def _check_limits(limits: KeyLimits) -> None:
    """The bounds of the type hold for what was decoded; they must hold for what a program made, too."""
    try:
        msgspec.convert(msgspec.to_builtins(limits), KeyLimits)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{str(error).partition(' - at')[0]}.", param="limits") from None
