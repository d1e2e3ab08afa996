"""An answer in one piece that is text and nothing else: what most answers are, read at a third of the price."""

from __future__ import annotations

from typing import Any

from gatewaykit.types import Choice, FinishReason, Reply
from gatewaykit_gigachat.convert.translation import Translation
from gatewaykit_gigachat.convert.usage import usage_of

_MESSAGE = {"role", "content"}
_MEANINGS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def plain_reply(document: dict[str, Any], translation: Translation) -> Reply | None:
    """The answer in ``document``; ``None`` for one that has anything else in it or lacks anything, which is for
    :class:`~gatewaykit_gigachat.convert.answer.AnswerReader` to read or to refuse. Raises
    :class:`~gatewaykit.errors.ProviderBadAnswer` for a usage that is none.
    """
    options = translation.options
    if translation.stop or translation.must_call or options.think_tags:
        return None
    try:
        (choice,) = document["choices"]
        message, reason = choice["message"], _MEANINGS[choice["finish_reason"]]
        text, model, created = message["content"], document["model"], document["created"]
        if "delta" in choice or message["role"] != "assistant" or not message.keys() <= _MESSAGE:
            return None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    if type(text) is not str or type(model) is not str or type(created) is not int:
        return None
    return Reply(
        model=model,
        created=created,
        choices=[Choice(text=text, finish_reason=reason)],
        usage=usage_of(document.get("usage"), options.cached_tokens_included),
        ignored=translation.ignored,
    )


__all__ = ["plain_reply"]
