"""One upstream that speaks OpenAI's format, as a provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from gatewaykit.certificates import next_end
from gatewaykit.errors import GatewayError, ProviderBadAnswer, ProviderTimeout
from gatewaykit.http import HttpClient, HttpStream
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import CREDENTIAL, CREDENTIAL_EXPIRES, PROVIDER, TRUST
from gatewaykit.protocols import Provider
from gatewaykit.types import Call, Event, Model, Raw, Reply, Target

from .body import prepare
from .course import Course
from .decode import Translation, reply_of
from .embeddings import encode_embeddings, numbers_of
from .encode import encode_chat
from .endpoint import Endpoint
from .passthrough import Passage
from .refusals import Refusals
from .settings import Upstream
from .wire import (
    UNREADABLE,
    read_answer,
    read_embeddings,
    read_embeddings_summary,
    read_models,
    read_summary,
    whole,
)

CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"
DIALECT = "openai_chat"
EMBEDDINGS_DIALECT = "openai_embeddings"
EVENTS = "text/event-stream"
JSON = "application/json"

MAX_ERROR_BYTES = 64 * 1024
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_MODELS = 10_000
LIST_SECONDS = 30.0
NO_LIST = 404

Reader: TypeAlias = Passage | Translation


class OpenAICompatible(Provider):
    """Answers through ``upstream``; the client's bytes pass unread where the gateway allows it."""

    native_dialects: ClassVar[frozenset[str]] = frozenset({DIALECT, EMBEDDINGS_DIALECT})

    def __init__(self, name: str, upstream: Upstream) -> None:
        self.name = name
        self._upstream = upstream
        self._endpoint = endpoint = Endpoint.of(name, upstream)
        self._refusals = Refusals(endpoint.secrets, urlsplit(endpoint.base_url).netloc)
        self._client = HttpClient(
            endpoint.base_url,
            headers=endpoint.headers,
            ssl_context=upstream.ssl_context(),
            connect_timeout=upstream.connect_timeout,
        )
        bundle = upstream.ca_bundle_file
        self._trust_expires = None if bundle is None else next_end(bundle, time.time())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """Events of a translated answer, or the upstream's own frames; see :class:`~gatewaykit.protocols.Provider`."""
        if call.raw_dialect == DIALECT and not call.chat.stream:
            reply = await self._pass(call, target)
            yield Raw(reply.raw or b"")
            if reply.usage is not None:
                yield reply.usage
            return
        body, reader = self._reading(call, target)
        async with self._client.stream("POST", CHAT, body=body, headers=_headers(call, EVENTS)) as answer:
            await self._check(answer, EVENTS)
            async with aclosing(answer.frames()) as blocks:
                async for block in blocks:
                    for event in reader.take(block):
                        yield event
                    if reader.over:
                        break
            for event in reader.end():
                yield event
            await answer.finish()

    async def complete(self, call: Call, target: Target) -> Reply | None:
        """The answer in one piece; ``raw`` where the client's bytes pass unread."""
        if call.raw_dialect == DIALECT:
            return None if call.chat.stream else await self._pass(call, target)
        model = self._endpoint.chat_name(target.model)
        body = encode_chat(call.chat, model, stream=False, length_field=self._endpoint.length_field)
        content = await self._post(CHAT, call, body)
        try:
            answer = read_answer(content)
        except UNREADABLE as error:
            raise _bad_answer(error) from error
        if answer.error is not None:
            raise self._refusals.from_document(answer.error)
        if not answer.choices:
            raise ProviderBadAnswer(detail="an answer without choices")
        return reply_of(answer)

    async def embed(self, call: Call, target: Target) -> Reply:
        """Vectors; ``raw`` where the client's bytes pass unread."""
        model = self._endpoint.embedding_name(target.model)
        if call.raw_dialect == EMBEDDINGS_DIALECT:
            body = prepare(call.body, model=_other_model(call, model), content=b'"input"')
            return self._vectors_passed(await self._post(EMBEDDINGS, call, body))
        body = encode_embeddings(call.embeddings, model)
        return self._vectors(await self._post(EMBEDDINGS, call, body), len(call.embeddings.input))

    async def models(self) -> Sequence[Model]:
        """The models that the settings name, or those that the upstream lists; none if it has no such list."""
        if self._upstream.models:
            return tuple(Model(name, self.name) for name in self._upstream.models)
        try:
            async with asyncio.timeout(LIST_SECONDS), self._client.stream("GET", "/models") as answer:
                if answer.status == NO_LIST:
                    return ()
                await self._check(answer, JSON)
                entries = read_models(await answer.read(MAX_LIST_BYTES)).data[:MAX_MODELS]
        except TimeoutError as error:
            raise ProviderTimeout(detail="list of models") from error
        except UNREADABLE as error:
            raise _bad_answer(error) from error
        return tuple(
            Model(entry.id, entry.owned_by or self.name, whole(entry.created))
            for entry in entries
            if 0 < len(entry.id) <= 256 and entry.id.isprintable()
        )

    def readings(self) -> Iterator[Reading]:
        """When the authorities end that the upstream is trusted by, if they are its own."""
        if self._trust_expires is not None:
            yield Reading(CREDENTIAL_EXPIRES, self._trust_expires, {PROVIDER: self.name, CREDENTIAL: TRUST})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _reading(self, call: Call, target: Target) -> tuple[bytes, Reader]:
        """The body of a streamed request, and who reads the answer."""
        request, endpoint = call.chat, self._endpoint
        model = endpoint.chat_name(target.model)
        course = Course(self._refusals.from_document)
        if call.raw_dialect != DIALECT:
            body = encode_chat(
                request,
                model,
                stream=True,
                ask_for_usage=endpoint.ask_for_usage,
                length_field=endpoint.length_field,
            )
            return body, Translation(course)
        ask = endpoint.ask_for_usage and not request.include_usage
        body = prepare(call.body, model=_other_model(call, model), ask_for_usage=ask)
        return body, Passage(course, hide_usage=ask)

    async def _pass(self, call: Call, target: Target) -> Reply:
        model = self._endpoint.chat_name(target.model)
        content = await self._post(CHAT, call, prepare(call.body, model=_other_model(call, model)))
        try:
            content.decode()
            summary = read_summary(content)
        except UNREADABLE as error:
            raise _bad_answer(error) from error
        if summary.error is not None:
            raise self._refusals.from_document(summary.error)
        if not summary.choices:
            raise ProviderBadAnswer(detail="an answer without choices")
        usage = summary.usage.usage() if summary.usage else None
        return Reply(model=summary.model or "", usage=usage, raw=content)

    def _vectors_passed(self, content: bytes) -> Reply:
        """The upstream's own list of vectors, of which only the use is read."""
        try:
            content.decode()
            summary = read_embeddings_summary(content)
        except UNREADABLE as error:
            raise _bad_answer(error) from error
        if summary.error is not None:
            raise self._refusals.from_document(summary.error)
        if not summary.data:
            raise ProviderBadAnswer(detail="an answer without vectors")
        return Reply(model=summary.model or "", usage=summary.usage.usage() if summary.usage else None, raw=content)

    def _vectors(self, content: bytes, wanted: int) -> Reply:
        try:
            answer = read_embeddings(content)
            found = {entry.index: numbers_of(entry.embedding) for entry in answer.data or ()}
        except UNREADABLE as error:
            raise _bad_answer(error) from error
        if answer.error is not None:
            raise self._refusals.from_document(answer.error)
        if sorted(found) != list(range(wanted)):
            raise ProviderBadAnswer(detail=f"{len(found)} vectors for {wanted} texts")
        usage = answer.usage.usage() if answer.usage else None
        return Reply(model=answer.model or "", usage=usage, vectors=tuple(found[index] for index in range(wanted)))

    async def _post(self, path: str, call: Call, body: bytes) -> bytes:
        async with self._client.stream("POST", path, body=body, headers=_headers(call, JSON)) as answer:
            await self._check(answer, JSON)
            return await answer.read()

    async def _check(self, answer: HttpStream, promised: str) -> None:
        """Raise unless the answer is a success of the promised content type."""
        given = answer.content_type
        if answer.status == 200 and given == promised:
            return
        content = await _beginning(answer)
        if answer.status != 200:
            raise self._refusals.from_answer(answer.status, answer.headers, content)
        raise self._error_in(content) or ProviderBadAnswer(detail=f"content type {given[:60]!r}, not {promised}")

    def _error_in(self, content: bytes) -> GatewayError | None:
        """The error that some upstreams send with status 200."""
        try:
            error = read_summary(content).error
        except UNREADABLE:
            return None
        return None if error is None else self._refusals.from_document(error)


async def _beginning(answer: HttpStream) -> bytes:
    """An error's body; one that is too long or breaks off says nothing."""
    try:
        return await answer.read(MAX_ERROR_BYTES)
    except GatewayError:
        return b""


def _headers(call: Call, accept: str) -> Mapping[str, str]:
    return {"Content-Type": JSON, "Accept": accept, "X-Request-ID": call.request_id}


def _other_model(call: Call, model: str) -> str | None:
    """The model's name at the upstream, if it is not the one in the client's body."""
    return None if model == call.request.model else model


def _bad_answer(error: Exception) -> ProviderBadAnswer:
    return ProviderBadAnswer(detail=f"the answer cannot be read: {type(error).__name__}")
