"""Every metric of the gateway and of its own plugins, by name; ``docs/observability.md`` is written from this module.

What the semantic conventions name has their names, in the version that ``convention`` says; all else begins with
``gatewaykit.``, and nothing new is ever called ``gen_ai.``. Times are seconds, moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewaykit.metrics.instruments import Metric

HTTP = "semantic conventions 1.44.0, HTTP"
GENAI_OLD = "semantic conventions 1.41.0, GenAI"
GENAI_NEW = "semantic-conventions-genai, main after 1.42.0 (not released)"
"""The GenAI conventions moved to a repository of their own after 1.41 and renamed the client's metrics there."""

METHOD, STATUS, ROUTE, SCHEME = "http.request.method", "http.response.status_code", "http.route", "url.scheme"
ERROR = "error.type"
OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
ASKED, ANSWERED = "gen_ai.request.model", "gen_ai.response.model"
TOKEN_TYPE, MODALITY = "gen_ai.token.type", "gen_ai.token.modality"
OUTCOME, STAGE, KEY, CURRENCY = "gatewaykit.outcome", "gatewaykit.stage", "gatewaykit.key", "gatewaykit.currency"
OBJECT, HOOK, REASON = "gatewaykit.object", "gatewaykit.hook", "gatewaykit.reason"
CREDENTIAL, STATE, CACHE, RESULT = "gatewaykit.credential", "gatewaykit.state", "gatewaykit.cache", "gatewaykit.result"
WHOSE, UNIT = "gatewaykit.limit.whose", "gatewaykit.limit.unit"
TRUST = "ca_bundle_file"
"""What stands for the authorities of a provider where credentials are told apart."""

FALLBACK_FROM = "gatewaykit.fallback.from"

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0)
"""The convention's bounds for HTTP, and further ones for answers that take minutes."""
LONG = (*(0.01 * 2**n for n in range(14)), 120.0, 300.0, 600.0)
"""The convention's bounds for calls of models (0.01 · 2ⁿ up to 81.92), and beyond."""
FIRST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 10.0, 60.0, 300.0)
TOKENS = tuple(float(4**n) for n in range(14))
PLACES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
BRIEF = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0, 300.0)
"""For what should take no time."""

_CALL = (OPERATION, PROVIDER, ASKED, ANSWERED, ERROR)

# HTTP, seen from the client

HTTP_DURATION = Metric(
    "http.server.request.duration", "histogram", "s", "Time to answer a request, to the last byte.",
    (METHOD, ROUTE, STATUS, SCHEME, ERROR), SECONDS, convention=HTTP,
)  # fmt: skip
HTTP_ACTIVE = Metric(
    "http.server.active_requests", "updown", "{request}", "Requests to the APIs that are being answered.",
    (METHOD, SCHEME), convention=HTTP,
)  # fmt: skip

# Models, seen from the client: the gateway is their server

SERVER_DURATION = Metric(
    "gen_ai.server.request.duration", "histogram", "s", "Time to answer a call of a model, to the last token.",
    _CALL, LONG, convention=GENAI_OLD,
)  # fmt: skip
SERVER_FIRST_TOKEN = Metric(
    "gen_ai.server.time_to_first_token", "histogram", "s", "Time to the first token of a stream.",
    _CALL[:-1], FIRST, convention=GENAI_OLD,
)  # fmt: skip
SERVER_PER_TOKEN = Metric(
    "gen_ai.server.time_per_output_token", "histogram", "s", "Time per token of a stream after the first one.",
    _CALL[:-1], PER_TOKEN, convention=GENAI_OLD,
)  # fmt: skip

# Models, seen from the gateway: it is the providers' client

CLIENT_DURATION = Metric(
    "gen_ai.client.operation.duration", "histogram", "s", "Time of one attempt at a provider.",
    _CALL, LONG, convention=GENAI_OLD,
)  # fmt: skip
CLIENT_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s", "Time to the first chunk of a provider's stream.",
    _CALL[:-1], FIRST, convention=GENAI_OLD,
)  # fmt: skip
CLIENT_TOKENS = Metric(
    "gen_ai.client.token.usage", "histogram", "{token}", "Tokens of one call, input and output.",
    (*_CALL[:-1], TOKEN_TYPE), TOKENS, convention=GENAI_OLD,
)  # fmt: skip

NEW_DURATION = Metric(
    "gen_ai.client.inference.duration", "histogram", "s", "Time of one attempt at a provider.",
    _CALL, LONG, convention=GENAI_NEW,
)  # fmt: skip
NEW_FIRST_CHUNK = Metric(
    "gen_ai.client.inference.time_to_first_chunk", "histogram", "s", "Time to the first chunk of a provider's stream.",
    _CALL[:-1], FIRST, convention=GENAI_NEW,
)  # fmt: skip
NEW_INPUT = Metric(
    "gen_ai.client.inference.usage.input_tokens", "counter", "{token}", "Input tokens, cached ones included.",
    (*_CALL, MODALITY), convention=GENAI_NEW,
)  # fmt: skip
NEW_OUTPUT = Metric(
    "gen_ai.client.inference.usage.output_tokens", "counter", "{token}", "Output tokens, reasoning included.",
    (*_CALL, MODALITY), convention=GENAI_NEW,
)  # fmt: skip
NEW_CACHED = Metric(
    "gen_ai.client.inference.usage.cache_read.input_tokens", "counter", "{token}", "Input tokens that a cache held.",
    (*_CALL, MODALITY), convention=GENAI_NEW,
)  # fmt: skip
NEW_REASONING = Metric(
    "gen_ai.client.inference.usage.reasoning.output_tokens", "counter", "{token}", "Output tokens spent on reasoning.",
    (*_CALL, MODALITY), convention=GENAI_NEW,
)  # fmt: skip
NEW_INPUT_EACH = Metric(
    "gen_ai.client.inference.operation.input_tokens", "histogram", "{token}", "Input tokens of one call.",
    _CALL[:-1], TOKENS, convention=GENAI_NEW,
)  # fmt: skip
NEW_OUTPUT_EACH = Metric(
    "gen_ai.client.inference.operation.output_tokens", "histogram", "{token}", "Output tokens of one call.",
    _CALL[:-1], TOKENS, convention=GENAI_NEW,
)  # fmt: skip

# Calls

CALLS = Metric(
    "gatewaykit.calls", "counter", "{call}", "Calls by how they ended, and whose fault it was.",
    (ROUTE, PROVIDER, ASKED, OUTCOME, ERROR),
)  # fmt: skip
OVERHEAD = Metric(
    "gatewaykit.overhead.duration", "histogram", "s",
    "Time that the gateway itself took: up to the first event of a stream, or for a whole answer; attempts left out.",
    (ROUTE,), BRIEF,
)  # fmt: skip
STAGES = Metric(
    "gatewaykit.stage.duration", "histogram", "s", "Time of one stage of the way: auth, decode, route, limit.",
    (STAGE,), BRIEF,
)  # fmt: skip
ATTEMPTS = Metric(
    "gatewaykit.attempts", "counter", "{attempt}", "Attempts at providers, by what went wrong, if anything did.",
    (PROVIDER, ANSWERED, ERROR),
)  # fmt: skip
FALLBACKS = Metric(
    "gatewaykit.fallbacks", "counter", "{call}", "Calls that another target answered than the first that was tried.",
    (FALLBACK_FROM, PROVIDER),
)  # fmt: skip
TOKENS_USED = Metric(
    "gatewaykit.tokens", "counter", "{token}", "Tokens used: input, output, and of these cached and reasoning.",
    (PROVIDER, ASKED, TOKEN_TYPE),
)  # fmt: skip
SPEND = Metric(
    "gatewaykit.spend", "counter", "1", "Money spent by the price list, in units of the currency.",
    (PROVIDER, ASKED, CURRENCY),
)  # fmt: skip
STREAMS = Metric("gatewaykit.streams.active", "updown", "{stream}", "Streams of which the first event has come.")

# By key, where that is asked for

KEY_CALLS = Metric("gatewaykit.key.calls", "counter", "{call}", "Calls of each key.", (KEY, OUTCOME))
KEY_TOKENS = Metric("gatewaykit.key.tokens", "counter", "{token}", "Tokens of each key.", (KEY, TOKEN_TYPE))
KEY_SPEND = Metric("gatewaykit.key.spend", "counter", "1", "Money spent by each key.", (KEY, CURRENCY))

# Routing and providers

BREAKER = Metric(
    "gatewaykit.breaker.state", "gauge", "1", "A target's breaker: 0 closed, 0.5 trying, 1 open.",
    (PROVIDER, ANSWERED), merge="max",
)  # fmt: skip
BREAKER_OPENED = Metric(
    "gatewaykit.breaker.opened", "counter", "{time}", "How often a target's breaker opened.", (PROVIDER, ANSWERED)
)
BREAKER_COOLDOWN = Metric(
    "gatewaykit.breaker.cooldown", "gauge", "s", "Time until a target that its breaker leaves alone is tried again.",
    (PROVIDER, ANSWERED), merge="max",
)  # fmt: skip
RETRIES = Metric(
    "gatewaykit.retries", "counter", "{attempt}", "Attempts repeated at the same target.", (PROVIDER, ANSWERED)
)
HEDGES = Metric(
    "gatewaykit.hedges", "counter", "{attempt}",
    "Second targets that were begun beside a silent first one, and those of them that were quicker.", (RESULT,),
)  # fmt: skip
MIRRORED = Metric(
    "gatewaykit.mirror.copies", "counter", "{call}",
    "Copies of calls for a mirror, by what became of them: answered, failed, or left out because too many were on "
    "their way.",
    (PROVIDER, ANSWERED, RESULT),
)  # fmt: skip
ATTEMPTS_ACTIVE = Metric(
    "gatewaykit.attempts.active", "updown", "{attempt}", "Attempts that are going on, streams until their end.",
    (PROVIDER, ANSWERED),
)  # fmt: skip
CREDENTIAL_STATE = Metric(
    "gatewaykit.credential.state", "gauge", "1", "1 for the state in which a provider's credential is.",
    (PROVIDER, CREDENTIAL, STATE), merge="max",
)  # fmt: skip
CREDENTIAL_EXPIRES = Metric(
    "gatewaykit.credential.expires", "gauge", "s",
    "When a credential's certificate ends, or the next authority by which a provider is trusted; since 1970.",
    (PROVIDER, CREDENTIAL), merge="min",
)  # fmt: skip
TOKEN_EXPIRES = Metric(
    "gatewaykit.credential.token.expires", "gauge", "s", "When the access token ends, in seconds since 1970.",
    (PROVIDER, CREDENTIAL), merge="min",
)  # fmt: skip
TOKEN_FAILURES = Metric(
    "gatewaykit.credential.token.failures", "counter", "{attempt}", "Access tokens asked for in vain.",
    (PROVIDER, CREDENTIAL, REASON),
)  # fmt: skip
CREDENTIAL_BALANCE = Metric(
    "gatewaykit.credential.balance", "gauge", "{token}", "Tokens that a credential has left of a package.",
    (PROVIDER, CREDENTIAL, ANSWERED), merge="min",
)  # fmt: skip
SLOTS_BUSY = Metric(
    "gatewaykit.credential.slots.busy",
    "updown",
    "{slot}",
    "Calls that a credential serves now.",
    (PROVIDER, CREDENTIAL),
)
QUEUE_LENGTH = Metric("gatewaykit.queue.length", "updown", "{call}", "Calls that wait for a credential.", (PROVIDER,))
QUEUE_WAIT = Metric(
    "gatewaykit.queue.wait", "histogram", "s", "Time that calls waited for a credential.", (PROVIDER,), BRIEF
)
QUEUE_POSITION = Metric(
    "gatewaykit.queue.position", "histogram", "{call}", "Place in the queue at which calls began to wait.", (PROVIDER,),
    PLACES,
)  # fmt: skip
QUEUE_REFUSED = Metric(
    "gatewaykit.queue.refused", "counter", "{call}", "Calls that found no place in the queue or waited too long.",
    (PROVIDER, REASON),
)  # fmt: skip
CACHE_REQUESTS = Metric(
    "gatewaykit.cache.requests",
    "counter",
    "{request}",
    "Look-ups in a cache of the gateway, hit or miss.",
    (CACHE, RESULT),
)
CACHE_ENTRIES = Metric("gatewaykit.cache.entries", "updown", "{entry}", "What a cache of the gateway holds.", (CACHE,))

# Limits

REFUSALS = Metric(
    "gatewaykit.limiter.refusals", "counter", "{call}", "Calls refused by a limit or a budget.", (WHOSE, UNIT)
)
BUDGET_USED = Metric(
    "gatewaykit.budget.used", "gauge", "1", "The fullest budget of its kind, as a share: 1 is used up.",
    (WHOSE,), merge="max",
)  # fmt: skip
LIMITER_DEGRADED = Metric(
    "gatewaykit.limiter.degraded", "gauge", "1", "1 while a process decides without the shared store.", merge="max"
)
LIMITER_ALONE = Metric(
    "gatewaykit.limiter.alone", "counter", "{decision}", "Decisions that were made without the shared store."
)
LIMITER_LOST = Metric("gatewaykit.limiter.lost", "counter", "{hold}", "Reservations that could not be settled.")
REDIS_OPEN = Metric("gatewaykit.redis.breaker.state", "gauge", "1", "1 while Redis is left alone.", merge="max")
REDIS_EVENTS = Metric(
    "gatewaykit.redis.calls.failed", "counter", "{call}",
    "Calls of Redis without an answer: failed, refused by the breaker, or crowded out.", (REASON,),
)  # fmt: skip
REDIS_BUSY = Metric("gatewaykit.redis.connections.busy", "updown", "{connection}", "Connections to Redis in use.")

# What is kept

OUTBOX_DEPTH = Metric(
    "gatewaykit.ledger.outbox.depth", "updown", "{record}",
    "Records that the database does not have yet. Of the files that no process holds, one on the folder tells.",
)  # fmt: skip
OUTBOX_SIZE = Metric("gatewaykit.ledger.outbox.size", "updown", "By", "The same in bytes of files.")
OUTBOX_AGE = Metric("gatewaykit.ledger.outbox.age", "gauge", "s", "How long the oldest of them waits.", merge="max")
LEDGER_WRITTEN = Metric("gatewaykit.ledger.written", "counter", "{record}", "Records written to the database.")
LEDGER_FAILURES = Metric(
    "gatewaykit.ledger.failures", "counter", "{failure}",
    "What went wrong with records: lost, unsafe (no file took them), corrupt, refused, or the database was away.",
    (REASON,),
)  # fmt: skip
DATABASE_BUSY = Metric("gatewaykit.database.threads.busy", "updown", "{thread}", "Threads that work with the database.")
DATABASE_WAITING = Metric("gatewaykit.database.queue.length", "updown", "{work}", "Work that waits for such a thread.")
DATABASE_REFUSED = Metric(
    "gatewaykit.database.refused", "counter", "{work}", "Work that was refused or given up: full, timeout, busy, away.",
    (REASON,),
)  # fmt: skip
BACKUP_TIME = Metric(
    "gatewaykit.backup.success",
    "gauge",
    "s",
    "When a backup last succeeded, in seconds since 1970; 0: never.",
    merge="max",
)
BACKUP_INTERVAL = Metric(
    "gatewaykit.backup.interval", "gauge", "s", "How often a backup should be made; a day where nothing is said.",
    merge="max",
)  # fmt: skip
BACKUP_FAILURES = Metric("gatewaykit.backup.failures", "counter", "{backup}", "Backups that failed.")
REVOCATION_LAG = Metric(
    "gatewaykit.revocation.lag",
    "gauge",
    "s",
    "How old the oldest knowledge of revoked keys and tokens is.",
    merge="max",
)

UNCONFIRMED = Metric(
    "gatewaykit.credentials.unconfirmed",
    "counter",
    "{request}",
    "Requests refused with 503 because nobody could say whether their key (keys) or token (tokens) is still good.",
    (CACHE,),
)

# The gateway itself

HOOK_CALLS = Metric("gatewaykit.hook.calls", "counter", "{call}", "Calls of the plugins' hooks.", (OBJECT, HOOK))
HOOK_TIME = Metric("gatewaykit.hook.time", "counter", "s", "Time spent in the plugins' hooks.", (OBJECT, HOOK))
HOOK_FAILURES = Metric(
    "gatewaykit.hook.failures", "counter", "{failure}", "Hooks that failed (error) or missed their deadline (timeout).",
    (OBJECT, HOOK, REASON),
)  # fmt: skip
OBSERVER_QUEUE = Metric("gatewaykit.observer.queue.length", "updown", "{record}", "Records that wait for observers.")
OBSERVER_DROPPED = Metric("gatewaykit.observer.dropped", "counter", "{record}", "Records that observers did not get.")
LOG_DROPPED = Metric(
    "gatewaykit.log.dropped", "counter", "{line}", "Lines of the log that were not written.", (REASON,)
)
LOOP_LAG = Metric(
    "gatewaykit.event_loop.lag", "gauge", "s", "The longest that an event loop came late, lately.", merge="max"
)
WORKERS = Metric("gatewaykit.workers", "updown", "{worker}", "Processes that serve.")
WORKER_DEATHS = Metric("gatewaykit.worker.deaths", "counter", "{worker}", "Workers that died and were replaced.")
CERTIFICATE_EXPIRES = Metric(
    "gatewaykit.certificate.expires",
    "gauge",
    "s",
    "When the server's certificate ends, in seconds since 1970.",
    merge="min",
)
SERIES_FOLDED = Metric(
    "gatewaykit.metrics.folded",
    "counter",
    "{value}",
    "Values counted under `other`, for their metric has series enough.",
)
CPU_TIME = Metric("gatewaykit.process.cpu", "counter", "s", "Processor time of all processes.")
MEMORY = Metric(
    "gatewaykit.process.memory", "updown", "By", "Resident memory of all processes; shared pages count in each."
)


def all_metrics() -> Iterator[Metric]:
    """Every metric of this module, in its order."""
    for value in globals().values():
        if isinstance(value, Metric):
            yield value
