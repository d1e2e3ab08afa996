"""Files that messages refer to: what may be attached, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .call import Call
from .chat_request import ChatMessage
from .refusals import api_refusal, invalid
from .settings import ModelCard
from .store import StoredFile
from .text import CHARACTERS_PER_TOKEN

MOST_IMAGES = 10


@dataclass(frozen=True)
class Attachments:
    """The files of the last user message, and the tokens of the request's first text document."""

    of_last: Sequence[StoredFile]
    document_tokens: int


def check_attachments(call: Call, messages: Sequence[ChatMessage], card: ModelCard) -> Attachments:
    """Find every attached file; 403, 404, 413 or 422 for what the service refuses."""
    files: list[StoredFile] = []
    last: list[StoredFile] = []
    for message in messages:
        if message.attachments and message.role != "user":
            raise invalid("attachments are allowed in user messages only")
        found = [
            call.sandbox.files.get(call.grant.client_id, call.client_id, file_id)
            for file_id in message.attachments or ()
        ]
        _check_message(found)
        files += found
        last = found if message.role == "user" else last
    _check_media(call, files, card)
    return Attachments(last, _document_tokens(files, card))


def _check_message(files: Sequence[StoredFile]) -> None:
    kinds = [file.modality for file in files]
    if kinds.count("image") > 1:
        raise invalid("only one image per message is allowed")
    if len(set(kinds)) > 1:
        raise invalid("attachments of one message must be of one kind")


def _check_media(call: Call, files: Sequence[StoredFile], card: ModelCard) -> None:
    images = [file for file in files if file.modality == "image"]
    if images and not card.vision:
        raise api_refusal(422, "Requested model does not support images")
    if len(images) > MOST_IMAGES:
        raise invalid(f"at most {MOST_IMAGES} images per request are allowed")
    media = sum(len(file.content) for file in files if file.modality != "text")
    if media >= call.sandbox.settings.max_media_per_request:
        raise api_refusal(413)


def _document_tokens(files: Sequence[StoredFile], card: ModelCard) -> int:
    first = next((file for file in files if file.modality == "text"), None)
    tokens = 0 if first is None else int(len(first.content) / CHARACTERS_PER_TOKEN)
    if tokens > card.context:
        raise api_refusal(422)
    return tokens
