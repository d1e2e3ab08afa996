"""The contract lets good providers pass and finds each fault of bad ones."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import pytest

from gatewaykit.errors import AuthFailed, GatewayError, ProviderBusy
from gatewaykit.protocols import Provider
from gatewaykit.testing import FakeProvider, ProviderContract, Step, UpstreamAnswer, UpstreamRequest
from gatewaykit.testing.stage import Break

from . import wire


class TestTiny(wire.TinyContract):
    """A provider over HTTP that does everything right."""


class TestFake(ProviderContract):
    """A provider that has no upstream."""

    without_upstream = "the double has no upstream"
    without_tools = "the double calls no tools"

    def provider(self, base_url: str) -> Provider:
        return FakeProvider(models=["one", "two"])


def _refuses(status: int, kind: type[GatewayError]) -> Callable[[ProviderContract], None]:
    return lambda kit: kit.test_refusals_are_told_in_the_gateways_words(status, kind, "stream")


FAULTS: dict[str, tuple[type[Provider], Callable[[ProviderContract], None], str]] = {
    "hoards the stream": (
        wire.Hoarder,
        lambda kit: kit.test_first_event_comes_before_the_upstream_ends(),
        "text comes while the upstream has yet to end",
    ),
    "doubles text": (wire.Doubler, lambda kit: kit.test_text_arrives_whole("stream"), "In In the the"),
    "usage is not last": (
        wire.UsageFirst,
        lambda kit: kit.test_events_are_well_formed_and_usage_is_sane(),
        "Usage is not the last event",
    ),
    "complete differs": (
        wire.OtherWords,
        lambda kit: kit.test_stream_and_complete_say_the_same(),
        "choices",
    ),
    "mixes calls": (wire.Mixer, lambda kit: kit.test_two_calls_at_once_do_not_mix(), ""),
    "loses arguments": (
        wire.HalfArguments,
        lambda kit: kit.test_tool_calls_arrive_complete("stream"),
        "truncated",
    ),
    "half arguments in a stream": (
        wire.HalfArguments,
        lambda kit: kit.test_tool_call_events_are_well_formed(),
        "not the text of a JSON object",
    ),
    "forgets tool results": (
        wire.Forgetful,
        lambda kit: kit.test_tool_results_reach_the_upstream(),
        "cloudless-31",
    ),
    "clings to a stream": (
        wire.Clinging,
        lambda kit: kit.test_closing_the_stream_closes_the_upstream(),
        "the connection to the upstream is closed",
    ),
    "clings to a wait": (
        wire.Clinging,
        lambda kit: kit.test_cancelling_the_wait_closes_the_upstream("stream"),
        "the connection to the upstream is closed",
    ),
    "does not close": (
        wire.NeverCloses,
        lambda kit: kit.test_nothing_is_left_behind(),
        "all connections are closed",
    ),
    "one event loop": (
        wire.OneLoop,
        lambda kit: kit.test_one_provider_serves_two_event_loops(),
        "another event loop",
    ),
    "blames the client": (wire.Accusing, _refuses(401, AuthFailed), "not the client's matter"),
    "begins too early": (wire.Eager, _refuses(429, ProviderBusy), "it must come before the first event"),
    "has one error for all": (wire.Vague, _refuses(429, ProviderBusy), "HTTP 429 became ProviderError"),
    "loses Retry-After": (wire.Vague, lambda kit: kit.test_retry_after_is_kept("stream"), "None == 7"),
    "refused connection": (
        wire.Vague,
        lambda kit: kit.test_refused_connection_is_unavailable("stream"),
        "ProviderUnavailable",
    ),
    "cut at once": (
        wire.Vague,
        lambda kit: kit.test_cut_before_the_first_byte_is_unavailable(Step.RESET, "stream"),
        "ProviderUnavailable",
    ),
    "half is whole": (
        wire.Content,
        lambda kit: kit.test_half_a_stream_is_never_a_whole_one(Break.CLOSED),
        "DID NOT RAISE",
    ),
    "early end is whole": (
        wire.Content,
        lambda kit: kit.test_half_a_stream_is_never_a_whole_one(Break.EARLY_END),
        "DID NOT RAISE",
    ),
    "stumbles over garbage": (wire.Careless, lambda kit: kit.test_garbage_is_a_bad_answer("stream"), "malformed"),
    "tells the address": (wire.Telltale, lambda kit: kit.test_clients_learn_no_address("stream"), "127.0.0.1"),
    "same model twice": (wire.SameModelTwice, lambda kit: kit.test_models_are_a_list_of_names(), "1 == 2"),
    "doubles text in a gateway": (
        wire.Doubler,
        lambda kit: kit.test_answers_through_a_gateway(stream=True),
        "In In the the",
    ),
    "begins before a slow upstream": (
        wire.Eager,
        lambda kit: kit.test_a_slow_upstream_is_cut_by_the_gateway(),
        "200 == 504",
    ),
}
"""What a provider does wrong, the test that is there for it, and what that test says."""


def contract_of(provider: type[Provider]) -> ProviderContract:
    """The contract for this provider."""

    class Contract(wire.TinyContract):
        subject = provider

    return Contract()


@pytest.mark.parametrize("fault", FAULTS)
def test_contract_finds_the_fault(fault: str) -> None:
    """A provider with this fault does not pass the test that is there for it, and the author reads why."""
    provider, run, complaint = FAULTS[fault]
    try:
        with pytest.raises((Exception, pytest.fail.Exception)) as caught:
            run(contract_of(provider))
        assert complaint in str(caught.value)
    finally:
        while wire.NeverCloses.kept:
            wire.NeverCloses.kept.pop().close()
        # CPython 3.11 fails to parse code while a finalizer logs a traceback: what was left lying is swept up here.
        del caught
        gc.collect()


@pytest.mark.parametrize("provider", [wire.ShowsKey, wire.LogsKey, wire.Quoting])
def test_contract_finds_secrets_that_show(provider: type[Provider], caplog: pytest.LogCaptureFixture) -> None:
    """A key in the repr, in the log or in an error's detail is found."""
    with pytest.raises(AssertionError, match="a secret shows"):
        contract_of(provider).test_no_secret_shows(caplog)


def test_contract_wants_secrets_that_are_used(caplog: pytest.LogCaptureFixture) -> None:
    """Secrets that never reach the upstream would prove nothing, and are refused."""
    kit = type("Contract", (wire.TinyContract,), {"secrets": ("never-sent-0123456789",)})()
    with pytest.raises(AssertionError, match="never got the declared secrets"):
        kit.test_no_secret_shows(caplog)


def test_contract_wants_the_stream_in_pieces() -> None:
    """An upstream whose stream is one piece cannot show when the first event comes; the author is told."""

    class InOnePiece(wire.TinyContract):
        def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
            whole = super().upstream_text(pieces, request)
            return UpstreamAnswer((b"".join(whole.pieces),), headers=whole.headers)

    with pytest.raises(AssertionError, match="in pieces"):
        InOnePiece().test_first_event_comes_before_the_upstream_ends()


def test_contract_tells_what_the_author_has_to_supply() -> None:
    """A contract that lacks the upstream's answer fails with the name of the method to write."""

    class Unwritten(ProviderContract):
        def provider(self, base_url: str) -> Provider:
            return wire.Tiny(base_url)

    with pytest.raises(pytest.fail.Exception, match="override upstream_text"):
        Unwritten().test_text_arrives_whole("stream")
    with pytest.raises(pytest.fail.Exception, match="override upstream_tool_call"):
        Unwritten().test_tool_calls_arrive_complete("stream")


def test_skips_say_why() -> None:
    """What a provider opts out of is skipped with its own words."""
    with pytest.raises(pytest.skip.Exception, match="the double has no upstream"):
        TestFake().test_garbage_is_a_bad_answer("stream")
    with pytest.raises(pytest.skip.Exception, match="the double calls no tools"):
        TestFake().test_tool_calls_arrive_complete("stream")
