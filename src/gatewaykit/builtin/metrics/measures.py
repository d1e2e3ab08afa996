"""From the record of a call to series: what is measured of it, and under which names."""

from __future__ import annotations

from collections.abc import Callable

from gatewaykit.admission import matches
from gatewaykit.builtin.metrics.series import OTHER, SeriesBook
from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.live import known_method
from gatewaykit.metrics import names
from gatewaykit.pricing import MILLION, PriceBook
from gatewaykit.types import Attempt, CallRecord, RouteRecord, Usage

_BROKEN_OFF = frozenset({"provider_error", "timeout"})
_DURATIONS = {"1.41": names.CLIENT_DURATION, "main": names.NEW_DURATION}
_FIRST_CHUNKS = {"1.41": names.CLIENT_FIRST_CHUNK, "main": names.NEW_FIRST_CHUNK}


class Measures:
    """Writes into ``book`` what records say. ``knows`` tells which models are no invention of a client's."""

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
        self._http(record.method, record.route, record.status, record.seconds, "")

    def call(self, record: CallRecord) -> None:
        """A request to a dialect."""
        broken = record.error if record.error and (record.status >= 500 or record.status == 200) else ""
        self._http(record.method, record.route, record.status, record.seconds, broken)
        if not record.operation:
            return
        provider, model = _provider(record), self._name(record.model)
        outcome = "unavailable" if record.outcome == "refused" and record.status >= 500 else record.outcome
        self._book.add(names.CALLS, (record.route, provider, model, outcome, record.error or ""))
        self._stages(record)
        self._attempts(record, model)
        self._served(record, provider, model)
        if record.usage is not None:
            self._used(record, record.usage, provider, model)
        if self._by_key and record.principal is not None:
            self._key(record, record.principal, outcome)

    def _http(self, method: str, route: str, status: int, seconds: float, error: str) -> None:
        error = error or (str(status) if status >= 500 else "")
        labels = (known_method(method), route, str(status), self._scheme, error)
        self._book.record(names.HTTP_DURATION, labels, seconds)

    def _name(self, model: str | None) -> str:
        """The model, if it is known: a client may ask for any name, and each would be a series for ever."""
        if not model:
            return ""
        return model if self._knows(model) or matches(self._models, model) else OTHER

    def _stages(self, record: CallRecord) -> None:
        for stage, seconds in tuple(record.timings.items()):
            if stage != "provider":
                self._book.record(names.STAGES, (stage,), seconds)
        if record.attempts:
            until = record.first_event_seconds if record.stream else record.seconds
            waited = record.timings.get("provider")
            if waited is None:
                waited = sum(attempt.seconds for attempt in record.attempts)
            if until is not None:
                self._book.record(names.OVERHEAD, (record.route,), max(0.0, until - waited))

    def _served(self, record: CallRecord, provider: str, model: str) -> None:
        """As the models' server, seen by the client."""
        answered = self._name(record.target.model) if record.target else ""
        labels = (record.operation, provider, model, answered)
        self._book.record(names.SERVER_DURATION, (*labels, record.error or ""), record.seconds)
        first, usage = record.first_event_seconds, record.usage
        if not record.stream or first is None:
            return
        self._book.record(names.SERVER_FIRST_TOKEN, labels, first)
        if usage is not None and usage.output_tokens > 1 and record.error is None:
            each = (record.seconds - first) / (usage.output_tokens - 1)
            self._book.record(names.SERVER_PER_TOKEN, labels, each)

    def _attempts(self, record: CallRecord, model: str) -> None:
        """As a client of the providers."""
        answering, generations = _answering(record), self._generations(record)
        tried = set()
        for attempt in record.attempts:
            target = attempt.target
            name, error, seconds = self._name(target.model), attempt.error or "", attempt.seconds
            if target in tried:
                self._book.add(names.RETRIES, (target.provider, name))
            tried.add(target)
            if attempt is answering:
                error = (record.error or "") if record.outcome in _BROKEN_OFF else ""
                seconds += _after_first(record)
            self._book.add(names.ATTEMPTS, (target.provider, name, error))
            labels = (record.operation, target.provider, model, name)
            for generation in generations:
                self._book.record(_DURATIONS[generation], (*labels, error), seconds)
                if attempt is answering and record.stream:
                    self._book.record(_FIRST_CHUNKS[generation], labels, attempt.seconds)
        if answering is not None and answering.target != record.attempts[0].target:
            labels_of_fallback = (record.attempts[0].target.provider, answering.target.provider)
            self._book.add(names.FALLBACKS, labels_of_fallback)

    def _generations(self, record: CallRecord) -> tuple[str, ...]:
        """Under which names a provider's client is measured: the new ones are for inference alone."""
        if record.operation == "embeddings":
            return ("1.41",)
        return ("1.41", "main") if self._genai == "both" else (self._genai,)

    def _used(self, record: CallRecord, usage: Usage, provider: str, model: str) -> None:
        given, made = usage.input_tokens, usage.output_tokens
        kinds = (
            ("input", given),
            ("output", made),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        )
        for kind, count in kinds:
            if count:
                self._book.add(names.TOKENS_USED, (provider, model, kind), count)
        answered = self._name(record.target.model) if record.target else ""
        labels = (record.operation, provider, model, answered)
        generations = self._generations(record)
        if "1.41" in generations:
            self._book.record(names.CLIENT_TOKENS, (*labels, "input"), given)
            self._book.record(names.CLIENT_TOKENS, (*labels, "output"), made)
        if "main" in generations:
            self._used_by_new_names(labels, usage, record.error or "")
        if (spend := self._spend(record, usage)) is not None:
            self._book.add(names.SPEND, (provider, model, self._prices.currency), spend)

    def _used_by_new_names(self, labels: tuple[str, ...], usage: Usage, error: str) -> None:
        counts = (
            (names.NEW_INPUT, usage.input_tokens),
            (names.NEW_OUTPUT, usage.output_tokens),
            (names.NEW_CACHED, usage.cached_tokens),
            (names.NEW_REASONING, usage.reasoning_tokens),
        )
        for metric, count in counts:
            self._book.add(metric, (*labels, error, "text"), count)
        self._book.record(names.NEW_INPUT_EACH, labels, usage.input_tokens)
        self._book.record(names.NEW_OUTPUT_EACH, labels, usage.output_tokens)

    def _spend(self, record: CallRecord, usage: Usage) -> float | None:
        cost = self._prices.cost(record.target, usage) if record.target else None
        return None if cost is None else cost.spend / MILLION

    def _key(self, record: CallRecord, key: str, outcome: str) -> None:
        self._book.add(names.KEY_CALLS, (key, outcome))
        usage = record.usage
        if usage is None:
            return
        self._book.add(names.KEY_TOKENS, (key, "input"), usage.input_tokens)
        self._book.add(names.KEY_TOKENS, (key, "output"), usage.output_tokens)
        if (spend := self._spend(record, usage)) is not None:
            self._book.add(names.KEY_SPEND, (key, self._prices.currency), spend)


def _provider(record: CallRecord) -> str:
    """The provider that answered, or that was tried last."""
    if record.target is not None:
        return record.target.provider
    return record.attempts[-1].target.provider if record.attempts else ""


def _answering(record: CallRecord) -> Attempt | None:
    return next((attempt for attempt in reversed(record.attempts) if attempt.error is None), None)


def _after_first(record: CallRecord) -> float:
    """Seconds for which a stream went on after its first event."""
    first = record.first_event_seconds
    return record.seconds - first if record.stream and first is not None else 0.0
