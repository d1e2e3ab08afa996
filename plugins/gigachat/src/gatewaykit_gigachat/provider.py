"""GigaChat as a provider: its chat API (v1), streamed and not, and its list of models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import msgspec

from gatewaykit.errors import BadRequest, ProviderBadAnswer, ProviderTimeout
from gatewaykit.http import HttpStream
from gatewaykit.protocols import Provider
from gatewaykit.types import Batch, Call, ChatRequest, ContentPart, Event, Model, Reply, Target

from .api import authorization_header, json_object
from .attachments import Attachments
from .connection import Connection, naming_secret
from .convert import AnswerReader, Translation, translate
from .credentials import authorized
from .errors import MAX_ERROR_BYTES, api_refusal
from .files import GigaChatFiles
from .session import Sessions, client_id
from .settings import GigaChatSettings
from .streaming import event_batches

logger = logging.getLogger(__name__)

T = TypeVar("T")
Send: TypeAlias = Callable[["Prepared", Mapping[str, str]], Awaitable[T]]

NO_FILES: Mapping[ContentPart, str] = {}
_CHAT = "/chat/completions"
_DELETIONS_END = 10.0
"""Seconds that the deletion of uploads may hold up the gateway's stop."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chat request, ready to be sent any number of times."""

    translation: Translation
    body: bytes = field(repr=False)
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """A streamed answer whose first events have come; ``closing`` closes the connection."""

    first: list[Event]
    batches: AsyncIterator[list[Event]]
    closing: AsyncExitStack


class GigaChat(Provider):
    """GigaChat's models, for one account.

    Calls are tried again, and a refused token is renewed once, until the first event of an answer is there. All errors
    are of :mod:`gatewaykit.errors`. It may serve several event loops; :meth:`aclose` closes what the running one has.
    """

    name = "gigachat"

    def __init__(self, settings: GigaChatSettings) -> None:
        self._connection = Connection(settings)
        self._options = settings.convert_options
        self._timeout = settings.timeout
        self._sessions = Sessions(naming_secret(settings))
        self._upload_timeout = settings.upload_timeout
        self._attachment_options = settings.attachments.options
        self._attachments: dict[asyncio.AbstractEventLoop, Attachments] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.http!r} {self._connection.credential!r}>"

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """The answer as it comes. The network is read ahead of the consumer by one read at most."""
        async with self._files(call) as files:
            begun = await self._attempt(call, target, files, self._begin, streamed=True)
            async with begun.closing:
                yield Batch(begun.first)
                async for events in begun.batches:
                    yield Batch(events)

    async def complete(self, call: Call, target: Target) -> Reply:
        """The answer in one piece."""
        if _is_text(call.chat):
            return await self._attempt(call, target, NO_FILES, self._whole, streamed=False)
        async with self._files(call) as files:
            return await self._attempt(call, target, files, self._whole, streamed=False)

    async def models(self) -> Sequence[Model]:
        """The chat models that this account sees now."""
        document = await self._connection.api.ask("GET", "/models")
        listed = document.get("data")
        if not isinstance(listed, list):
            raise ProviderBadAnswer(detail="the list of models is no list")
        return [
            Model(entry["id"], owner if isinstance(owner := entry.get("owned_by"), str) else "")
            for entry in listed
            if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry.get("type", "chat") == "chat"
        ]

    async def aclose(self) -> None:
        """Delete uploads, if that is the policy, and close what the running event loop has open."""
        if attachments := self._attachments.pop(asyncio.get_running_loop(), None):
            try:
                async with asyncio.timeout(_DELETIONS_END):
                    await attachments.aclose()
            except TimeoutError:
                logger.warning("gigachat: some uploaded files could not be deleted in time and stay at the service")
        await self._connection.aclose()

    @asynccontextmanager
    async def _files(self, call: Call) -> AsyncIterator[Mapping[ContentPart, str]]:
        """The ids of the request's files, uploaded if need be, for as long as the call lasts."""
        attachments = self._attachments_here()
        owner = client_id(call.principal.tenant)
        try:
            yield await attachments.resolve(call, owner)
        finally:
            await attachments.finished(call, owner)

    def _attachments_here(self) -> Attachments:
        """The attachments of the running event loop; those of loops that ended are dropped."""
        loop = asyncio.get_running_loop()
        attachments = self._attachments.get(loop)
        if attachments is None:
            for ended in [known for known in self._attachments if known.is_closed()]:
                del self._attachments[ended]
            store = GigaChatFiles(self._connection.api, self._upload_timeout)
            attachments = self._attachments[loop] = Attachments(store, self._attachment_options)
        return attachments

    async def _attempt(
        self, call: Call, target: Target, files: Mapping[ContentPart, str], send: Send[T], *, streamed: bool
    ) -> T:
        """What ``send`` gets, with retries; without ``functions_state_id`` where the model does not take it."""
        translation = translate(call.chat, target.model, self._options, files)
        try:
            return await self._retried(call, self._prepared(call, translation, streamed), send)
        except BadRequest:
            if not _carries_state(translation):
                raise
        translation = translate(call.chat, target.model, replace(self._options, send_state_id=False), files)
        return await self._retried(call, self._prepared(call, translation, streamed), send)

    async def _retried(self, call: Call, prepared: Prepared, send: Send[T]) -> T:
        async def once(authorization: str | None) -> T:
            headers = {**prepared.headers, **authorization_header(authorization)}
            try:
                async with asyncio.timeout(self._timeout):
                    return await send(prepared, headers)
            except TimeoutError as error:
                raise ProviderTimeout(detail="gigachat.timeout") from error

        return await self._connection.retries.run(lambda: authorized(self._connection.credential, once), call.may_retry)

    def _prepared(self, call: Call, translation: Translation, streamed: bool) -> Prepared:
        headers = {
            "Accept": "text/event-stream" if streamed else "application/json",
            "Content-Type": "application/json",
            "X-Client-ID": client_id(call.principal.tenant),
            "X-Request-ID": call.request_id,
            "X-Session-ID": self._sessions.session_id(call),
        }
        if streamed:
            headers["Cache-Control"] = "no-store"
        return Prepared(translation, msgspec.json.encode({**translation.body, "stream": streamed}), headers)

    async def _begin(self, prepared: Prepared, headers: Mapping[str, str]) -> Begun:
        """Sends the request and waits for the first events of a stream."""
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(self._post(prepared, headers))
            await _accepted(answer)
            if not answer.is_event_stream:
                raise ProviderBadAnswer(detail="a stream was asked for, and something else came")
            blocks = await stack.enter_async_context(aclosing(answer.frames()))
            reader = AnswerReader(prepared.translation)
            batches = await stack.enter_async_context(aclosing(event_batches(blocks, reader)))
            return Begun(await anext(batches, []), batches, stack.pop_all())

    async def _whole(self, prepared: Prepared, headers: Mapping[str, str]) -> Reply:
        """Sends the request and reads the answer."""
        async with self._post(prepared, headers) as answer:
            await _accepted(answer)
            body = await answer.read()
        return AnswerReader(prepared.translation).reply(json_object(body))

    def _post(self, prepared: Prepared, headers: Mapping[str, str]) -> AbstractAsyncContextManager[HttpStream]:
        return self._connection.http.stream("POST", _CHAT, body=prepared.body, headers=headers)


async def _accepted(answer: HttpStream) -> None:
    """Raise what any status but 200 means."""
    if answer.status != 200:
        raise api_refusal(answer.status, answer.headers, await answer.read(MAX_ERROR_BYTES))


def _is_text(request: ChatRequest) -> bool:
    """Whether there is nothing to upload: then no call need be kept track of."""
    return all(isinstance(message.content, str) for message in request.messages)


def _carries_state(translation: Translation) -> bool:
    return any("functions_state_id" in message for message in translation.body.get("messages", ()))
