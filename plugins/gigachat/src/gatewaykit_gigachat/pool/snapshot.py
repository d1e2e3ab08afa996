"""How a pool stands, in plain numbers: for metrics and for the list of providers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field, structs


class MemberSnapshot(Struct, frozen=True):
    """One credential. ``health`` is ``good``, ``refused`` or ``failing``; ``slots`` 0 means any number.

    ``token_expires`` is unix time, None without a token; so are ``certificate_expires`` and ``trust_expires``, the ends
    of its client certificate and of the authorities that it trusts. ``token_failures`` counts tokens that were not
    to be had, by code. ``balance`` is tokens left by model, None if nobody knows; ``lacks`` the reason (``unpaid``,
    ``denied``, ``missing``) by model that it is not asked for now.
    """

    name: str
    scope: str
    health: str
    slots: int
    in_use: int
    calls: int
    token_expires: float | None
    balance: Mapping[str, int] | None
    lacks: Mapping[str, str]
    token_failures: Mapping[str, int] = field(default_factory=dict)
    certificate_expires: float | None = None
    trust_expires: float | None = None


class PoolSnapshot(Struct, frozen=True):
    """``waiting`` calls now, the oldest for ``oldest_wait`` seconds. The other numbers only grow.

    ``waited`` calls have had to wait, ``wait_seconds`` in all; ``refused_full`` found the queue full, ``refused_late``
    waited in vain, ``left`` went away while they waited.
    """

    members: tuple[MemberSnapshot, ...]
    waiting: int = 0
    oldest_wait: float = 0.0
    waited: int = 0
    wait_seconds: float = 0.0
    refused_full: int = 0
    refused_late: int = 0
    left: int = 0


def joined(snapshots: Iterable[PoolSnapshot]) -> PoolSnapshot:
    """The pools of all event loops as one; the health of a credential is that of the last of them."""
    whole: PoolSnapshot | None = None
    for one in snapshots:
        whole = one if whole is None else _both(whole, one)
    return whole or PoolSnapshot(())


def _both(first: PoolSnapshot, second: PoolSnapshot) -> PoolSnapshot:
    members = tuple(
        structs.replace(b, in_use=a.in_use + b.in_use, calls=a.calls + b.calls)
        for a, b in zip(first.members, second.members, strict=True)
    )
    return PoolSnapshot(
        members,
        waiting=first.waiting + second.waiting,
        oldest_wait=max(first.oldest_wait, second.oldest_wait),
        waited=first.waited + second.waited,
        wait_seconds=first.wait_seconds + second.wait_seconds,
        refused_full=first.refused_full + second.refused_full,
        refused_late=first.refused_late + second.refused_late,
        left=first.left + second.left,
    )
