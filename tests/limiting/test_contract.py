"""What every store that counts has to keep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from gatewaykit.limiting import Backend, Charge, Decision
from gatewaykit.limits import Limit, Period, Unit

from .conftest import LEASE, Clock, new_subject, seed

A_MOMENT = 0.001
HELD: list[Unit] = ["tokens", "money", "concurrency"]
PERIODS: list[tuple[Period, str, str]] = [
    ("day", "2026-10-22T23:59:59", "2026-10-23T00:00:00"),
    ("week", "2026-10-25T23:59:59", "2026-10-26T00:00:00"),
    ("month", "2026-10-31T23:59:59", "2026-11-01T00:00:00"),
]


def requests(subject: str, amount: int, span: int = 60) -> Limit:
    return Limit(subject, "requests", amount, span)


def tokens(subject: str, amount: int, span: int = 60) -> Limit:
    return Limit(subject, "tokens", amount, span)


def of_unit(subject: str, unit: Unit, amount: int) -> Limit:
    """A limit that does not have to be seeded."""
    return Limit(subject, unit, amount, 0 if unit == "concurrency" else 60)


def at(moment: str) -> float:
    """Unix time of a moment in UTC."""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


async def take(backend: Backend, hold: str, *charges: tuple[Limit, int]) -> Decision:
    return await backend.reserve(hold, [Charge(limit, amount) for limit, amount in charges])


async def settle(backend: Backend, hold: str, *charges: tuple[Limit, int]) -> None:
    await backend.settle(hold, [Charge(limit, amount) for limit, amount in charges])


async def used(backend: Backend, *limits: Limit) -> Sequence[int]:
    return [standing.used for standing in await backend.standings(limits)]


# All or nothing


async def test_what_fits_is_taken(backend: Backend, subject: str) -> None:
    """A reservation takes every charge and tells how each limit stands after it, in order."""
    limits = [requests(subject, 10), tokens(subject, 1000), Limit(subject, "concurrency", 2, 0)]
    decision = await take(backend, "h", (limits[0], 1), (limits[1], 300), (limits[2], 1))
    assert decision.taken
    assert decision.refused == decision.unseeded == ()
    assert [standing.limit for standing in decision.standings] == limits
    assert [standing.used for standing in decision.standings] == [1, 300, 1]
    assert [standing.remaining for standing in decision.standings] == [9, 700, 1]
    assert [standing.room_in for standing in decision.standings] == [0, 0, 0]
    assert await used(backend, *limits) == [1, 300, 1]


@pytest.mark.parametrize("last", range(3))
async def test_one_refusal_takes_nothing(backend: Backend, subject: str, last: int) -> None:
    """Whichever of several limits refuses, nothing is charged to the others, and it alone is named."""
    limits = [requests(subject, 5), tokens(subject, 5), Limit(subject, "concurrency", 5, 0)]
    assert (await take(backend, "before", (limits[last], 5))).taken
    before = await used(backend, *limits)
    decision = await take(backend, "h", *((limit, 1) for limit in limits))
    assert not decision.taken
    assert decision.refused == (last,)
    assert [standing.used for standing in decision.standings] == before
    assert [bool(standing.room_in) for standing in decision.standings] == [place == last for place in range(3)]
    assert await used(backend, *limits) == before


async def test_every_refusal_is_named(backend: Backend, subject: str) -> None:
    """If several limits refuse, all their positions are told."""
    limits = [requests(subject, 0), tokens(subject, 5), Limit(subject, "money", 1, 60)]
    decision = await take(backend, "h", *((limit, 2) for limit in limits))
    assert decision.refused == (0, 2)


async def test_exactly_the_amount_fits(backend: Backend, subject: str) -> None:
    """The amount of a limit can be used up, and one more cannot be taken."""
    limit = tokens(subject, 7)
    assert (await take(backend, "a", (limit, 3))).taken
    assert (await take(backend, "b", (limit, 4))).taken
    assert not (await take(backend, "c", (limit, 1))).taken


async def test_nothing_to_charge_is_taken(backend: Backend) -> None:
    """A call without limits passes."""
    assert await take(backend, "h") == Decision(())
    await settle(backend, "h")
    assert list(await backend.standings([])) == []


async def test_subjects_units_and_spans_are_counted_apart(backend: Backend) -> None:
    """Limits that differ in subject, unit or span do not see one another's use."""
    one, other = new_subject(), new_subject()
    limits = [tokens(one, 9), tokens(other, 9), tokens(one, 9, 3600), Limit(one, "money", 9, 60), requests(one, 9)]
    for number, limit in enumerate(limits):
        assert (await take(backend, f"h{number}", (limit, number + 1))).taken
    assert await used(backend, *limits) == [1, 2, 3, 4, 5]


async def test_many_at_once_take_no_more_than_there_is(backend: Backend, subject: str) -> None:
    """Of parallel callers as many pass as fit."""
    limits = [requests(subject, 7), Limit(subject, "concurrency", 30, 0)]
    decisions = await asyncio.gather(
        *(take(backend, f"h{number}", *((limit, 1) for limit in limits)) for number in range(25))
    )
    assert sum(decision.taken for decision in decisions) == 7
    assert await used(backend, *limits) == [7, 7]


# Settling


async def test_requests_are_not_given_back(backend: Backend, subject: str) -> None:
    """What a call settles to does not change that it was a call, and neither does the end of a lease."""
    limits = [requests(subject, 5), tokens(subject, 5)]
    await take(backend, "h", (limits[0], 1), (limits[1], 5))
    await settle(backend, "h", (limits[1], 0))
    assert await used(backend, *limits) == [1, 0]


@pytest.mark.parametrize("real", [0, 30, 100, 170])
async def test_a_hold_settles_to_what_was_used(backend: Backend, subject: str, real: int) -> None:
    """Less than was held gives the rest back, more is counted in full, even beyond the limit."""
    limit = tokens(subject, 150)
    await take(backend, "h", (limit, 100))
    await settle(backend, "h", (limit, real))
    (standing,) = await backend.standings([limit])
    assert (standing.used, standing.remaining) == (real, max(0, 150 - real))


@pytest.mark.parametrize("unit", HELD)
async def test_settling_again_does_nothing(backend: Backend, subject: str, unit: Unit) -> None:
    """The first settlement counts; another of the same hold changes nothing."""
    limit = of_unit(subject, unit, 9)
    await take(backend, "a", (limit, 1))
    await take(backend, "b", (limit, 1))
    await settle(backend, "a", (limit, 3))
    before = await used(backend, limit)
    await settle(backend, "a", (limit, 5))
    assert await used(backend, limit) == before == [1 if unit == "concurrency" else 4]


@pytest.mark.parametrize("unit", HELD)
async def test_settling_what_was_never_held_does_nothing(backend: Backend, subject: str, unit: Unit) -> None:
    """A hold that was refused, or of which nobody has heard, settles to nothing."""
    limit = of_unit(subject, unit, 1)
    await take(backend, "a", (limit, 1))
    assert not (await take(backend, "refused", (limit, 1))).taken
    await settle(backend, "refused", (limit, 1))
    await settle(backend, "unknown", (limit, 1))
    assert await used(backend, limit) == [1]


async def test_what_is_settled_counts_from_the_reservation_on(backend: Backend, clock: Clock, subject: str) -> None:
    """A long call's tokens leave the window with those that were reserved when it was, not later."""
    limit = tokens(subject, 100)
    await take(backend, "h", (limit, 10))
    clock.advance(50)
    await settle(backend, "h", (limit, 80))
    assert await used(backend, limit) == [80]
    clock.advance(14.5)
    assert await used(backend, limit) == [80]
    clock.advance(0.5)
    assert await used(backend, limit) == [0]


async def test_settling_after_the_window_counts_nothing(backend: Backend, clock: Clock, subject: str) -> None:
    """A call that outlives the window of its limit, kept alive by renewals, adds nothing to a later one."""
    limits = [tokens(subject, 100), Limit(subject, "concurrency", 3, 0)]
    await take(backend, "h", (limits[0], 10), (limits[1], 1))
    for _ in range(3):
        clock.advance(LEASE / 2)
        await backend.renew({"h": limits})
    assert await used(backend, *limits) == [0, 1]
    await settle(backend, "h", (limits[0], 50), (limits[1], 0))
    assert await used(backend, *limits) == [0, 0]


async def test_a_provider_may_claim_any_usage(backend: Backend, subject: str) -> None:
    """An absurd number leaves nothing of the limit, and the store works on."""
    limits = [tokens(subject, 100), tokens(subject, 100, 3600)]
    await take(backend, "h", *((limit, 1) for limit in limits))
    await settle(backend, "h", (limits[0], 2**63), (limits[1], 10**30))
    assert [standing.remaining for standing in await backend.standings(limits)] == [0, 0]
    assert not (await take(backend, "i", (limits[0], 1))).taken


# Leases


@pytest.mark.parametrize("unit", HELD)
async def test_a_hold_that_nobody_settles_ends_with_its_lease(
    backend: Backend, clock: Clock, subject: str, unit: Unit
) -> None:
    """Until the lease ends the hold counts; then it is as if it had never been."""
    limit = of_unit(subject, unit, 1)
    await take(backend, "a", (limit, 1))
    clock.advance(LEASE - 0.25)
    assert not (await take(backend, "b", (limit, 1))).taken
    clock.advance(0.25)
    assert await used(backend, limit) == [0]
    assert (await take(backend, "c", (limit, 1))).taken
    await settle(backend, "a", (limit, 5))
    assert await used(backend, limit) == [1]


@pytest.mark.parametrize("unit", HELD)
async def test_a_renewed_hold_lives_a_lease_from_then(backend: Backend, clock: Clock, subject: str, unit: Unit) -> None:
    """Renewal keeps a hold for another lease, and only the one that is named."""
    limit = Limit(subject, unit, 9, 0 if unit == "concurrency" else 3600)
    await take(backend, "long", (limit, 2))
    await take(backend, "short", (limit, 1))
    clock.advance(LEASE / 2)
    await backend.renew({"long": [limit]})
    clock.advance(LEASE / 2)
    assert await used(backend, limit) == [2]
    clock.advance(LEASE / 2)
    assert await used(backend, limit) == [0]


async def test_what_has_ended_stays_ended(backend: Backend, clock: Clock, subject: str) -> None:
    """A renewal that comes too late, or for what was settled or never held, brings nothing to life."""
    limit = Limit(subject, "concurrency", 3, 0)
    await take(backend, "late", (limit, 1))
    clock.advance(LEASE)
    await take(backend, "settled", (limit, 1))
    await settle(backend, "settled", (limit, 0))
    await backend.renew({"late": [limit], "settled": [limit], "unknown": [limit]})
    await backend.renew({})
    assert await used(backend, limit) == [0]


async def test_many_holds_are_renewed_at_once(backend: Backend, clock: Clock, subject: str) -> None:
    """One renewal is for any number of holds and limits."""
    limits = [Limit(subject, "concurrency", 99, 0), tokens(subject, 999, 3600)]
    holds = [f"h{number}" for number in range(20)]
    for hold in holds:
        await take(backend, hold, (limits[0], 1), (limits[1], 10))
    clock.advance(LEASE / 2)
    await backend.renew(dict.fromkeys(holds, limits))
    clock.advance(LEASE - 0.25)
    assert await used(backend, *limits) == [20, 200]
    clock.advance(0.25)
    assert await used(backend, *limits) == [0, 0]


async def test_calls_at_the_same_time(backend: Backend, subject: str) -> None:
    """Under a limit of concurrency as many run as are allowed, and each that ends makes room for one."""
    limit = Limit(subject, "concurrency", 2, 0)
    assert (await take(backend, "a", (limit, 1))).taken
    assert (await take(backend, "b", (limit, 1))).taken
    refused = await take(backend, "c", (limit, 1))
    assert not refused.taken
    assert 0 < refused.standings[0].room_in < math.inf
    assert refused.standings[0].resets == 0
    await settle(backend, "a", (limit, 0))
    assert (await take(backend, "c", (limit, 1))).taken
    assert not (await take(backend, "d", (limit, 1))).taken


# Sliding windows


@pytest.mark.parametrize("span", [7, 60])
async def test_never_more_than_the_amount_in_any_span(backend: Backend, clock: Clock, subject: str, span: int) -> None:
    """Whoever asks all the time gets at most the amount within any span, and all of it within 13/12 of one."""
    limit = requests(subject, 5, span)
    begun = clock.now
    taken: list[float] = []
    while clock.now < begun + 3 * span:
        if (await take(backend, "h", (limit, 1))).taken:
            taken.append(clock.now)
        else:
            clock.advance(span / 16)
    for first, sixth in zip(taken, taken[5:], strict=False):
        assert span < sixth - first <= span * 13 / 12 + span / 16


@pytest.mark.parametrize("span", [7, 60, 3600])
async def test_room_is_where_it_was_promised(backend: Backend, clock: Clock, subject: str, span: int) -> None:
    """After the seconds named in a refusal the same charge fits if nobody else came, and not long before."""
    limit = tokens(subject, 10, span)
    for _ in range(5):
        assert (await take(backend, "h", (limit, 2))).taken is True
        await settle(backend, "h", (limit, 2))
        clock.advance(span / 6)
    for wanted in (1, 3, 6, 10):
        refused = await take(backend, "h", (limit, wanted))
        if refused.taken:
            await settle(backend, "h", (limit, wanted))
            continue
        (standing,) = refused.standings
        assert 0 < standing.room_in <= span * 13 / 12
        clock.advance(standing.room_in - A_MOMENT)
        assert not (await take(backend, "h", (limit, wanted))).taken
        clock.advance(2 * A_MOMENT)
        assert (await take(backend, "h", (limit, wanted))).taken
        await settle(backend, "h", (limit, wanted))


async def test_a_moment_between_two_slices_loses_nothing(backend: Backend, clock: Clock, subject: str) -> None:
    """Where a slice ends in the very moment of a charge, as numbers are rounded, all that counts ends with its time."""
    limit = tokens(subject, 10, 7)
    clock.now = 1_792_670_400.25
    for number, moment in enumerate((0.25, 0.5, 0.75)):
        assert (await take(backend, f"h{number}", (limit, 1))).taken
        clock.advance(moment)
    assert await used(backend, limit) == [3]
    clock.advance(8)
    assert await used(backend, limit) == [0]


async def test_the_reset_is_when_nothing_counts_any_more(backend: Backend, clock: Clock, subject: str) -> None:
    """``resets`` is 0 while nothing is used, and else the time after which nothing of it counts."""
    limit = tokens(subject, 10)
    assert (await backend.standings([limit]))[0].resets == 0
    await take(backend, "a", (limit, 2))
    await settle(backend, "a", (limit, 2))
    clock.advance(30)
    await take(backend, "b", (limit, 2))
    await settle(backend, "b", (limit, 2))
    (standing,) = await backend.standings([limit])
    assert 60 < standing.resets <= 65
    clock.advance(standing.resets - A_MOMENT)
    assert await used(backend, limit) == [2]
    clock.advance(2 * A_MOMENT)
    assert await used(backend, limit) == [0]


@pytest.mark.parametrize("unit", ["requests", *HELD])
async def test_more_than_the_amount_never_fits(backend: Backend, subject: str, unit: Unit) -> None:
    """A charge larger than its limit is refused for ever."""
    limit = of_unit(subject, unit, 5)
    decision = await take(backend, "h", (limit, 6))
    assert decision.refused == (0,)
    assert decision.standings[0].room_in == math.inf
    assert await used(backend, limit) == [0]


async def test_a_charge_of_nothing_fits_until_the_limit_is_overrun(backend: Backend, subject: str) -> None:
    """An amount of 0 fits where no more than the amount is used."""
    limit = tokens(subject, 5)
    assert (await take(backend, "a", (limit, 5))).taken
    assert (await take(backend, "b", (limit, 0))).taken
    await settle(backend, "a", (limit, 6))
    refused = await take(backend, "c", (limit, 0))
    assert refused.refused == (0,)
    assert 0 < refused.standings[0].room_in <= 65


async def test_a_new_amount_does_not_forgive(backend: Backend, subject: str) -> None:
    """A limit whose amount is changed keeps what was used, and what is held."""
    await take(backend, "a", (tokens(subject, 10), 8))
    assert not (await take(backend, "b", (tokens(subject, 5), 1))).taken
    (standing,) = await backend.standings([tokens(subject, 5)])
    assert (standing.used, standing.remaining) == (8, 0)
    assert (await take(backend, "b", (tokens(subject, 20), 12))).taken
    await settle(backend, "a", (tokens(subject, 5), 3))
    assert await used(backend, tokens(subject, 20)) == [15]


# Calendar periods


async def test_a_period_begins_with_its_seed(backend: Backend, subject: str) -> None:
    """Nothing is taken before a period is seeded; then what was used before counts."""
    budget, other = Limit(subject, "money", 100, "month"), requests(subject, 9)
    unseeded = await take(backend, "h", (other, 1), (budget, 10))
    assert not unseeded.taken
    assert (unseeded.refused, unseeded.unseeded) == ((), (1,))
    assert await used(backend, other, budget) == [0, 0]
    await seed(backend, budget, 95)
    assert await used(backend, budget) == [95]
    assert (await take(backend, "h", (other, 1), (budget, 10))).refused == (1,)
    assert (await take(backend, "h", (other, 1), (budget, 5))).taken


async def test_a_period_may_begin_with_nothing(backend: Backend, subject: str) -> None:
    """A seed of 0 is a seed."""
    limit = Limit(subject, "tokens", 10, "day")
    await seed(backend, limit, 0)
    await seed(backend, limit, 7)
    assert (await take(backend, "h", (limit, 10))).taken


async def test_only_the_first_seed_counts(backend: Backend, subject: str) -> None:
    """Another seed of the period has no effect, be it before a reservation, after it, or at the same time."""
    limit = Limit(subject, "money", 100, "week")
    await asyncio.gather(*(seed(backend, limit, 30) for _ in range(5)))
    await seed(backend, limit, 50)
    assert await used(backend, limit) == [30]
    await take(backend, "h", (limit, 10))
    await seed(backend, limit, 90)
    assert await used(backend, limit) == [40]
    await settle(backend, "h", (limit, 0))
    await seed(backend, limit, 90)
    assert await used(backend, limit) == [30]


@pytest.mark.parametrize(("period", "last", "first"), PERIODS)
async def test_a_seed_of_another_period_does_nothing(
    backend: Backend, clock: Clock, subject: str, period: Period, last: str, first: str
) -> None:
    """What was read for the period before, or for the next by a clock that is ahead, is not that of this one. The
    decision says when it is by the clock of the store.
    """
    limit = Limit(subject, "money", 100, period)
    for now, other in ((at(last), at(first)), (at(first), at(last))):
        clock.now = now
        await seed(backend, limit, 95, other)
        unseeded = await take(backend, "h", (limit, 10))
        assert (unseeded.unseeded, unseeded.now) == ((0,), now)
        await seed(backend, limit, 40, now)
        taken = await take(backend, "i", (limit, 10))
        assert (taken.taken, taken.now) == (True, now)
        assert await used(backend, limit) == [50]


async def test_a_window_that_slides_is_not_seeded(backend: Backend, subject: str) -> None:
    """A seed is for calendar periods; other limits know all that counts."""
    limits = [tokens(subject, 10), Limit(subject, "concurrency", 10, 0)]
    for limit in limits:
        await seed(backend, limit, 5)
    assert await used(backend, *limits) == [0, 0]


@pytest.mark.parametrize(("period", "last", "first"), PERIODS)
async def test_a_period_ends_with_the_calendar(
    backend: Backend, clock: Clock, subject: str, period: Period, last: str, first: str
) -> None:
    """At the first second of the next period, in UTC, nothing is used and a seed is due."""
    limit = Limit(subject, "requests", 10, period)
    clock.now = at(last)
    await seed(backend, limit, 4, clock.now)
    decision = await take(backend, "a", (limit, 6))
    assert decision.standings[0].resets == 1
    refused = await take(backend, "b", (limit, 1))
    assert refused.standings[0].room_in == 1
    clock.now = at(first)
    assert await used(backend, limit) == [0]
    assert (await take(backend, "c", (limit, 1))).unseeded == (0,)
    await seed(backend, limit, 2, clock.now)
    assert await used(backend, limit) == [2]


@pytest.mark.parametrize(("period", "last", "first"), PERIODS)
async def test_a_call_counts_in_the_period_in_which_it_began(
    backend: Backend, clock: Clock, subject: str, period: Period, last: str, first: str
) -> None:
    """A hold that is settled after its period has ended does not count in the next."""
    limit = Limit(subject, "money", 10, period)
    clock.now = at(last)
    await seed(backend, limit, 0, clock.now)
    await take(backend, "a", (limit, 6))
    clock.now = at(first)
    await seed(backend, limit, 1, clock.now)
    await settle(backend, "a", (limit, 9))
    assert await used(backend, limit) == [1]


async def test_a_total_never_ends(backend: Backend, clock: Clock, subject: str) -> None:
    """What is used of a limit without end stays used, and room never comes back."""
    limit = Limit(subject, "money", 10, "total")
    await seed(backend, limit, 4)
    await take(backend, "a", (limit, 6))
    await settle(backend, "a", (limit, 6))
    clock.advance(3 * 366 * 86_400)
    refused = await take(backend, "b", (limit, 1))
    assert refused.refused == (0,)
    assert refused.standings[0].used == 10
    assert refused.standings[0].room_in == refused.standings[0].resets == math.inf


@pytest.mark.parametrize("huge", [2**53, 2**70])
async def test_books_that_tell_of_a_fortune(backend: Backend, subject: str, huge: int) -> None:
    """A period that begins with more than any store counts exactly is used up, and no error."""
    limit = Limit(subject, "money", 10**9, "month")
    await seed(backend, limit, huge)
    assert (await take(backend, "h", (limit, 1))).refused == (0,)
    assert (await used(backend, limit))[0] >= 2**53


# Names


async def test_any_text_is_a_name(backend: Backend) -> None:
    """Subjects hold what clients call a model, whatever that is; none of them is mistaken for another, or refused."""
    base = new_subject()
    ends = ["", "'; DROP TABLE limit_counts; --", "%s:x?{}", "\x00", "\x00\x00", "\ud800", "ё" * 50, " ", "}{", "*"]
    names = [f"model:{base}{end}" for end in ends] + [f"model:{base}{'x' * 100_000}{number}" for number in range(2)]
    limits = [tokens(name, 1000) for name in names]
    decision = await take(backend, "h'\x00\ud800", *((limit, number) for number, limit in enumerate(limits)))
    assert decision.taken
    assert await used(backend, *limits) == list(range(len(names)))
    await settle(backend, "h'\x00\ud800", *((limit, 100 + number) for number, limit in enumerate(limits)))
    assert await used(backend, *limits) == [100 + number for number in range(len(names))]
