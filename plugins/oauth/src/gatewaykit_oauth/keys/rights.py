"""Who may make which key: never one that allows more than the maker's own.

Every test errs on the side of refusing. A key's limits are compared one by one; they do not add up over the keys that
it makes: what all keys of somebody may use together is limited at the account, under which all those keys are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from gatewaykit.limits import Limit
from gatewaykit.types import ADMIN, INFERENCE, KEYS, Principal

from ..faults import Refusal
from ..words import filled
from .checks import SCOPES
from .globs import covers
from .model import Actor, KeySpec

_ALL = ("*",)


class Holder(Struct, frozen=True):
    """What somebody holds who wants to make or change a key: ``networks`` and ``expires`` are those of its own key or
    token, ``limits`` all that it is under, whoever has set them.
    """

    principal: Principal
    networks: tuple[str, ...] = ()
    expires: datetime | None = None
    limits: tuple[Limit, ...] = ()

    @property
    def is_person(self) -> bool:
        """Whether it is somebody who has signed in, and no key or token."""
        return self.principal.id == f"user:{self.principal.owner}"


def manages(actor: Actor, owner: str | None) -> bool:
    """Whether the actor may see and change keys of ``owner``: an admin all keys, others those of their own account."""
    principal = actor.principal
    return principal is None or ADMIN in principal.scopes or (principal.owner != "" and owner == principal.owner)


def require_managing(holder: Holder) -> None:
    """Raise unless the holder may manage keys at all."""
    if not holder.principal.scopes & {KEYS, ADMIN}:
        raise Refusal(filled("This needs the scope '%(scope)s', which this key does not have.", scope=KEYS))


def require_whole(holder: Holder) -> None:
    """Raise for a key that is bound in what it may do: accounts and clients would give the rest to whoever makes them.

    Limits of its account, and an end, do not bind it so; a token is bound by its scopes alone.
    """
    principal = holder.principal
    if principal.claims:
        return
    narrowed = {
        "models": not covers(principal.models, _ALL),
        "routes": not covers(principal.routes, _ALL),
        "networks": bool(holder.networks),
        "limits": any(limit.whose == "key" for limit in principal.limits),
    }
    for field, is_narrowed in narrowed.items():
        if is_narrowed:
            raise Refusal(filled("A key that is bound by its %(field)s manages keys alone.", field=field))


def require_covered(holder: Holder, spec: KeySpec, limits: Sequence[Limit]) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied`, naming the field, if ``spec`` allows what the holder may not.

    ``limits`` are those that such a key would be under and that its maker cannot change.
    """
    principal = holder.principal
    refused = {
        "owner": ADMIN not in principal.scopes and (not spec.owner or spec.owner != principal.owner),
        "scopes": not set(spec.scopes) <= scopes_of(principal),
        "models": not covers(principal.models, spec.models),
        "routes": not covers(principal.routes, spec.routes),
        "networks": not _within(holder.networks, spec.networks),
        "expires": holder.expires is not None and (spec.expires is None or spec.expires > holder.expires),
        "limits": not all(any(_binds(mine, own) for mine in limits) for own in holder.limits),
    }
    for field, is_refused in refused.items():
        if is_refused:
            message = filled("A key cannot allow more than the one that makes it: %(field)s.", field=field)
            raise Refusal(message, param=field)


def scopes_of(principal: Principal) -> set[str]:
    """Who may manage everything has every scope but that of calling models, as in :mod:`gatewaykit.admission`."""
    return set(principal.scopes) | (set(SCOPES) - {INFERENCE} if ADMIN in principal.scopes else set())


def _within(parents: Sequence[str], children: Sequence[str]) -> bool:
    if not parents:
        return True
    outer = [ipaddress.ip_network(parent) for parent in parents]
    inner = [ipaddress.ip_network(child) for child in children]
    return bool(inner) and all(any(_is_part(child, parent) for parent in outer) for child in inner)


def _is_part(
    child: ipaddress.IPv4Network | ipaddress.IPv6Network, parent: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    if isinstance(child, ipaddress.IPv4Network):
        return isinstance(parent, ipaddress.IPv4Network) and child.subnet_of(parent)
    return isinstance(parent, ipaddress.IPv6Network) and child.subnet_of(parent)


def _binds(limit: Limit, other: Limit) -> bool:
    """Whether what keeps to ``limit`` keeps to ``other``, whoever it belongs to."""
    return limit.unit == other.unit and limit.span == other.span and limit.amount <= other.amount
