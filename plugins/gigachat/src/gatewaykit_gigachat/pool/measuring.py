"""How a pool stands, in the words of the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatewaykit.metrics import Distribution, Reading
from gatewaykit.metrics.names import (
    ANSWERED,
    CREDENTIAL,
    CREDENTIAL_BALANCE,
    CREDENTIAL_EXPIRES,
    CREDENTIAL_STATE,
    PROVIDER,
    QUEUE_LENGTH,
    QUEUE_REFUSED,
    QUEUE_WAIT,
    REASON,
    SLOTS_BUSY,
    STATE,
    TOKEN_EXPIRES,
    TOKEN_FAILURES,
    TRUST,
)

from .member import Health
from .snapshot import MemberSnapshot, PoolSnapshot


def readings(provider: str, snapshot: PoolSnapshot, waits: Iterable[Distribution]) -> Iterator[Reading]:
    """``waits`` are the times that calls waited, of each event loop."""
    whose = {PROVIDER: provider}
    for member in snapshot.members:
        yield from _of_member({**whose, CREDENTIAL: member.name}, member)
    yield Reading(QUEUE_LENGTH, snapshot.waiting, whose)
    for wait in waits:
        yield Reading(QUEUE_WAIT, wait, whose)
    refused = {"full": snapshot.refused_full, "late": snapshot.refused_late, "left": snapshot.left}
    for reason, count in refused.items():
        yield Reading(QUEUE_REFUSED, count, {**whose, REASON: reason})


def _of_member(whose: dict[str, str], member: MemberSnapshot) -> Iterator[Reading]:
    for health in Health:
        yield Reading(CREDENTIAL_STATE, float(member.health == health), {**whose, STATE: health.value})
    yield Reading(SLOTS_BUSY, member.in_use, whose)
    if member.token_expires is not None:
        yield Reading(TOKEN_EXPIRES, member.token_expires, whose)
    for reason, count in member.token_failures.items():
        yield Reading(TOKEN_FAILURES, count, {**whose, REASON: reason})
    if member.certificate_expires is not None:
        yield Reading(CREDENTIAL_EXPIRES, member.certificate_expires, whose)
    if member.trust_expires is not None:
        yield Reading(CREDENTIAL_EXPIRES, member.trust_expires, {**whose, CREDENTIAL: TRUST})
    for model, tokens in (member.balance or {}).items():
        yield Reading(CREDENTIAL_BALANCE, tokens, {**whose, ANSWERED: model})
