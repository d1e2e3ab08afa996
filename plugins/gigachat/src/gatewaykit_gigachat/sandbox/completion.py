"""Writing an answer as a v1 completion: one document, or the events of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .answers import Answer
from .text import chunks, count_tokens

OBJECT = "chat.completion"


@dataclass(frozen=True)
class Usage:
    """Tokens of one exchange; ``cached`` were taken from the prompt cache."""

    prompt: int
    completion: int
    cached: int

    def as_dict(self) -> dict[str, int]:
        """The ``usage`` object of the API."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "precached_prompt_tokens": self.cached,
        }


def completion_tokens(answer: Answer) -> int:
    """Output tokens of ``answer``, its reasoning and arguments included."""
    call = "" if answer.call is None else f"{answer.call.name}{answer.call.arguments}"
    return count_tokens(answer.text) + count_tokens(answer.reasoning or "") + count_tokens(call)


@dataclass(frozen=True)
class Completion:
    """One answer with what surrounds it on the wire; ``model`` is ``name:build``."""

    answer: Answer
    model: str
    created: int
    usage: Usage

    def document(self) -> dict[str, Any]:
        """The body of an answer without streaming."""
        message: dict[str, Any] = {"content": self.answer.text, "role": "assistant", **self._call()}
        if self.answer.reasoning is not None:
            message["reasoning_content"] = self.answer.reasoning
        choice = {"message": message, "index": 0, "finish_reason": self.answer.finish}
        return {"choices": [choice], **self._frame(), "usage": self.usage.as_dict()}

    def events(self, words: int, *, finish_with_call: bool) -> list[dict[str, Any]]:
        """The events of a stream, ``words`` words each; the last one carries the usage."""
        deltas: list[dict[str, Any]] = []
        if self.answer.reasoning is not None:
            deltas += [{"content": "", "reasoning_content": part} for part in chunks(self.answer.reasoning, words)]
        deltas += [{"content": part} for part in chunks(self.answer.text, words)]
        if self.answer.call is not None:
            deltas.append({"content": "", **self._call()})
        if not (finish_with_call and self.answer.call is not None):
            deltas.append({"content": ""})
        deltas[0]["role"] = "assistant"
        return [self._event(delta, last=index == len(deltas)) for index, delta in enumerate(deltas, 1)]

    def _event(self, delta: dict[str, Any], *, last: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"delta": delta, "index": 0}
        if not last:
            return {"choices": [choice], **self._frame()}
        choice["finish_reason"] = self.answer.finish
        return {"choices": [choice], **self._frame(), "usage": self.usage.as_dict()}

    def _frame(self) -> dict[str, Any]:
        return {"created": self.created, "model": self.model, "object": OBJECT}

    def _call(self) -> dict[str, Any]:
        call = self.answer.call
        if call is None:
            return {}
        return {
            "function_call": {"name": call.name, "arguments": call.arguments},
            "functions_state_id": call.state_id,
        }
