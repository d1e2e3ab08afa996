"""How providers, credentials, limits and the gateway itself stand, by the sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from gatewaykit.metrics.names import (
    ANSWERED,
    ATTEMPTS,
    ATTEMPTS_ACTIVE,
    BREAKER,
    BREAKER_COOLDOWN,
    BUDGET_USED,
    CALLS,
    CLIENT_DURATION,
    CREDENTIAL,
    CREDENTIAL_BALANCE,
    CREDENTIAL_STATE,
    DATABASE_WAITING,
    ERROR,
    LOG_DROPPED,
    LOOP_LAG,
    MEMORY,
    NEW_DURATION,
    OUTBOX_AGE,
    OUTBOX_DEPTH,
    PROVIDER,
    QUEUE_LENGTH,
    QUEUE_REFUSED,
    QUEUE_WAIT,
    REFUSALS,
    SLOTS_BUSY,
    STATE,
    TOKEN_EXPIRES,
    UNIT,
    WHOSE,
    WORKERS,
)

from .sums import Sums, quantile

LEFT_BY_CLIENT = "cancelled"
_CIRCUITS = {0.5: "half_open", 1.0: "open"}
_MOST_CODES = 12


class Target(Struct, frozen=True):
    """A model of a provider. ``circuit`` is the worst that a process has for it, and ``cooldown`` the seconds until it
    is tried again. ``typical`` and ``slow`` are the seconds within which half, and 95 of 100, of its answers came since
    the start. ``failure`` is the code of what went wrong most often.
    """

    provider: str
    model: str
    circuit: str
    cooldown: float
    active: int
    attempts: int
    failed: int
    typical: float | None
    slow: float | None
    failure: str


class Credential(Struct, frozen=True):
    """One credential of a provider; ``balance`` is tokens left by model."""

    provider: str
    name: str
    state: str
    busy: int
    token_ends: datetime | None
    balance: Mapping[str, int]


class Queue(Struct, frozen=True):
    """Calls that wait for a credential of a provider, and how long others did since the start, in seconds."""

    provider: str
    waiting: int
    refused: int
    slow: float | None


class Inside(Struct, frozen=True):
    """The gateway itself. Ages are seconds, memory is bytes; None is what nothing tells."""

    workers: int
    memory: int
    lag: float | None
    outbox: int
    outbox_age: float | None
    waiting_for_database: int
    lines_dropped: int


def targets(sums: Sums) -> list[Target]:
    """All that have been asked or that the configuration names."""
    attempts = sums.by(ATTEMPTS, PROVIDER, ANSWERED, ERROR)
    circuits, active = sums.by(BREAKER, PROVIDER, ANSWERED), sums.by(ATTEMPTS_ACTIVE, PROVIDER, ANSWERED)
    known = {*circuits, *active, *((provider, model) for provider, model, _ in attempts)}
    found = []
    for one in sorted(known):
        codes = {code: count for (*whose, code), count in attempts.items() if tuple(whose) == one}
        found.append(_target(sums, one, codes, circuits.get(one, 0.0), int(active.get(one, 0))))
    return found


def _target(sums: Sums, one: tuple[str, ...], codes: Mapping[str, float], circuit: float, active: int) -> Target:
    provider, model = one
    failures = {code: count for code, count in codes.items() if code not in {"", LEFT_BY_CLIENT}}
    measured = CLIENT_DURATION if sums.has(CLIENT_DURATION) else NEW_DURATION
    times = sums.buckets(measured, {PROVIDER: provider, ANSWERED: model, ERROR: ""})
    return Target(
        provider,
        model,
        circuit=_CIRCUITS.get(circuit, "closed"),
        cooldown=sums.total(BREAKER_COOLDOWN, {PROVIDER: provider, ANSWERED: model}),
        active=active,
        attempts=int(sum(codes.values())),
        failed=int(sum(failures.values())),
        typical=quantile(0.5, measured.bounds, times),
        slow=quantile(0.95, measured.bounds, times),
        failure=max(failures, key=lambda code: failures[code], default=""),
    )


def credentials(sums: Sums) -> list[Credential]:
    """Those of which a provider tells."""
    states = sums.by(CREDENTIAL_STATE, PROVIDER, CREDENTIAL, STATE)
    busy, ends = sums.by(SLOTS_BUSY, PROVIDER, CREDENTIAL), sums.by(TOKEN_EXPIRES, PROVIDER, CREDENTIAL)
    balances = sums.by(CREDENTIAL_BALANCE, PROVIDER, CREDENTIAL, ANSWERED)
    found = []
    for one in sorted({(provider, name) for provider, name, _ in states} | set(busy)):
        # each process knows only of its own calls: of two states, the worse one is true
        held = sorted(state for (*whose, state), value in states.items() if value and tuple(whose) == one)
        worst = next((state for state in held if state != "good"), held[0] if held else "")
        until = ends.get(one)
        left = {model: int(tokens) for (*whose, model), tokens in balances.items() if tuple(whose) == one}
        moment = datetime.fromtimestamp(until, UTC) if until else None
        provider, name = one
        found.append(Credential(provider, name, worst, int(busy.get(one, 0)), moment, left))
    return found


def queues(sums: Sums) -> list[Queue]:
    """Those of which a provider tells."""
    refused = sums.by(QUEUE_REFUSED, PROVIDER)
    return [
        Queue(
            provider,
            int(waiting),
            int(refused.get((provider,), 0)),
            quantile(0.95, QUEUE_WAIT.bounds, sums.buckets(QUEUE_WAIT, {PROVIDER: provider})),
        )
        for (provider,), waiting in sorted(sums.by(QUEUE_LENGTH, PROVIDER).items())
    ]


def codes(sums: Sums) -> Sequence[tuple[str, int]]:
    """What went wrong with calls since the start, by code, most often first."""
    found = [(code, int(count)) for (code,), count in sums.by(CALLS, ERROR).items() if code]
    return sorted(found, key=lambda one: (-one[1], one[0]))[:_MOST_CODES]


def refusals(sums: Sums) -> Sequence[tuple[str, str, int]]:
    """Calls refused by limits since the start: whose limit, of what, how often."""
    found = [(whose, unit, int(count)) for (whose, unit), count in sums.by(REFUSALS, WHOSE, UNIT).items()]
    return sorted(found, key=lambda one: (-one[2], one))


def budgets(sums: Sums) -> Sequence[tuple[str, float]]:
    """The fullest budget of each kind, as a share."""
    return sorted((whose, share) for (whose,), share in sums.by(BUDGET_USED, WHOSE).items())


def inside(sums: Sums) -> Inside:
    """The gateway itself."""
    return Inside(
        workers=int(sums.total(WORKERS)),
        memory=int(sums.total(MEMORY)),
        lag=sums.most(LOOP_LAG),
        outbox=int(sums.total(OUTBOX_DEPTH)),
        outbox_age=sums.most(OUTBOX_AGE),
        waiting_for_database=int(sums.total(DATABASE_WAITING)),
        lines_dropped=int(sums.total(LOG_DROPPED)),
    )
