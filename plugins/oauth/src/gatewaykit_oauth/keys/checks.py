"""What a key or an account may look like: each fault is a :class:`~gatewaykit.errors.BadRequest` naming the field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gatewaykit.errors import BadRequest
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from ..faults import Fault
from ..words import N_, NN_, counted, filled
from .model import Account, KeyLimits, KeySpec

SCOPES = (INFERENCE, USAGE, KEYS, ADMIN)
LONGEST_NAME, LONGEST_NOTE, LONGEST_GLOB = 100, 1000, 128
MOST_ENTRIES = 64
MOST_STARS = 8
RESERVED = "client_"
"""How the ids of OAuth clients begin: a token's subject must not be taken for an account's (RFC 9068, 5)."""

LONGEST_GRACE = timedelta(days=30)
_MAPPED = 96
"""Bits before an IPv4 address that is written as IPv6."""

SHORTEST_ACCESS, LONGEST_ACCESS = 60, 31_536_000
ACCESS_LIFE = N_("Access tokens live between a minute and a year.")
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
NO_NETWORK = N_("A network is an address, or the first address and a length, as 192.0.2.0/24 or 2001:db8::/32.")
_HOW_MANY = {
    "models": NN_(
        "There must be %(n)s model; '*' stands for all.", "There must be 1 to %(n)s models; '*' stands for all."
    ),
    "routes": NN_(
        "There must be %(n)s route; '*' stands for all.", "There must be 1 to %(n)s routes; '*' stands for all."
    ),
}
_HOW_LONG = {
    "models": NN_(
        "The models are of %(n)s printable character, with at most %(stars)s '*'.",
        "The models are of 1 to %(n)s printable characters, with at most %(stars)s '*'.",
    ),
    "routes": NN_(
        "The routes are of %(n)s printable character, with at most %(stars)s '*'.",
        "The routes are of 1 to %(n)s printable characters, with at most %(stars)s '*'.",
    ),
}
_account_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}").fullmatch
_idempotency_key = re.compile(r"[!-~]{1,255}").fullmatch


def checked(spec: KeySpec, now: datetime) -> KeySpec:
    """``spec`` with networks in their usual form and without repetitions."""
    check_name(spec.name)
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
        check_name(account.name)
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
        message = filled("An account's id cannot begin with %(begin)s: clients are called so.", begin=RESERVED)
        raise Fault(message, param=field)
    if not _account_id(account_id):
        raise BadRequest("An account's id is 1 to 64 letters, digits and any of . _ @ + -.", param=field)


def check_life(expires: datetime | None, longest: timedelta | None, now: datetime) -> None:
    """Nobody makes a key live longer than the configuration lets one."""
    if longest is not None and (expires is None or expires > now + longest):
        message = counted("A key lives for %(n)s day at most.", "A key lives for %(n)s days at most.", longest.days)
        raise Fault(message, param="expires")


def check_idempotency_key(text: str) -> None:
    """Any visible text that is not too long."""
    if not _idempotency_key(text):
        raise BadRequest("An idempotency key is 1 to 255 visible ASCII characters.", param="Idempotency-Key")


def check_grace(grace: timedelta) -> None:
    """How long the old secret stays valid."""
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        raise BadRequest("The old secret can stay valid for 0 seconds to 30 days.", param="grace")


def check_name(name: str) -> None:
    """What a key or a client is called."""
    if not 0 < len(name.strip()) <= len(name) <= LONGEST_NAME or not name.isprintable():
        message = counted(
            "The name must be %(n)s printable character.",
            "The name must be 1 to %(n)s printable characters.",
            LONGEST_NAME,
        )
        raise Fault(message, param="name")


def _check_note(note: str) -> None:
    if len(note) > LONGEST_NOTE or not note.replace("\n", "").replace("\t", "").isprintable():
        message = counted(
            "The note must be at most %(n)s printable character.",
            "The note must be at most %(n)s printable characters.",
            LONGEST_NOTE,
        )
        raise Fault(message, param="note")


def _check_scopes(scopes: Sequence[str]) -> None:
    if not scopes or not set(scopes) <= set(SCOPES):
        message = filled("A key has one or more of the scopes %(scopes)s.", scopes=", ".join(SCOPES))
        raise Fault(message, param="scopes")


def _check_globs(globs: Sequence[str], field: str) -> None:
    if not 0 < len(globs) <= MOST_ENTRIES:
        raise Fault(counted(*_HOW_MANY[field], MOST_ENTRIES), param=field)
    for glob in globs:
        if not 0 < len(glob) <= LONGEST_GLOB or not glob.isprintable() or glob.count("*") > MOST_STARS:
            raise Fault(counted(*_HOW_LONG[field], LONGEST_GLOB, stars=MOST_STARS), param=field)
        if "[" in glob:
            raise BadRequest("Only '*' and '?' stand for other characters; '[' cannot be used.", param=field)


def _networks(networks: Sequence[str]) -> tuple[str, ...]:
    if len(networks) > MOST_ENTRIES:
        message = counted("There can be at most %(n)s network.", "There can be at most %(n)s networks.", MOST_ENTRIES)
        raise Fault(message, param="networks")
    try:
        return tuple(dict.fromkeys(str(_plain(ipaddress.ip_network(network))) for network in networks))
    except ValueError:
        raise BadRequest(NO_NETWORK, param="networks") from None


def _plain(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """IPv4 addresses written as IPv6 (RFC 4291, 2.5.5.2) as what they are: clients' addresses come so, too."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED))


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
