"""From the records of calls to series: what is measured of them, and under which names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from gatewaykit.admission import matches
from gatewaykit.builtin.metrics.series import OTHER, SeriesBook
from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.live import known_method
from gatewaykit.metrics import names
from gatewaykit.pricing import MILLION, PriceBook
from gatewaykit.types import CallRecord, RouteRecord, Usage

Shape: TypeAlias = tuple[Any, ...]
"""All that names of series depend on."""

_BROKEN_OFF = frozenset({"provider_error", "timeout"})
_DURATIONS = {"1.41": names.CLIENT_DURATION, "main": names.NEW_DURATION}
_FIRST_CHUNKS = {"1.41": names.CLIENT_FIRST_CHUNK, "main": names.NEW_FIRST_CHUNK}


class Measures:
    """Writes into ``book`` what records say. ``knows`` tells which models are no invention of a client's.

    Most of what counting costs is finding the series. So it is done once for all records of one shape.
    """

    def __init__(
        self, settings: MetricsSettings, book: SeriesBook, prices: PriceBook, knows: Callable[[str], bool], scheme: str
    ) -> None:
        self._book = book
        self._prices = prices
        self._knows = knows
        self._models = settings.models
        self._scheme = scheme
        self._genai = settings.genai
        self._by_key = settings.keys

    def route(self, record: RouteRecord) -> None:
        """A request outside the dialects."""
        self._http(record.method, record.route, record.status, [record.seconds], "")

    def calls(self, records: Iterable[CallRecord]) -> None:
        """Requests to dialects."""
        alike: defaultdict[Shape, list[CallRecord]] = defaultdict(list)
        for record in records:
            alike[self._shape(record)].append(record)
        for batch in alike.values():
            self._batch(batch)

    def _shape(self, record: CallRecord) -> Shape:
        return (
            record.route,
            record.method,
            record.status,
            record.outcome,
            record.error,
            record.operation,
            record.model,
            record.stream,
            record.first_event_seconds is None,
            record.usage is None,
            id(record.target),
            tuple([(id(attempt.target), attempt.error) for attempt in record.attempts]),
            record.principal if self._by_key else None,
        )

    def _batch(self, batch: Sequence[CallRecord]) -> None:
        one = batch[0]
        seconds = [record.seconds for record in batch]
        broken = one.error if one.error and (one.status >= 500 or one.status == 200) else ""
        self._http(one.method, one.route, one.status, seconds, broken)
        if not one.operation:
            return
        provider, model = _provider(one), self._name(one.model)
        outcome = "unavailable" if one.outcome == "refused" and one.status >= 500 else one.outcome
        self._book.add(names.CALLS, (one.route, provider, model, outcome, one.error or ""), len(batch))
        self._stages(batch)
        self._attempts(batch, model)
        self._served(batch, seconds, provider, model)
        used = [record.usage for record in batch if record.usage is not None]
        spend = self._spend(one, used)
        if used:
            self._used(one, used, provider, model)
        if spend is not None:
            self._book.add(names.SPEND, (provider, model, self._prices.currency), spend)
        if self._by_key and one.principal is not None:
            self._key(len(batch), one.principal, outcome, used, spend)

    def _http(self, method: str, route: str, status: int, seconds: Sequence[float], error: str) -> None:
        error = error or (str(status) if status >= 500 else "")
        labels = (known_method(method), route, str(status), self._scheme, error)
        self._book.record(names.HTTP_DURATION, labels, seconds)

    def _name(self, model: str | None) -> str:
        """The model, if it is known: a client may ask for any name, and each would be a series for ever."""
        if not model:
            return ""
        return model if self._knows(model) or matches(self._models, model) else OTHER

    def _stages(self, batch: Sequence[CallRecord]) -> None:
        stages: defaultdict[str, list[float]] = defaultdict(list)
        for record in batch:
            for stage, seconds in tuple(record.timings.items()):
                stages[stage].append(seconds)
        stages.pop("provider", None)
        for stage, each in stages.items():
            self._book.record(names.STAGES, (stage,), each)
        if batch[0].attempts:
            self._book.record(names.OVERHEAD, (batch[0].route,), _overheads(batch))

    def _served(self, batch: Sequence[CallRecord], seconds: Sequence[float], provider: str, model: str) -> None:
        """As the models' server, seen by the client."""
        one = batch[0]
        answered = self._name(one.target.model) if one.target else ""
        labels = (one.operation, provider, model, answered)
        self._book.record(names.SERVER_DURATION, (*labels, one.error or ""), seconds)
        if not one.stream:
            return
        self._book.record(names.SERVER_FIRST_TOKEN, labels, _first_events(batch))
        if one.error is None:
            self._book.record(names.SERVER_PER_TOKEN, labels, _seconds_per_token(batch))

    def _attempts(self, batch: Sequence[CallRecord], model: str) -> None:
        """As a client of the providers."""
        one = batch[0]
        answering, generations = _answering(one), self._generations(one)
        tried = set()
        for place, attempt in enumerate(one.attempts):
            target = attempt.target
            name, error = self._name(target.model), attempt.error or ""
            seconds = waited = [record.attempts[place].seconds for record in batch]
            if target in tried:
                self._book.add(names.RETRIES, (target.provider, name), len(batch))
            tried.add(target)
            if place == answering:
                error = (one.error or "") if one.outcome in _BROKEN_OFF else ""
                seconds = [taken + _after_first(record) for taken, record in zip(waited, batch, strict=True)]
            self._book.add(names.ATTEMPTS, (target.provider, name, error), len(batch))
            labels = (one.operation, target.provider, model, name)
            for generation in generations:
                self._book.record(_DURATIONS[generation], (*labels, error), seconds)
                if place == answering and one.stream:
                    self._book.record(_FIRST_CHUNKS[generation], labels, waited)
        if answering is not None and (last := one.attempts[answering].target) != one.attempts[0].target:
            self._book.add(names.FALLBACKS, (one.attempts[0].target.provider, last.provider), len(batch))

    def _generations(self, record: CallRecord) -> tuple[str, ...]:
        """Under which names a provider's client is measured: the new ones are for inference alone."""
        if record.operation == "embeddings":
            return ("1.41",)
        return ("1.41", "main") if self._genai == "both" else (self._genai,)

    def _used(self, one: CallRecord, used: Sequence[Usage], provider: str, model: str) -> None:
        given = [usage.input_tokens for usage in used]
        made = [usage.output_tokens for usage in used]
        cached, reasoning = (
            sum([usage.cached_tokens for usage in used]),
            sum([usage.reasoning_tokens for usage in used]),
        )
        kinds = {"input": sum(given), "output": sum(made), "cached": cached, "reasoning": reasoning}
        for kind, count in kinds.items():
            if count:
                self._book.add(names.TOKENS_USED, (provider, model, kind), count)
        answered = self._name(one.target.model) if one.target else ""
        labels = (one.operation, provider, model, answered)
        generations = self._generations(one)
        if "1.41" in generations:
            self._book.record(names.CLIENT_TOKENS, (*labels, "input"), given)
            self._book.record(names.CLIENT_TOKENS, (*labels, "output"), made)
        if "main" in generations:
            new = (names.NEW_INPUT, names.NEW_OUTPUT, names.NEW_CACHED, names.NEW_REASONING)
            for metric, count in zip(new, kinds.values(), strict=True):
                self._book.add(metric, (*labels, one.error or "", "text"), count)
            self._book.record(names.NEW_INPUT_EACH, labels, given)
            self._book.record(names.NEW_OUTPUT_EACH, labels, made)

    def _spend(self, one: CallRecord, used: Sequence[Usage]) -> float | None:
        """What the calls cost together; None if nobody knows. Each is rounded by itself, as it is in the books."""
        costs = [self._prices.cost(one.target, usage) for usage in used] if one.target else []
        known = [cost.spend for cost in costs if cost is not None]
        return sum(known) / MILLION if known else None

    def _key(self, calls: int, key: str, outcome: str, used: Sequence[Usage], spend: float | None) -> None:
        self._book.add(names.KEY_CALLS, (key, outcome), calls)
        if used:
            self._book.add(names.KEY_TOKENS, (key, "input"), sum([usage.input_tokens for usage in used]))
            self._book.add(names.KEY_TOKENS, (key, "output"), sum([usage.output_tokens for usage in used]))
        if spend is not None:
            self._book.add(names.KEY_SPEND, (key, self._prices.currency), spend)


def _provider(record: CallRecord) -> str:
    """The provider that answered, or that was tried last."""
    if record.target is not None:
        return record.target.provider
    return record.attempts[-1].target.provider if record.attempts else ""


def _answering(record: CallRecord) -> int | None:
    """The place of the attempt that answered."""
    places = range(len(record.attempts) - 1, -1, -1)
    return next((place for place in places if record.attempts[place].error is None), None)


def _overheads(batch: Iterable[CallRecord]) -> list[float]:
    """Seconds to the first event, or to the answer's end, in which no provider was waited for."""
    found = []
    for record in batch:
        until = record.first_event_seconds if record.stream else record.seconds
        waited = record.timings.get("provider")
        if waited is None:
            waited = sum([attempt.seconds for attempt in record.attempts])
        if until is not None:
            found.append(max(0.0, until - waited))
    return found


def _first_events(batch: Iterable[CallRecord]) -> list[float]:
    return [record.first_event_seconds for record in batch if record.first_event_seconds is not None]


def _seconds_per_token(batch: Iterable[CallRecord]) -> list[float]:
    return [
        _after_first(record) / (record.usage.output_tokens - 1)
        for record in batch
        if record.first_event_seconds is not None and record.usage is not None and record.usage.output_tokens > 1
    ]


def _after_first(record: CallRecord) -> float:
    """Seconds for which a stream went on after its first event."""
    first = record.first_event_seconds
    return record.seconds - first if record.stream and first is not None else 0.0
