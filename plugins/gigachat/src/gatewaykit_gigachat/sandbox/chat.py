"""``POST /chat/completions`` (v1)."""

from __future__ import annotations

import msgspec
from starlette.types import ASGIApp

from .answers import Answer, compose
from .attachments import Attachments, check_attachments
from .call import Call
from .chat_request import ChatMessage, ChatRequest, read_chat_request
from .completion import Completion, Usage, completion_tokens
from .faults import Fault, FaultSyntaxError, extract_directive
from .refusals import api_refusal
from .replies import JsonReply, StreamReply
from .settings import ModelCard
from .text import count_tokens
from .validation import check_request


async def chat(call: Call) -> ASGIApp:
    """Answer a chat request; faults written into the model's name or the last user message count too."""
    settings = call.sandbox.settings
    request = read_chat_request(call.json(), strict=settings.strict_fields)
    await _undergo_directives(call, request)
    card = call.sandbox.catalogue.find_type(request.model, "chat")
    check_request(request, card)
    attached = check_attachments(call, request.messages, card)
    call.sandbox.require_balance(call.grant, card.id)
    answer = compose(request, card, attached.of_last, settings, call.fault)
    completion = _complete(call, request, card, answer, attached)
    if not request.stream:
        return JsonReply(call, completion.document())
    events = completion.events(settings.words_per_event, finish_with_call=settings.function_call_finish == "same")
    return StreamReply(call, events, max(request.update_interval or 0.0, settings.event_interval))


async def _undergo_directives(call: Call, request: ChatRequest) -> None:
    """Take ``[[fault: …]]`` out of the request and let it happen, unless another fault already does."""
    found: list[Fault] = []
    try:
        request.model, fault = extract_directive(request.model)
        found += [fault] if fault is not None else []
        asked = request.last_user
        if asked is not None:
            asked.content, fault = extract_directive(asked.text)
            found += [fault] if fault is not None else []
    except FaultSyntaxError as error:
        raise api_refusal(400, f"Sandbox fault: {error}") from error
    if found and not call.has_fault:
        call.meet(found[0])
        await call.suffer()


def _complete(call: Call, request: ChatRequest, card: ModelCard, answer: Answer, attached: Attachments) -> Completion:
    """Count the tokens, take them off the balance, and frame the answer."""
    parts = _prompt_parts(request)
    tokens = [count_tokens(part) for part in parts]
    prompt = max(1, sum(tokens) + attached.document_tokens)
    if prompt > card.context:
        raise api_refusal(413)
    session = call.request.headers.get("x-session-id")
    hits = call.sandbox.cache.hit((call.grant.client_id, session, card.id), parts) if session else 0
    cached = min(sum(tokens[:hits]), prompt - 1)
    counted = prompt if call.sandbox.settings.prompt_includes_cached else prompt - cached
    usage = Usage(counted, completion_tokens(answer), cached)
    call.sandbox.spend(call.grant, card.id, prompt - cached + usage.completion)
    return Completion(answer, f"{request.model.partition(':')[0]}:{card.build}", call.sandbox.now(), usage)


def _prompt_parts(request: ChatRequest) -> list[str]:
    """What the prompt consists of, in order: functions first, then each message."""
    functions = [msgspec.json.encode(request.functions).decode()] if request.functions else []
    return [*functions, *(_message_part(message) for message in request.messages)]


def _message_part(message: ChatMessage) -> str:
    called = "" if message.function_call is None else msgspec.json.encode(message.function_call).decode()
    attached = " ".join(message.attachments or ())
    return f"{message.role}: {message.text}{called}{attached}"
