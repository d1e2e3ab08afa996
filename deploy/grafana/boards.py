"""Writes the dashboards of this folder: ``python deploy/grafana/boards.py``, with ``--check`` only compares them.

Metrics are named by :mod:`gatewaykit.metrics.names`, so that no panel can ask for one that does not exist.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from model import (
    CALLS_OF,
    CHOSEN,
    Board,
    document,
    graph,
    now,
    outcome,
    percentiles,
    quantile,
    rate,
    ratio,
    selected,
    stat,
    table,
    total,
    until,
)

from gatewaykit.metrics import names as m

HERE = Path(__file__).resolve().parent
FAILED = "failed|unavailable"
UPSTREAM = "provider_error|timeout"
P, MODEL = "gen_ai_provider_name", "gen_ai_request_model"
FAILED = "failed|unavailable"
UPSTREAM = "provider_error|timeout"

OVERVIEW = Board(
    "gatewaykit-overview", "gatewaykit / Overview", "Is it well, how much is going on, and how quick is it.",
    (
        ("Now", (
            stat("Requests a second", "reqps", "All requests to the APIs.", rate(m.HTTP_DURATION, sample="_count")),
            stat("Own failures", "percentunit", "Share of calls that failed by the gateway's own fault.",
                 ratio(rate(m.CALLS, where=outcome(FAILED)), rate(m.CALLS, where=CALLS_OF)), (0.001, "orange"), (0.01, "red")),
            stat("Providers' failures", "percentunit", "Share of calls that failed by a provider's fault.",
                 ratio(rate(m.CALLS, where=outcome(UPSTREAM)), rate(m.CALLS, where=CALLS_OF)), (0.01, "orange"), (0.1, "red")),
            stat("First token, p95", "s", "Time until a stream says its first word, for 95 of 100 streams.",
                 quantile(0.95, m.SERVER_FIRST_TOKEN, where=CALLS_OF), (2.5, "orange"), (10, "red")),
            stat("Streams", "short", "Streams that run now.", now(m.STREAMS)),
            stat("Workers", "short", "Processes that serve.", now(m.WORKERS)),
        )),
        ("Traffic", (
            graph("Calls by outcome", "reqps", "Refused: a limit, a key or the request itself was at fault.",
                  (rate(m.CALLS, "gatewaykit_outcome", CALLS_OF), "{{gatewaykit_outcome}}"), stacked=True),
            graph("Calls by model", "reqps", "Models by the name that was asked for.",
                  (rate(m.CALLS, MODEL, CALLS_OF), "{{gen_ai_request_model}}"), stacked=True),
            graph("Requests by status", "reqps", "All routes, those of plugins too.",
                  (rate(m.HTTP_DURATION, "http_response_status_code", sample="_count"), "{{http_response_status_code}}"), stacked=True),
            graph("Requests by route", "reqps", "Paths as they are declared; empty: nothing is there.",
                  (rate(m.HTTP_DURATION, "http_route", sample="_count"), "{{http_route}}")),
            graph("Tokens", "short", "Tokens a second; cached and reasoning ones are parts of input and output.",
                  (rate(m.TOKENS_USED, "gen_ai_token_type", CALLS_OF), "{{gen_ai_token_type}}")),
            graph("In progress", "short", "Requests that are being answered, and streams among them.",
                  (now(m.HTTP_ACTIVE), "requests"), (now(m.STREAMS), "streams")),
        )),
        ("Time", (
            percentiles("Time to the first token", "Streams, from the request to the first event.", m.SERVER_FIRST_TOKEN, CALLS_OF),
            percentiles("Time per further token", "Streams, after the first event.", m.SERVER_PER_TOKEN, CALLS_OF),
            percentiles("Time of whole calls", "From the request to the last byte.", m.SERVER_DURATION, CALLS_OF),
            percentiles("Own overhead", "What the gateway adds to the provider's time.", m.OVERHEAD),
            graph("Requests by route, p95", "s", "From the request to the last byte.",
                  (quantile(0.95, m.HTTP_DURATION, "http_route"), "{{http_route}}")),
            graph("Errors by code", "reqps", "What clients were told.",
                  (rate(m.CALLS, "error_type", f'{CALLS_OF},error_type!=""'), "{{error_type}}"), stacked=True),
        )),
    ),
    ("job", "instance", "provider"),
)  # fmt: skip

PROVIDERS = Board(
    "gatewaykit-providers", "gatewaykit / Providers and routing", "Who answers, who fails, and what is done about it.",
    (
        ("Attempts", (
            graph("Attempts", "reqps", "Tries at each provider, those of retries and fallbacks too.",
                  (rate(m.ATTEMPTS, P, CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("Failures by kind", "reqps", "What went wrong with attempts.",
                  (rate(m.ATTEMPTS, f"{P}, error_type", f'{CALLS_OF},error_type!=""'), "{{gen_ai_provider_name}} {{error_type}}"), stacked=True),
            graph("Failures, share", "percentunit", "Of a provider's attempts.",
                  (ratio(rate(m.ATTEMPTS, P, f'{CALLS_OF},error_type!~"|cancelled"'), rate(m.ATTEMPTS, P, CALLS_OF)), "{{gen_ai_provider_name}}")),
            graph("Time of attempts, p95", "s", "From sending the request to the end of the answer.",
                  (quantile(0.95, m.CLIENT_DURATION, P, CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("First chunk, p95", "s", "From sending the request to the first chunk.",
                  (quantile(0.95, m.CLIENT_FIRST_CHUNK, P, CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("Tokens by provider", "short", "Tokens a second, input and output.",
                  (rate(m.TOKENS_USED, P, f'{CALLS_OF},gen_ai_token_type=~"input|output"'), "{{gen_ai_provider_name}}"), stacked=True),
        )),
        ("Routing", (
            graph("Fallbacks", "reqps", "Calls that another target answered than the first.",
                  (rate(m.FALLBACKS, f"gatewaykit_fallback_from, {P}"), "{{gatewaykit_fallback_from}} → {{gen_ai_provider_name}}")),
            graph("Retries", "reqps", "Attempts repeated at the same target.",
                  (rate(m.RETRIES, f"{P}, gen_ai_response_model", CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}}")),
            graph("Hedges", "reqps", "Second targets that were begun beside a silent first one, and those that were quicker.",
                  (rate(m.HEDGES, "gatewaykit_result"), "{{gatewaykit_result}}")),
            graph("Copies for mirrors", "reqps", "Answered, failed, or left out because too many were on their way.",
                  (rate(m.MIRRORED, f"{P}, gen_ai_response_model, gatewaykit_result", CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}} {{gatewaykit_result}}")),
            graph("Attempts under way", "short", "Streams until their end.",
                  (now(m.ATTEMPTS_ACTIVE, f"{P}, gen_ai_response_model", where=CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}}")),
            graph("Breakers", "short", "0 closed, 0.5 trying, 1 open.",
                  (now(m.BREAKER, f"{P}, gen_ai_response_model", "max", CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}}")),
            graph("Breakers that opened", "short", "In the time shown by each point.",
                  (rate(m.BREAKER_OPENED, f"{P}, gen_ai_response_model", CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}}")),
            graph("Left alone for", "s", "Time until a target is tried again that its breaker leaves alone.",
                  (now(m.BREAKER_COOLDOWN, f"{P}, gen_ai_response_model", "max", CALLS_OF), "{{gen_ai_provider_name}}/{{gen_ai_response_model}}")),
            graph("Waiting for a credential", "short", "Calls in the queue.", (now(m.QUEUE_LENGTH, P, where=CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("Wait for a credential, p95", "s", "Time in the queue.", (quantile(0.95, m.QUEUE_WAIT, P, CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("Place in the queue, p95", "short", "Where calls began to wait.", (quantile(0.95, m.QUEUE_POSITION, P, CALLS_OF), "{{gen_ai_provider_name}}")),
            graph("Refused by the queue", "reqps", "No place, or waited too long.",
                  (rate(m.QUEUE_REFUSED, f"{P}, gatewaykit_reason", CALLS_OF), "{{gen_ai_provider_name}} {{gatewaykit_reason}}")),
        )),
        ("Credentials", (
            table("State", "short", "The state of each credential.", now(m.CREDENTIAL_STATE, f"{P}, gatewaykit_credential, gatewaykit_state", "max", CALLS_OF) + " == 1"),
            table("Ends in", "s", "Time until the credential itself ends.", until(m.CREDENTIAL_EXPIRES, f"{P}, gatewaykit_credential")),
            table("Access token ends in", "s", "It is renewed before.", until(m.TOKEN_EXPIRES, f"{P}, gatewaykit_credential")),
            graph("Tokens not given", "short", "Access tokens asked for in vain, a second.",
                  (rate(m.TOKEN_FAILURES, f"{P}, gatewaykit_credential, gatewaykit_reason", CALLS_OF), "{{gatewaykit_credential}} {{gatewaykit_reason}}")),
            graph("Balance", "short", "Tokens left of a package.",
                  (now(m.CREDENTIAL_BALANCE, f"{P}, gatewaykit_credential, gen_ai_response_model", "min", CALLS_OF), "{{gatewaykit_credential}} {{gen_ai_response_model}}")),
            graph("Busy", "short", "Calls that each credential serves.",
                  (now(m.SLOTS_BUSY, f"{P}, gatewaykit_credential", where=CALLS_OF), "{{gen_ai_provider_name}} {{gatewaykit_credential}}")),
        )),
    ),
    ("job", "instance", "provider"),
)  # fmt: skip

SPENDING = Board(
    "gatewaykit-keys", "gatewaykit / Keys and spend", "Who uses what, what it costs, and who is refused. Keys need metrics.keys.",
    (
        ("Money", (
            stat("Spent", "short", "In the time shown, in the currency of the price list.", total(m.SPEND, where=CALLS_OF)),
            stat("Fullest budget", "percentunit", "1 is used up.", now(m.BUDGET_USED, how="max"), (0.8, "orange"), (0.95, "red")),
            stat("Tokens", "short", "Input and output in the time shown.", total(m.TOKENS_USED, where=f'{CALLS_OF},gen_ai_token_type=~"input|output"')),
            stat("Refused", "short", "Calls refused by a limit in the time shown.", total(m.REFUSALS)),
            graph("Spending by model", "short", "Money an hour.", (f"3600 * {rate(m.SPEND, f'{MODEL}, gatewaykit_currency', CALLS_OF)}", "{{gen_ai_request_model}} {{gatewaykit_currency}}"), stacked=True),
            table("Tokens by model", "short", "In the time shown.", total(m.TOKENS_USED, f"{MODEL}, gen_ai_token_type", CALLS_OF)),
            graph("Tokens of one call, p95", "short", "Input and output.",
                  (quantile(0.95, m.CLIENT_TOKENS, "gen_ai_token_type", CALLS_OF), "{{gen_ai_token_type}}")),
        )),
        ("Limits", (
            graph("Refusals", "reqps", "By whose limit it was and what it counts.",
                  (rate(m.REFUSALS, "gatewaykit_limit_whose, gatewaykit_limit_unit"), "{{gatewaykit_limit_whose}} {{gatewaykit_limit_unit}}"), stacked=True),
            graph("Budgets", "percentunit", "The fullest of each kind.", (now(m.BUDGET_USED, "gatewaykit_limit_whose", "max"), "{{gatewaykit_limit_whose}}")),
            graph("Store of limits", "short", "1 while a process decides alone; decisions made so a second.",
                  (now(m.LIMITER_DEGRADED, "instance", "max"), "{{instance}} alone"), (rate(m.LIMITER_ALONE, "instance"), "{{instance}} decisions")),
        )),
        ("Keys", (
            table("Calls by key", "short", "In the time shown.", f"topk(25, {total(m.KEY_CALLS, 'gatewaykit_key')})"),
            table("Tokens by key", "short", "In the time shown.", f"topk(25, {total(m.KEY_TOKENS, 'gatewaykit_key, gen_ai_token_type')})"),
            table("Money by key", "short", "In the time shown.", f"topk(25, {total(m.KEY_SPEND, 'gatewaykit_key, gatewaykit_currency')})"),
        )),
    ),
    ("job", "instance", "provider"),
)  # fmt: skip

INTERNALS = Board(
    "gatewaykit-internals", "gatewaykit / Internals", "The gateway itself: its processes, plugins, books and stores.",
    (
        ("Processes", (
            graph("Event loops late", "s", "The longest that a loop came late.", (now(m.LOOP_LAG, "instance", "max"), "{{instance}}")),
            graph("Processor", "short", "Cores in use.", (rate(m.CPU_TIME, "instance"), "{{instance}}")),
            graph("Memory", "bytes", "Of all processes; shared pages count in each.", (now(m.MEMORY, "instance"), "{{instance}}")),
            graph("Workers", "short", "Processes that serve, and those that died in the last hour.",
                  (now(m.WORKERS, "instance"), "{{instance}}"), (f"sum by (instance) (increase({selected(m.WORKER_DEATHS)}[1h]))", "{{instance}} died")),
            graph("Stages, p95", "s", "Parts of the request's way.", (quantile(0.95, m.STAGES, "gatewaykit_stage"), "{{gatewaykit_stage}}")),
            graph("Certificate", "s", "Time until it ends.", (until(m.CERTIFICATE_EXPIRES, "instance"), "{{instance}}")),
        )),
        ("Plugins", (
            graph("Time in hooks", "s", "Of the mean call of a hook.",
                  (f"{rate(m.HOOK_TIME, 'gatewaykit_object, gatewaykit_hook')} / ({rate(m.HOOK_CALLS, 'gatewaykit_object, gatewaykit_hook')} > 0)", "{{gatewaykit_object}}.{{gatewaykit_hook}}")),
            graph("Failing hooks", "short", "Failures and missed deadlines a second.",
                  (rate(m.HOOK_FAILURES, "gatewaykit_object, gatewaykit_hook, gatewaykit_reason"), "{{gatewaykit_object}}.{{gatewaykit_hook}} {{gatewaykit_reason}}")),
            graph("Observers", "short", "Records that wait, and those that were dropped a second.",
                  (now(m.OBSERVER_QUEUE, "instance"), "{{instance}}"), (rate(m.OBSERVER_DROPPED, "instance"), "{{instance}} dropped")),
            graph("Log lines lost", "short", "A second, by reason.", (rate(m.LOG_DROPPED, "instance, gatewaykit_reason"), "{{instance}} {{gatewaykit_reason}}")),
            graph("Values folded", "short", "Counted under other, a second: a metric has series enough.", (rate(m.SERIES_FOLDED, "instance"), "{{instance}}")),
            graph("Caches, share of hits", "percentunit", "Of look-ups.",
                  (ratio(rate(m.CACHE_REQUESTS, "gatewaykit_cache", f'{CHOSEN},gatewaykit_result="hit"'), rate(m.CACHE_REQUESTS, "gatewaykit_cache")), "{{gatewaykit_cache}}")),
            graph("Caches, entries", "short", "What they hold.", (now(m.CACHE_ENTRIES, "gatewaykit_cache"), "{{gatewaykit_cache}}")),
        )),
        ("Books and stores", (
            graph("Outbox", "short", "Records that the database does not have yet.", (now(m.OUTBOX_DEPTH, "instance"), "{{instance}}")),
            graph("Outbox, size", "bytes", "Of its files.", (now(m.OUTBOX_SIZE, "instance"), "{{instance}}")),
            graph("Outbox, age", "s", "How long the oldest record waits.", (now(m.OUTBOX_AGE, "instance", "max"), "{{instance}}")),
            graph("Ledger", "short", "Records written, and failures, a second.",
                  (rate(m.LEDGER_WRITTEN, "instance"), "{{instance}} written"), (rate(m.LEDGER_FAILURES, "instance, gatewaykit_reason"), "{{instance}} {{gatewaykit_reason}}")),
            graph("Database", "short", "Busy threads, and work that waits for one.",
                  (now(m.DATABASE_BUSY, "instance"), "{{instance}} busy"), (now(m.DATABASE_WAITING, "instance"), "{{instance}} waits")),
            graph("Database refuses", "short", "Work refused or given up, a second.", (rate(m.DATABASE_REFUSED, "instance, gatewaykit_reason"), "{{instance}} {{gatewaykit_reason}}")),
            graph("Redis", "short", "Connections in use; 1 while it is left alone.",
                  (now(m.REDIS_BUSY, "instance"), "{{instance}} busy"), (now(m.REDIS_OPEN, "instance", "max"), "{{instance}} left alone")),
            graph("Redis fails", "short", "Calls without an answer, a second.", (rate(m.REDIS_EVENTS, "instance, gatewaykit_reason"), "{{instance}} {{gatewaykit_reason}}")),
            graph("Backups", "s", "Age of the last that succeeded, and how often one should be made.",
                  (f"time() - max by (instance) ({selected(m.BACKUP_TIME)})", "{{instance}}"), (now(m.BACKUP_INTERVAL, "instance", "max"), "{{instance}} should be")),
            graph("Backups that failed", "short", "A second.", (rate(m.BACKUP_FAILURES, "instance"), "{{instance}}")),
            graph("Revocation", "s", "Age of what is known of revoked keys.", (now(m.REVOCATION_LAG, "instance", "max"), "{{instance}}")),
            graph("Nobody can say", "short", "Requests whose key or token could not be confirmed, a second.", (rate(m.UNCONFIRMED, "instance, gatewaykit_cache"), "{{instance}} {{gatewaykit_cache}}")),
            graph("Holds lost", "short", "Reservations that could not be settled, a second.", (rate(m.LIMITER_LOST, "instance"), "{{instance}}")),
        )),
    ),
)  # fmt: skip

BOARDS = (OVERVIEW, PROVIDERS, SPENDING, INTERNALS)


def files() -> Iterator[tuple[Path, str]]:
    """Every file, with what has to be in it."""
    for board in BOARDS:
        text = json.dumps(document(board), indent=2, ensure_ascii=False) + "\n"
        yield HERE / "dashboards" / f"{board.uid.removeprefix('gatewaykit-')}.json", text


def main() -> int:
    """Write, or compare."""
    changed = [(path, text) for path, text in files() if not path.exists() or path.read_text() != text]
    if "--check" not in sys.argv:
        for path, text in changed:
            path.write_text(text)
    for path, _ in changed:
        print(f"{'differs' if '--check' in sys.argv else 'wrote'}: {path.name}")
    return int(bool(changed) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
