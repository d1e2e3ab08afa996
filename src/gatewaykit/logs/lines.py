"""What a line looks like: flat JSON for machines, columns and colours for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from gatewaykit.current import REQUEST
from gatewaykit.logs.redaction import Redactor

if TYPE_CHECKING:
    from loguru import Message

_encode = msgspec.json.Encoder(enc_hook=str).encode
_COLOURS = {"debug": "34", "info": "32", "success": "32", "warning": "33", "error": "31", "critical": "1;31"}
_DIM = "2"


def no_colours() -> bool:
    """Whether the user wants none (no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def visible(line: str) -> str:
    """``line`` with nothing in it that would move a cursor or begin another line: much of it may be a client's."""
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def painted(text: str, colour: str, wanted: bool = True) -> str:
    """``text`` in a colour of ECMA-48 (SGR), if colours are wanted."""
    return f"\x1b[{colour}m{text}\x1b[0m" if wanted else text


def encode_line(document: Mapping[str, Any]) -> bytes:
    """One line of JSON."""
    try:
        return _encode(document) + b"\n"
    except UnicodeEncodeError:
        return _encode(_encodable(document)) + b"\n"


def _encodable(value: Any) -> Any:
    """Texts with halves of surrogate pairs (a file's name, say) spelt out."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case Mapping():
            return {_encodable(str(name)): _encodable(item) for name, item in value.items()}
        case list() | tuple():
            return [_encodable(item) for item in value]
        case _:
            return value


def json_line(message: Message, redact: Redactor) -> bytes:
    """A record of loguru; its text is nothing but the formatted exception."""
    record = message.record
    document: dict[str, Any] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "event": "log",
        "logger": record["extra"].get("module", ""),
        "message": redact(record["message"]),
    }
    if (incoming := REQUEST.get()) is not None:
        document["request_id"] = incoming.request_id
        if incoming.trace_id is not None:
            document["trace_id"] = incoming.trace_id
    for name, value in redact.fields(_extras(message)).items():
        document.setdefault(name, value)
    if (exception := record["exception"]) is not None:
        document["error_type"] = exception.type.__name__ if exception.type else None
        document["exception"] = redact(str(message).strip())
    return encode_line(document)


def text_line(message: Message, redact: Redactor, colours: bool) -> str:
    """The same for people: one line, and the exception below, set in: nothing of it looks like a line of its own."""
    record = message.record
    level = record["level"].name.lower()
    when = painted(record["time"].strftime("%H:%M:%S"), _DIM, colours)
    word = painted(f"{level:<8}", _COLOURS.get(level, "0"), colours)
    notes = [record["extra"].get("module", "")]
    notes += [f"{name}={value}" for name, value in redact.fields(_extras(message)).items()]
    if (incoming := REQUEST.get()) is not None:
        notes.append(incoming.request_id)
    said = visible(redact(record["message"]))
    head = f"{when}  {word}  {said}  {painted(visible('  '.join(notes)), _DIM, colours)}\n"
    exception = redact(str(message).strip())
    return head + "".join(f"    {visible(line)}\n" for line in exception.split("\n")) if exception else head


def _extras(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.record["extra"].items() if name != "module"}


def clock(seconds: float) -> str:
    """A moment in unix time, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
