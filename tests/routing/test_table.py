"""The routing table over HTTP: rules, fallback by kind, mirrors, explanations, reloads, and what is refused."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import (
    BadRequest,
    ConfigError,
    ContentBlocked,
    ContextTooLong,
    Gateway,
    GatewayError,
    ProviderUnavailable,
    ProviderUnpaid,
    Target,
)
from gatewaykit.metrics.names import MIRRORED, RESULT
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of, until

URL = "/v1/chat/completions"
OPERATOR = "gk_operator_0123456789abcdef"
KEYS = {"keys": {"test": KEY, "operator": OPERATOR}, "scopes": {"operator": ["admin", "inference"]}}
AT_ONCE = {"attempts": 2, "backoff": 0.0}
BREAKER = {"calls": 2, "cooldown": 60}
AS_OPERATOR = {"authorization": f"Bearer {OPERATOR}"}


def to(*names: str, **model: Any) -> dict[str, Any]:
    """A model with these targets."""
    return {"targets": [{"to": name} for name in names], **model}


def gateway_of(providers: list[Any], router: dict[str, Any], **config: Any) -> Gateway:
    return make_gateway(plugin_of(providers=providers), router=router, static_keys=KEYS, **config)


async def target_of(client: Any, request: dict[str, Any], **options: Any) -> str:
    answer = await client.post(URL, json=request, **options)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-gatewaykit-target"])


# Rules


IMAGE = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("rule", "fields", "options"),
    [
        ({"models": ["gpt-*"]}, {"model": "gpt-5"}, {}),
        ({"keys": ["static:op*"]}, {}, {"headers": AS_OPERATOR}),
        ({"tenants": ["static:operator"]}, {}, {"headers": AS_OPERATOR}),
        ({"headers": {"X-Tier": "gold*"}}, {}, {"headers": {"x-tier": "gold-2"}}),
        ({"longer_than": 100}, {"messages": [{"role": "user", "content": "long " * 200}]}, {}),
        ({"tools": True}, {"tools": TOOLS}, {}),
        ({"images": True}, {"messages": [{"role": "user", "content": IMAGE}]}, {}),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
async def test_a_rule_sends_what_fits_elsewhere(scripted: Any, ask: Any, rule: Any, fields: Any, options: Any) -> None:
    """What meets its conditions goes to its model; everything else where it was going."""
    router = {"models": {"smart": to("one/m"), "other": to("two/m")}, "rules": [{"to": "other", **rule}]}
    router["default_provider"] = "one"
    async with gateway_client(gateway_of([scripted("one"), scripted("two")], router)) as client:
        assert await target_of(client, {**ask, **fields}, **options) == "two/m"
        assert await target_of(client, ask) == "one/m"


async def test_the_first_rule_that_fits_counts(scripted: Any, ask: Any) -> None:
    """All conditions of a rule must be met; a rule may name a model of a provider."""
    rules = [
        {"to": "two/first", "tools": True, "headers": {"x-a": "1"}},
        {"to": "two/second", "tools": True},
        {"to": "two/third", "shorter_than": 10, "images": False, "tools": True},
    ]
    router = {"models": {"smart": to("one/m")}, "rules": rules}
    async with gateway_client(gateway_of([scripted("one"), scripted("two")], router)) as client:
        assert await target_of(client, {**ask, "tools": TOOLS}) == "two/second"
        assert await target_of(client, {**ask, "tools": TOOLS}, headers={"x-a": "1"}) == "two/first"


# Models


async def test_priorities_come_before_weights(scripted: Any, ask: Any) -> None:
    """The dearest target is asked only when all those before it have failed."""
    targets = [{"to": "three/m", "priority": 9}, {"to": "one/m", "weight": 1}, {"to": "two/m", "weight": 1}]
    one, two = scripted("one", *[ProviderUnpaid()] * 20), scripted("two", *[ProviderUnpaid()] * 20)
    router = {"models": {"smart": {"targets": targets, "strategy": "weighted"}}}
    async with gateway_client(gateway_of([one, two, scripted("three")], router)) as client:
        for _ in range(20):
            answer = await client.post(URL, json=ask)
            assert (answer.headers["x-gatewaykit-target"], answer.headers["x-gatewaykit-attempts"]) == ("three/m", "3")


async def test_the_cheapest_by_the_price_list(scripted: Any, ask: Any) -> None:
    """Those without a price come last."""
    prices = {"models": [{"model": "dear", "input": 9, "output": 9}, {"model": "cheap", "input": 1, "output": 1}]}
    router = {"models": {"smart": to("one/unknown", "one/dear", "one/cheap", strategy="cheapest")}}
    gateway = gateway_of([scripted("one", ProviderUnpaid(), ProviderUnpaid())], router, prices=prices)
    async with gateway_client(gateway) as client:
        await client.post(URL, json=ask)
        (provider,) = gateway.providers.values()
        assert [target.model for target in provider.targets] == ["cheap", "dear", "unknown"]  # type: ignore[attr-defined]


async def test_fallback_by_kind(scripted: Any, ask: Any) -> None:
    """A kind that is named has targets of its own, or none; any other goes on to the next target."""
    model = to("one/m", "two/m", fallback={"context_too_long": ["three/long"], "content_blocked": []})
    one = scripted("one", ContextTooLong(), ContentBlocked(), ProviderUnavailable())
    two, three = scripted("two"), scripted("three")
    async with gateway_client(gateway_of([one, two, three], {"models": {"smart": model}})) as client:
        assert await target_of(client, ask) == "three/long"
        assert (await client.post(URL, json=ask)).status_code == 400
        assert await target_of(client, ask) == "two/m"


@pytest.mark.parametrize("known", [False, True], ids=["nothing is known", "long ago"])
async def test_a_target_is_not_tried_out_by_all_at_once(scripted: Any, ask: Any, known: bool) -> None:
    """One call at a time goes to a target of which nothing is known, or nothing of late, until it has answered."""
    gate = asyncio.Event()
    one, two = scripted("one", *[gate] * 20), scripted("two")
    gateway = gateway_of([one, two], {"models": {"smart": to("one/m", "two/m", strategy="least_latency")}})
    async with gateway_client(gateway) as client:
        gateway.targets[Target("two", "m")].whole.add(0.3, time.monotonic())
        if known:
            gateway.targets[Target("one", "m")].whole.add(5.0, time.monotonic() - 120)
        tasks = [asyncio.create_task(client.post(URL, json=ask)) for _ in range(20)]
        await until(lambda: len(one.calls) + len(two.calls) == 20)
        assert len(one.calls) == 1
        gate.set()
        await asyncio.gather(*tasks)
        assert gateway.targets[Target("one", "m")].whole.waiting == 0


async def test_a_target_that_let_a_call_wait_in_vain_is_slow(scripted: Any, ask: Any) -> None:
    """The next call goes to another one, though nothing else is known of either."""
    one, two = scripted("one", asyncio.Event()), scripted("two")
    router = {"models": {"smart": to("one/m", "two/m", strategy="least_latency")}}
    async with gateway_client(gateway_of([one, two], router, timeouts={"first_event": 0.3})) as client:
        assert [await target_of(client, ask) for _ in range(3)] == ["two/m"] * 3
        assert len(one.calls) == 1


@pytest.mark.parametrize("first", [ProviderUnavailable(), ProviderUnpaid()], ids=["tried again", "left"])
async def test_a_kind_has_its_targets_whatever_failed_before(
    scripted: Any, records: Any, ask: Any, first: GatewayError
) -> None:
    """They wait for it also while others, or the same target once more, are tried after another kind of failure."""
    targets = ["one/m"] if first.retryable else ["one/m", "two/m"]
    model = to(*targets, fallback={"context_too_long": ["three/long"]})
    one, two, three = scripted("one", first, ContextTooLong()), scripted("two", ContextTooLong()), scripted("three")
    async with gateway_client(gateway_of([one, two, three], {"models": {"smart": model}}, retries=AT_ONCE)) as client:
        answer = await client.post(URL, json=ask)
    assert (answer.headers["x-gatewaykit-target"], answer.headers["x-gatewaykit-attempts"]) == ("three/long", "3")


async def test_what_another_target_cannot_help_ends_the_further_tries(scripted: Any, ask: Any) -> None:
    """A request that turns out to be wrong, or is not to go elsewhere, is not tried at those that failed before."""
    model = to("one/m", "two/m", fallback={"content_blocked": []})
    one = scripted("one", ProviderUnavailable(), BadRequest("no"), ProviderUnavailable(), ContentBlocked())
    two = scripted("two", ProviderUnavailable(), ProviderUnavailable())
    async with gateway_client(gateway_of([one, two], {"models": {"smart": model}}, retries=AT_ONCE)) as client:
        codes = [(await client.post(URL, json=ask)).json()["error"]["code"] for _ in range(2)]
    assert codes == ["invalid_request", "content_filter"]
    assert (len(one.calls), len(two.calls)) == (4, 2)


@pytest.mark.parametrize("named", [["three/m"], []])
async def test_an_open_circuit_is_a_failure_of_its_kind(scripted: Any, ask: Any, named: list[str]) -> None:
    """Whoever waits for that is asked while it is open as before, or nobody; and explanations say so."""
    model = to("one/m", "two/m", fallback={"unavailable": named})
    providers = [scripted("one", *[ProviderUnavailable()] * 9), scripted("two"), scripted("three")]
    gateway = gateway_of(providers, {"models": {"smart": model}}, breaker=BREAKER, retries={"attempts": 0})
    async with gateway_client(gateway) as client:
        answers = [await client.post(URL, json=ask) for _ in range(4)]
        told = (await client.post("/api/admin/routes/explain", json={"model": "smart"}, headers=AS_OPERATOR)).json()
    assert [answer.status_code for answer in answers] == [200 if named else 503] * 4
    assert (len(providers[0].calls), len(providers[1].calls)) == (2, 0)
    assert told["order"] == named
    dropped = {line["target"]: line["dropped"] for line in told["candidates"]}
    assert dropped["two/m"] == "the circuit of one before it is open, and others wait for its kind of failure"
    assert dropped.get("three/m") is None


async def test_where_no_window_is_long_enough(scripted: Any, ask: Any) -> None:
    """Those are asked that wait for prompts that are too long, else all; and explanations say so."""
    targets = [{"to": "one/m", "context": 100}]
    kinds = {"timeout": ["two/m"], "context_too_long": ["three/m"]}
    models = {
        "smart": {"targets": targets, "fallback": kinds},
        "other": {"targets": targets, "fallback": {"timeout": ["two/m"]}},
    }
    providers = [scripted("one"), scripted("two"), scripted("three")]
    long = {"messages": [{"role": "user", "content": "x" * 1000}]}
    async with gateway_client(gateway_of(providers, {"models": models})) as client:
        assert await target_of(client, {**ask, **long}) == "three/m"
        assert await target_of(client, {"model": "other", **long}) == "one/m"
        question = {"model": "smart", "prompt_tokens": 250}
        told = (await client.post("/api/admin/routes/explain", json=question, headers=AS_OPERATOR)).json()
    assert told["order"] == ["three/m"]
    dropped = {line["target"]: line["dropped"] for line in told["candidates"]}
    assert dropped == {
        "one/m": "its window of 100 tokens is too short", "two/m": "asked only after timeout", "three/m": None
    }  # fmt: skip


async def test_a_prompt_that_cannot_fit_is_not_sent(scripted: Any, ask: Any) -> None:
    """A window that is surely too short is passed over without a call."""
    targets = [{"to": "one/m", "context": 100}, {"to": "two/m", "context": 10_000}]
    one = scripted("one")
    router = {"models": {"smart": {"targets": targets}}}
    async with gateway_client(gateway_of([one, scripted("two")], router)) as client:
        assert await target_of(client, {**ask, "messages": [{"role": "user", "content": "x" * 1000}]}) == "two/m"
        assert not one.calls
        assert await target_of(client, ask) == "one/m"


async def test_models_of_the_table_are_listed(scripted: Any) -> None:
    """Clients find them in /v1/models."""
    router = {"models": {"smart": to("one/m")}, "aliases": {"other": ["one/m"]}}
    async with gateway_client(gateway_of([scripted("one")], router)) as client:
        listed = (await client.get("/v1/models")).json()["data"]
    assert {model["id"] for model in listed} == {"smart", "other"}


# Mirror


async def test_a_mirror_gets_copies_that_nobody_notices(scripted: Any, records: Any, ask: Any) -> None:
    """Its answer goes nowhere, its silence holds nobody up, and the books have one record of one attempt."""
    copy = scripted("two", asyncio.Event(), ProviderUnavailable())
    router = {"models": {"smart": to("one/m", mirror={"to": "two/copy"})}}
    plugin = plugin_of(providers=[scripted("one"), copy], observers=[records])
    gateway = make_gateway(plugin, router=router)
    async with gateway_client(gateway) as client:
        for _ in range(2):
            answer = await client.post(URL, json={**ask, "stream": True})
            assert answer.status_code == 200
            assert answer.headers["x-gatewaykit-target"] == "one/m"
            assert "x-gatewaykit-attempts" not in answer.headers
        await until(lambda: len(copy.calls) == 2)
    assert [len(record.attempts) for record in records.seen] == [1, 1]
    assert {call.chat.model for call in copy.calls} == {"smart"}
    assert all(call.request_id.startswith("mirror-") for call in copy.calls)
    assert copy.left == 1, "the copy that was on its way when the gateway stopped was given up"


async def test_a_share_of_nothing_is_no_copy(scripted: Any, ask: Any) -> None:
    """And too many copies at a time are left out."""
    from gatewaykit.builtin.router.mirror import MOST_COPIES

    gate = asyncio.Event()
    copy = scripted("two", *[gate] * 99)
    router = {
        "models": {
            "smart": to("one/m", mirror={"to": "two/copy", "share": 0.0}),
            "busy": to("one/m", mirror={"to": "two/copy"}),
        }
    }
    async with gateway_client(gateway_of([scripted("one"), copy], router)) as client:
        await client.post(URL, json=ask)
        for _ in range(MOST_COPIES + 3):
            await client.post(URL, json={**ask, "model": "busy"})
        await until(lambda: len(copy.calls) == MOST_COPIES)
        gate.set()


async def test_the_first_mirror_may_come_with_a_reload(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """Until then requests do not meet it at all; what became of its copies is told to operators and in the metrics."""
    copy = scripted("two", None, ProviderUnavailable())
    router = {"models": {"smart": to("one/m")}, "file": str(tmp_path / "routes.json")}
    gateway = gateway_of([scripted("one"), copy], router)
    async with gateway_client(gateway) as client:
        assert gateway._pipeline.on_request == ()
        assert (await client.get("/api/admin/providers", headers=AS_OPERATOR)).json()["mirrors"] == []
        mirrored = to("one/m", mirror={"to": "two/copy"})
        await client.put(MANAGED + "smart", json=mirrored, headers=AS_OPERATOR)
        for _ in range(2):
            assert await target_of(client, ask) == "one/m"
        counts = gateway.routers["models"].copies[Target("two", "copy")]
        await until(lambda: (counts.answered, counts.failed) == (1, 1))
        shown = (await client.get("/api/admin/providers", headers=AS_OPERATOR)).json()["mirrors"]
        assert shown == [{"target": "two/copy", "answered": 1, "failed": 1, "left_out": 0}]
        measured = {
            reading.labels[RESULT]: reading.value for reading in gateway.readings() if reading.metric is MIRRORED
        }
        assert measured == {"answered": 1, "failed": 1, "left_out": 0}
        await client.delete(MANAGED + "smart", headers=AS_OPERATOR)
        assert gateway._pipeline.on_request == ()


# Faults


@pytest.mark.parametrize(
    ("router", "problem"),
    [
        ({"models": {"smart": {"targets": []}}}, "smart.targets"),
        ({"models": {"smart": to("nowhere")}}, "targets[0].to"),
        ({"models": {"smart": to("nobody/m")}}, "no provider is called 'nobody'"),
        ({"models": {"smart": to("one/m", fallback={"unpaid": ["nobody/m"]})}}, "'nobody'"),
        ({"models": {"smart": to("one/m", fallback={"unpaid": ["m"]})}}, "is not 'provider/model'"),
        ({"models": {"smart": to("one/m", fallback={"rain": []})}}, "rain"),
        ({"models": {"smart": to("one/m", strategy="magic")}}, "strategy"),
        ({"models": {"smart": {"targets": [{"to": "one/m", "weight": 0}], "strategy": "weighted"}}}, "weight"),
        ({"models": {"smart": to("one/m")}, "aliases": {"smart": ["one/m"]}}, "both an alias and a model"),
        ({"models": {"smart": {"targets": [{"to": "one/m", "parameters": {"messages": []}}]}}}, "the client's alone"),
        ({"models": {"smart": {"targets": [{"to": "one/m", "parameters": {"seed": True}}]}}}, "must be of type int"),
        ({"models": {"smart": {"targets": [{"to": "one/m", "parameters": {"top_p": "x"}}]}}}, "must be of type float"),
        (
            {
                "models": {
                    "smart": {"targets": [{"to": "one/m", "parameters": {"max_tokens": 1, "max_completion_tokens": 1}}]}
                }
            },
            "is the same as max_tokens",
        ),
        ({"rules": [{"to": "nothing"}]}, "is no model, no alias"),
        ({"models": {"smart": to("one/m", mirror={"to": "nobody/m"})}}, "'nobody'"),
    ],
)
def test_what_cannot_be_is_refused(scripted: Any, router: dict[str, Any], problem: str) -> None:
    """The gateway does not start, and says what is wrong and where."""
    with pytest.raises(ConfigError) as caught:
        gateway_of([scripted("one")], router)
    assert problem in str(caught.value)


def test_parameters_of_the_right_kind_are_taken(scripted: Any) -> None:
    """Whole numbers are numbers, too; what the gateway has no word for is passed on."""
    parameters = {"temperature": 0, "top_p": 1, "seed": 1, "logprobs": True, "user": "u", "top_k": [True]}
    gateway = gateway_of(
        [scripted("one")], {"models": {"smart": {"targets": [{"to": "one/m", "parameters": parameters}]}}}
    )
    assert gateway.targets.all()


async def test_both_names_of_the_longest_answer_are_one_parameter(scripted: Any, ask: Any) -> None:
    """Whichever the configuration uses, it is sent where the client used neither."""
    one = scripted("one")
    router = {"models": {"smart": {"targets": [{"to": "one/m", "parameters": {"max_completion_tokens": 50}}]}}}
    async with gateway_client(gateway_of([one], router)) as client:
        for fields in ({}, {"max_tokens": 7}, {"max_completion_tokens": 8}):
            await client.post(URL, json={**ask, **fields})
    assert [(call.request.max_tokens, dict(call.request.extra)) for call in one.calls] == [(50, {}), (7, {}), (8, {})]


# Operators


async def test_explain_says_why(scripted: Any, ask: Any) -> None:
    """Rules with what they want, candidates with why they were passed over, and the order that is left; no call."""
    targets = [{"to": "one/m"}, {"to": "two/m", "context": 50}, {"to": "three/m", "priority": 2}]
    model = {"targets": targets, "fallback": {"content_blocked": ["one/mild"]}}
    router = {"models": {"smart": model}, "rules": [{"to": "smart", "models": ["gpt-*"], "headers": {"x-a": "1"}}]}
    providers = [scripted("one", *[ProviderUnavailable()] * 9), scripted("two"), scripted("three")]
    breaker = {"enabled": True, "calls": 2, "cooldown": 60}
    gateway = gateway_of(providers, router, breaker=breaker)
    async with gateway_client(gateway) as client:
        for _ in range(2):
            await client.post(URL, json=ask)
        before = [len(provider.calls) for provider in providers]
        question = {"model": "gpt-5", "headers": {"X-A": "1"}, "prompt_tokens": 100, "key": "static:test"}
        told = (await client.post("/api/admin/routes/explain", json=question, headers=AS_OPERATOR)).json()
        unmet = await client.post("/api/admin/routes/explain", json={"model": "gpt-5"}, headers=AS_OPERATOR)
        assert [len(provider.calls) for provider in providers] == before
    assert (told["rule"], told["serves"], told["order"]) == (1, "smart", ["three/m"])
    assert unmet.json()["rules"][0]["unmet"] == ["header x-a '1'"]
    dropped = {line["target"]: line["dropped"] for line in told["candidates"]}
    assert dropped["three/m"] is None
    assert dropped["one/m"].startswith("its circuit is open for ")
    assert dropped["two/m"] == "its window of 50 tokens is too short"
    assert dropped["one/mild"] == "asked only after content_blocked"


RICH = {"keys": {"test": KEY, "operator": OPERATOR}, "models": {"test": ["sm*"]}, "scopes": KEYS["scopes"]}
DEAR = {"currency": "USD", "models": [{"model": "m", "input": 1, "output": 100}]}


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"key": "static:test"}, None),
        ({"key": "static:operator", "model": "nothing"}, (404, "model_not_found")),
        ({"key": "static:test", "model": "other"}, (403, "permission_denied")),
        ({"key": "static:test", "max_tokens": 1_000_000}, (429, "insufficient_quota")),
        ({"key": "static:test", "prompt_tokens": 2_000_000, "max_tokens": 1}, (429, "rate_limit_exceeded")),
        ({"key": "somebody"}, None),
        ({}, None),
    ],
)
async def test_explain_tells_who_would_be_let_in(asked: Any, refused: Any) -> None:
    """Rights first, then the model, then limits and budgets, as the gateway asks; and nothing of it is counted."""
    router = {"models": {"smart": to("fake/m"), "other": to("fake/m")}}
    limits = {"each_key": {"tpm": 2_000_000, "budget": "10"}, "all": {"rpm": 5}}
    providers = [FakeProvider(models=["m"]), FakeProvider(name="other", models=["m"])]
    gateway = make_gateway(plugin_of(providers=providers), router=router, static_keys=RICH, limits=limits, prices=DEAR)
    async with gateway_client(gateway) as client:
        for _ in range(8):
            given = {"model": "smart", **asked}
            answer = await client.post("/api/admin/routes/explain", json=given, headers=AS_OPERATOR)
    told = answer.json()
    found = told["refused"] and (told["refused"]["status"], told["refused"]["code"])
    assert found == refused
    assert told["key"] == (asked.get("key") and {**told["key"], "known": asked["key"] != "somebody"})
    names = [(line["of"], line["limit"]) for line in told["limits"]]
    assert names == ([("key", "tpm"), ("key", "budget")] if "key" in asked else []) + [("all", "rpm")]
    assert told["limits"][-1]["remaining"] == 5


async def test_providers_are_shown(scripted: Any, ask: Any) -> None:
    """Circuits, shares, latencies and budgets, for whoever may manage."""
    router = {"models": {"smart": to("one/m", "two/m")}}
    gateway = gateway_of([scripted("one", ProviderUnavailable()), scripted("two")], router, breaker={"enabled": True})
    async with gateway_client(gateway) as client:
        await client.post(URL, json=ask)
        shown = (await client.get("/api/admin/providers", headers=AS_OPERATOR)).json()
    one, two = shown["data"]
    assert (one["provider"], one["targets"][0]["failures"], one["targets"][0]["window"]["failed"]) == ("one", 1, 1)
    assert two["targets"][0]["latency"]["whole"] is not None
    assert shown["attempts"] == {"fallbacks": 1, "retries": 0, "hedges": 0, "overtaken": 0}
    assert shown["budgets"]["retries"]["refused"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/admin/routes"),
        ("POST", "/api/admin/routes/explain"),
        ("POST", "/api/admin/routes/reload"),
        ("GET", "/api/admin/providers"),
    ],
)
async def test_only_for_operators(scripted: Any, method: str, path: str) -> None:
    """A key that only calls models is refused, and so is nobody."""
    async with gateway_client(gateway_of([scripted("one")], {})) as client:
        assert (await client.request(method, path)).status_code == 403
        assert (await client.request(method, path, headers={"authorization": ""})).status_code == 401


@pytest.mark.parametrize(
    ("question", "status"),
    [({}, 400), ({"model": 7}, 400), ({"unknown": 1}, 400), ({"request_id": "nothing"}, 404)],
)
async def test_explain_refuses_what_it_does_not_understand(scripted: Any, question: Any, status: int) -> None:
    """With an error that says so."""
    async with gateway_client(gateway_of([scripted("one")], {})) as client:
        answer = await client.post("/api/admin/routes/explain", json=question, headers=AS_OPERATOR)
    assert answer.status_code == status


# Reload


CONFIG = """
[static_keys]
keys = {{ test = "{key}", operator = "{operator}" }}
scopes = {{ operator = ["admin", "inference"] }}
[log]
access = {access}
[router.models.smart]
targets = [{{ to = "{target}" }}]
"""


def write(path: Path, target: str, access: str = "false") -> None:
    path.write_text(CONFIG.format(key=KEY, operator=OPERATOR, target=target, access=access))


async def test_a_reload_puts_another_table_into_force(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """Calls on their way end where they began; what needs a restart is named, and stays as it was."""
    path, gate = tmp_path / "gatewaykit.toml", asyncio.Event()
    write(path, "one/m")
    one = scripted("one", gate)
    gateway = Gateway(path, plugins=[plugin_of(providers=[one, scripted("two")])], environ={})
    async with gateway_client(gateway) as client:
        running = asyncio.create_task(target_of(client, ask))
        await until(lambda: one.calls)
        write(path, "two/m", access="true")
        done = await client.post("/api/admin/routes/reload", headers=AS_OPERATOR)
        assert done.json() == {"object": "reload", "in_force": ["router"], "wait_for_restart": ["log"]}
        assert await target_of(client, ask) == "two/m"
        gate.set()
        assert await running == "one/m"
        shown = (await client.get("/api/admin/routes", headers=AS_OPERATOR)).json()
        assert shown["models"]["smart"]["targets"][0]["to"] == "two/m"
    assert not gateway.settings.log.access


async def test_a_target_that_left_the_table_is_forgotten(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """Its open circuit alarms nobody any more; one that stays is as it was, and calls on their way end well."""
    path, gate = tmp_path / "routes.json", asyncio.Event()
    one = scripted("one", *[ProviderUnavailable()] * 4)
    router = {"models": {"stays": to("one/a"), "smart": to("two/m")}, "file": str(path)}
    gateway = gateway_of([one, scripted("two", gate)], router, breaker=BREAKER, retries={"attempts": 0})
    async with gateway_client(gateway) as client:
        await client.put(MANAGED + "goes", json=to("one/b"), headers=AS_OPERATOR)
        for name in ("stays", "stays", "goes", "goes"):
            await client.post(URL, json={**ask, "model": name})
        running = asyncio.create_task(target_of(client, ask))
        await until(lambda: gateway.targets[Target("two", "m")].in_flight)
        await client.put(MANAGED + "smart", json=to("two/n"), headers=AS_OPERATOR)
        await client.delete(MANAGED + "goes", headers=AS_OPERATOR)
        circuits = {str(state.target): state.circuit for state in gateway.targets.all()}
        assert circuits == {"one/a": "open", "two/m": "closed", "two/n": "closed"}
        gate.set()
        assert await running == "two/m"
        assert gateway.targets[Target("two", "m")].in_flight == 0


@pytest.mark.parametrize("text", ["not toml", "[router]\nunknown = 1", None])
async def test_a_bad_file_changes_nothing(scripted: Any, ask: Any, tmp_path: Path, text: str | None) -> None:
    """400 with every fault at its line; the table in force stays."""
    path = tmp_path / "gatewaykit.toml"
    write(path, "one/m")
    gateway = Gateway(path, plugins=[plugin_of(providers=[scripted("one")])], environ={})
    async with gateway_client(gateway) as client:
        if text is None:
            write(path, "nobody/m")
        else:
            path.write_text(text)
        refused = await client.post("/api/admin/routes/reload", headers=AS_OPERATOR)
        assert refused.status_code == 400
        assert f"{path}:" in refused.json()["error"]["message"]
        assert await target_of(client, ask) == "one/m"
        write(path, "one/other")
        assert (await client.post("/api/admin/routes/reload", headers=AS_OPERATOR)).status_code == 200
        assert await target_of(client, ask) == "one/other"


# The table by the admin API


MANAGED = "/api/admin/routes/models/"


async def test_the_admin_api_changes_the_table(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """A model that is put is in force at once and after a restart; deleted, the configuration's is back."""
    path = tmp_path / "routes.json"
    router = {"models": {"smart": to("one/m")}, "file": str(path)}

    def again() -> Gateway:
        return gateway_of([scripted("one"), scripted("two")], router)

    async with gateway_client(again()) as client:
        model = {"targets": [{"to": "two/m", "first_event": 5}], "strategy": "least_latency"}
        put = await client.put(MANAGED + "smart", json=model, headers=AS_OPERATOR)
        assert (put.status_code, put.json()["strategy"]) == (200, "least_latency")
        assert await target_of(client, ask) == "two/m"
        await client.put(MANAGED + "a/b", json=to("two/other"), headers=AS_OPERATOR)
        assert await target_of(client, {**ask, "model": "a/b"}) == "two/other"
    async with gateway_client(again()) as client:
        assert await target_of(client, ask) == "two/m"
        assert (await client.get("/api/admin/routes", headers=AS_OPERATOR)).json()["managed"] == ["a/b", "smart"]
        assert (await client.delete(MANAGED + "smart", headers=AS_OPERATOR)).status_code == 200
        assert await target_of(client, ask) == "one/m"
        assert (await client.delete(MANAGED + "smart", headers=AS_OPERATOR)).status_code == 404
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({}, "targets"),
        ({"targets": []}, "targets"),
        (to("nobody/m"), "no provider is called 'nobody'"),
        (to("one/m", strategy="magic"), "strategy"),
        (to("one/m", unknown=1), "unknown"),
        (to("one/m", fallback={"timeout": ["one"]}), "fallback.timeout: 'one' is not 'provider/model'"),
        ({"targets": [{"to": "one/m", "weight": 0}], "strategy": "weighted"}, "no target has a weight"),
    ],
)
async def test_a_bad_model_changes_nothing(
    scripted: Any, ask: Any, tmp_path: Path, model: dict[str, Any], problem: str
) -> None:
    """400 that names the fault; file and table stay as they were."""
    path = tmp_path / "routes.json"
    router = {"models": {"smart": to("one/m")}, "aliases": {"short": ["one/m"]}, "file": str(path)}
    async with gateway_client(gateway_of([scripted("one")], router)) as client:
        refused = await client.put(MANAGED + "smart", json=model, headers=AS_OPERATOR)
        assert refused.status_code == 400
        assert problem in refused.json()["error"]["message"]
        alias = await client.put(MANAGED + "short", json=to("one/m"), headers=AS_OPERATOR)
        assert alias.status_code == 400
        assert await target_of(client, ask) == "one/m"
        assert (await client.put(MANAGED + "smart", json=to("one/m"))).status_code == 403
        for name in ("%00", "", "%20"):
            assert (await client.put(MANAGED + name, json=to("one/m"), headers=AS_OPERATOR)).status_code == 400
    assert not path.exists()


async def test_changes_at_the_same_time_are_each_told_as_they_were_made(scripted: Any, tmp_path: Path) -> None:
    """A model may be gone again before the answer to whoever put it."""
    gateway = gateway_of([scripted("one")], {"file": str(tmp_path / "routes.json")})
    async with gateway_client(gateway) as client:
        put = [client.put(MANAGED + "smart", json=to("one/m"), headers=AS_OPERATOR) for _ in range(10)]
        delete = [client.delete(MANAGED + "smart", headers=AS_OPERATOR) for _ in range(10)]
        answers = await asyncio.gather(*(each for pair in zip(put, delete, strict=True) for each in pair))
    assert {answer.status_code for answer in answers[::2]} == {200}
    assert {answer.json()["targets"][0]["to"] for answer in answers[::2]} == {"one/m"}
    assert {answer.status_code for answer in answers[1::2]} <= {200, 404}


async def test_a_file_that_breaks_later_hides_nothing(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """What is in force is shown and serves, and each change says what is wrong with the file."""
    path = tmp_path / "routes.json"
    router = {"models": {"smart": to("one/m")}, "file": str(path)}
    async with gateway_client(gateway_of([scripted("one")], router)) as client:
        await client.put(MANAGED + "other", json=to("one/n"), headers=AS_OPERATOR)
        path.write_text("{", "utf-8")
        shown = await client.get("/api/admin/routes", headers=AS_OPERATOR)
        assert (shown.status_code, shown.json()["managed"]) == (200, ["other"])
        refused = await client.put(MANAGED + "third", json=to("one/m"), headers=AS_OPERATOR)
        assert (refused.status_code, str(path) in refused.text) == (400, True)
        assert await target_of(client, {**ask, "model": "other"}) == "one/n"


async def test_without_a_file_the_table_is_the_configuration_s(scripted: Any) -> None:
    """And the answer says which setting is missing."""
    async with gateway_client(gateway_of([scripted("one")], {})) as client:
        refused = await client.put(MANAGED + "smart", json=to("one/m"), headers=AS_OPERATOR)
    assert refused.status_code == 400
    assert "router.file" in refused.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"models": {"m": {}}}', b'{"modles": {}}', b"\xff"])
def test_a_broken_file_is_told_at_the_start(scripted: Any, tmp_path: Path, content: bytes) -> None:
    """The gateway does not start without what it was told to keep."""
    path = tmp_path / "routes.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        gateway_of([scripted("one")], {"file": str(path)})
    assert str(path) in str(caught.value)


async def test_explain_tells_what_a_past_request_tried(scripted: Any, ask: Any, tmp_path: Path) -> None:
    """By its id, from the ledger: each attempt with its kind of failure; and how the key's limits stand now."""
    router = {"models": {"smart": to("one/m", "two/m")}}
    sections = {"database": {"url": f"sqlite:///{tmp_path}/db"}, "limits": {"each_key": {"rpm": 10}}}
    providers = [scripted("one", ContentBlocked()), scripted("two")]
    async with gateway_client(gateway_of(providers, router, **sections)) as client:
        request_id = (await client.post(URL, json=ask)).headers["x-request-id"]

        async def explained() -> Any:
            question = {"request_id": request_id}
            return await client.post("/api/admin/routes/explain", json=question, headers=AS_OPERATOR)

        async with asyncio.timeout(30):
            while (answer := await explained()).status_code == 404:
                await asyncio.sleep(0.01)  # the ledger writes a moment later
    told = answer.json()
    assert (told["model"], told["order"], told["past"]["outcome"]) == ("smart", ["one/m", "two/m"], "done")
    tried = [(attempt["target"], attempt["kind"]) for attempt in told["past"]["attempts"]]
    assert tried == [("one/m", "content_blocked"), ("two/m", None)]
    (limit,) = told["limits"]
    assert (limit["limit"], limit["of"], limit["amount"], limit["remaining"]) == ("rpm", "key", 10, 9)
