"""The conversation in GigaChat's order: one system message first, then turns, each call directly before its result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatewaykit.errors import BadRequest
from gatewaykit.types import ContentPart, Message, TextPart, ToolCall
from gatewaykit_gigachat.convert.results import arguments_object, result_document
from gatewaykit_gigachat.convert.tools import ToolNames

_STATE_ID = re.compile(r"call_([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:_\d{1,6})?")
_BLANK = " "
"""In place of an empty user message, which some models refuse."""


def call_id(state_id: str) -> str:
    """The id of a tool call that carries ``functions_state_id``, so that it comes back with the client's history."""
    return f"call_{state_id}"


def state_id(call: str) -> str | None:
    """The ``functions_state_id`` inside the id of a tool call, if there is one."""
    found = _STATE_ID.fullmatch(call)
    return found.group(1) if found else None


def convert_messages(
    messages: Sequence[Message],
    files: Mapping[ContentPart, str],
    names: ToolNames,
    *,
    instructions: Sequence[str] = (),
    send_state_id: bool = False,
) -> list[dict[str, Any]]:
    """The messages of the body. ``files`` are the ids of uploaded parts; ``instructions`` end the system message.

    Raises :class:`~gatewaykit.errors.BadRequest` naming the message that cannot be sent: a call without a result, a
    result without a call, an attachment where none can be.
    """
    if not instructions and (turns := _as_they_are(messages)):
        return turns
    history = _History(files, names, send_state_id)
    for index, message in enumerate(messages):
        history.add(index, message)
    return history.finish(instructions)


def _as_they_are(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns of a conversation that is in order: a system message first, if at all, then texts of the user and of
    the assistant. Empty where there is anything to put right.
    """
    turns: list[dict[str, Any]] = []
    users_turn = True
    for message in messages:
        role, text = message.role, message.content
        if type(text) is not str or message.tool_calls or not text.strip():
            return []
        if role == "user" and users_turn:
            users_turn = False
        elif role == "assistant":
            users_turn = True
        elif (role == "system" or role == "developer") and not turns:
            role, text = "system", text.strip()
        else:
            return []
        turns.append({"role": role, "content": text})
    return [] if turns and turns[-1]["role"] == "system" else turns


class _History:
    def __init__(self, files: Mapping[ContentPart, str], names: ToolNames, send_state_id: bool) -> None:
        self._files = files
        self._names = names
        self._send_state_id = send_state_id
        self._system: list[str] = []
        self._turns: list[dict[str, Any]] = []
        self._joinable = False
        self._calls: tuple[ToolCall, ...] = ()
        self._calls_at = 0
        self._results: dict[str, tuple[int, Message]] = {}

    def add(self, index: int, message: Message) -> None:
        role = message.role
        if role == "tool":
            self._result(index, message)
            return
        if role == "system" or role == "developer":
            self._refuse_attachments(index, message)
            if text := message.text.strip():
                self._system.append(text)
            return
        if self._calls:
            self._serialise()
        if role == "user":
            self._user(index, message)
        else:
            self._assistant(index, message)

    def finish(self, instructions: Sequence[str]) -> list[dict[str, Any]]:
        if self._calls:
            self._serialise()
        system = "\n\n".join(self._system)
        if not self._turns:
            if not system:
                raise BadRequest("There is nothing to answer in the messages.", param="messages")
            # a system message alone is not a conversation: the service itself reads it as the user's
            self._turns.append({"role": "user", "content": system})
            system = ""
        if instructions:
            system = "\n\n".join([system, *instructions] if system else instructions)
        return [{"role": "system", "content": system}, *self._turns] if system else self._turns

    def _user(self, index: int, message: Message) -> None:
        content = message.content
        if isinstance(content, str):
            self._say(content)
            return
        if all(isinstance(part, TextPart) for part in content):
            self._say(message.text)
            return
        self._turns += self._attached(index, content)
        self._joinable = False

    def _say(self, text: str) -> None:
        """Add the user's text, to the message before if that is the user's text too."""
        if not self._joinable:
            self._turns.append({"role": "user", "content": text if text.strip() else _BLANK})
            self._joinable = True
        elif text.strip():
            last = self._turns[-1]
            last["content"] = text if last["content"] == _BLANK else f"{last['content']}\n\n{text}"

    def _attached(self, index: int, content: Sequence[ContentPart]) -> Iterator[dict[str, Any]]:
        """The user's messages for these parts, in order: each has one attachment and the texts around it."""
        texts: list[str] = []
        attachment: str | None = None
        for number, part in enumerate(content):
            if isinstance(part, TextPart):
                texts.append(part.text)
                continue
            file_id = self._files.get(part) or getattr(part, "file_id", None)
            if file_id is None:
                raise BadRequest("This attachment was not uploaded.", param=f"messages[{index}].content[{number}]")
            if attachment is not None:
                yield _user_message(texts, attachment)
                texts = []
            attachment = file_id
        if attachment is not None:
            yield _user_message(texts, attachment)

    def _assistant(self, index: int, message: Message) -> None:
        self._refuse_attachments(index, message)
        if text := message.text:
            self._turns.append({"role": "assistant", "content": text})
            self._joinable = False
        if message.tool_calls:
            self._calls, self._calls_at = message.tool_calls, index
            if len({call.id for call in message.tool_calls}) < len(message.tool_calls):
                raise BadRequest("Two tool calls have the same id.", param=f"messages[{index}].tool_calls")

    def _result(self, index: int, message: Message) -> None:
        known = message.tool_call_id
        if known is None or all(call.id != known for call in self._calls):
            raise BadRequest(
                "This result belongs to no tool call of the assistant's message before it.",
                param=f"messages[{index}].tool_call_id",
            )
        if known in self._results:
            raise BadRequest("There is a result for this tool call already.", param=f"messages[{index}].tool_call_id")
        self._results[known] = (index, message)

    def _serialise(self) -> None:
        """Write the waiting calls, each with its result behind it, for one message can hold only one call."""
        attached: list[dict[str, Any]] = []
        for number, call in enumerate(self._calls):
            if call.id not in self._results:
                raise BadRequest(
                    "This tool call has no result: every call must be answered by a message with role 'tool'.",
                    param=f"messages[{self._calls_at}].tool_calls[{number}]",
                )
            index, result = self._results[call.id]
            self._turns += self._pair(call, result)
            if not isinstance(result.content, str):
                attached += self._attached(index, [part for part in result.content if not isinstance(part, TextPart)])
        self._turns += attached
        self._calls, self._results, self._joinable = (), {}, False

    def _pair(self, call: ToolCall, result: Message) -> tuple[dict[str, Any], dict[str, Any]]:
        name = self._names.alias(call.name)
        asked: dict[str, Any] = {
            "role": "assistant",
            "content": "",
            "function_call": {"name": name, "arguments": arguments_object(call.arguments)},
        }
        if self._send_state_id and (state := state_id(call.id)):
            asked["functions_state_id"] = state
        return asked, {"role": "function", "name": name, "content": result_document(result.text)}

    def _refuse_attachments(self, index: int, message: Message) -> None:
        if isinstance(message.content, str):
            return
        for number, part in enumerate(message.content):
            if not isinstance(part, TextPart):
                raise BadRequest(
                    f"A message with role '{message.role}' cannot have attachments.",
                    param=f"messages[{index}].content[{number}]",
                )


def _user_message(texts: list[str], attachment: str) -> dict[str, Any]:
    text = "\n".join(texts)
    return {"role": "user", "content": text if text.strip() else _BLANK, "attachments": [attachment]}


__all__ = ["call_id", "convert_messages", "state_id"]
