"""Failing: what goes wrong at the upstream is told in the gateway's words, and tells nothing that is secret."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from loguru import logger

from gatewaykit.errors import (
    AuthFailed,
    BadRequest,
    GatewayError,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderError,
    ProviderUnavailable,
)
from gatewaykit.folding import Folder
from gatewaykit.testing.contract.base import TEXT, ContractBase, both_ways, in_a_loop
from gatewaykit.testing.stage import BREAKS, Break, Stage, Way, broken_off, instead
from gatewaykit.testing.upstream import Script, Step, Upstream, UpstreamAnswer, UpstreamRequest, refusing_address

HTML = UpstreamAnswer(
    (b"<html><body>Welcome to the hotel's network</body></html>",), headers={"content-type": "text/html"}
)
NOT_HTTP: Script = [b"\x16\x03\x01 this is not HTTP\r\n\r\n", Step.CLOSE]


class FailingTests(ContractBase):
    """Refusals, broken connections, garbage."""

    @both_ways
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, BadRequest),
            (401, ProviderAuthFailed),
            (429, ProviderBusy),
            (500, ProviderUnavailable),
            (502, ProviderUnavailable),
            (503, ProviderUnavailable),
        ],
    )
    @in_a_loop
    async def test_refusals_are_told_in_the_gateways_words(
        self, status: int, kind: type[GatewayError], way: Way
    ) -> None:
        """Each status of the upstream becomes the error that tells gateway and client what to do."""
        async with self._stage(self._refuses(status)) as stage:
            error = await stage.failure(way)
            assert isinstance(error, kind), f"HTTP {status} became {type(error).__name__}"
            assert not isinstance(error, AuthFailed), "the gateway's own credential is not the client's matter"

    @both_ways
    @in_a_loop
    async def test_retry_after_is_kept(self, way: Way) -> None:
        """How long the upstream asks to wait is known to the gateway."""
        async with self._stage(self._refuses(429, {"retry-after": "7"})) as stage:
            assert (await stage.failure(way)).retry_after == 7

    @both_ways
    @in_a_loop
    async def test_refused_connection_is_unavailable(self, way: Way) -> None:
        """An upstream that is not there is ProviderUnavailable."""
        self._needs_upstream()
        with refusing_address() as url:
            upstream = Upstream(lambda request: [])
            stage = Stage(self.provider(url), upstream, self.model)
            try:
                assert isinstance(await stage.failure(way), ProviderUnavailable)
            finally:
                await stage.provider.aclose()
                upstream.close()

    @both_ways
    @pytest.mark.parametrize("how", [Step.CLOSE, Step.RESET])
    @in_a_loop
    async def test_cut_before_the_first_byte_is_unavailable(self, how: Step, way: Way) -> None:
        """An upstream that takes the request and says nothing is ProviderUnavailable."""
        async with self._stage(instead([how])) as stage:
            assert isinstance(await stage.failure(way), ProviderUnavailable)

    @pytest.mark.parametrize("how", BREAKS)
    @in_a_loop
    async def test_half_a_stream_is_never_a_whole_one(self, how: Break) -> None:
        """A stream that breaks off fails, after the events that had come; it is never taken for finished."""
        async with self._stage(broken_off(self._says(), how)) as stage:
            folder = Folder()
            with pytest.raises(ProviderError) as caught:
                await stage.collect(folder)
            with pytest.raises(ProviderBadAnswer):
                folder.reply()  # no choice is finished
            if how is not Break.EARLY_END:
                assert isinstance(caught.value, ProviderUnavailable)

    @both_ways
    @in_a_loop
    async def test_garbage_is_a_bad_answer(self, way: Way) -> None:
        """Broken JSON, another page's HTML, and what is not HTTP at all are told as such."""
        for plan in (self._says_garbage, instead(HTML.script()), instead(NOT_HTTP)):
            async with self._stage(plan) as stage:
                assert isinstance(await stage.failure(way), ProviderBadAnswer)

    def _says_garbage(self, request: UpstreamRequest) -> Script:
        answer = self.upstream_text(TEXT, request)
        return replace(answer, pieces=tuple(piece.replace(b"{", b"<") for piece in answer.pieces)).script()


class SecretTests(ContractBase):
    """Credentials and addresses."""

    @in_a_loop
    async def test_no_secret_shows(self, caplog: pytest.LogCaptureFixture) -> None:
        """Credentials stay out of the provider's repr, of errors and their causes, and of the logs."""
        self._needs_upstream()
        if not self.secrets:
            pytest.skip("no secrets are declared")
        logged: list[str] = []
        sink = logger.add(logged.append, level=0, diagnose=False)
        try:
            with caplog.at_level(logging.DEBUG):
                texts = [text async for text in self._all_that_is_said()]
        finally:
            logger.remove(sink)
        for secret in self.secrets:
            assert not [text for text in [*texts, *logged, caplog.text] if secret in text], "a secret shows"

    @both_ways
    @in_a_loop
    async def test_clients_learn_no_address(self, way: Way) -> None:
        """The message for the client does not name the upstream's address."""
        async with self._stage(self._refuses(500)) as stage:
            error = await stage.failure(way)
            assert stage.upstream.url.removeprefix("http://") not in error.message

    async def _all_that_is_said(self) -> AsyncIterator[str]:
        """Everything a person might read of a provider that answers, is refused with its secrets named, and breaks."""
        for plan in (self._says(), self._refuses(401), self._refuses(500), instead([Step.CLOSE])):
            async with self._stage(plan) as stage:
                try:
                    await stage.answer("stream")
                except GatewayError as error:
                    yield f"{error!r} {error.message} {error.detail} {error.headers}"
                    yield "".join(traceback.format_exception(error))
                yield f"{stage.provider!r} {stage.provider}"
                sent = "".join(f"{request.headers} {request.body!r}" for request in stage.upstream.requests)
                assert all(secret in sent for secret in self.secrets), "the upstream never got the declared secrets"
