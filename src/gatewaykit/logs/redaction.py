"""Secrets out of texts: those that the settings know, and whatever looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

MASK = "***"
_SHORTEST = 8
"""Characters of a secret that is masked wherever it stands: shorter ones are words that logs need."""

_DEEPEST = 50
"""Containers within each other that are looked into; one that holds itself has no end."""

_NAMES = (
    r"(?:(?:x-)?api[-_]?keys?|(?:(?:access|refresh|id|auth|session|csrf|bearer|bot|api)[-_]?)?token|client[-_]?secret|"
    r"private[-_]?key|authorization(?:[-_]?key)?|pass(?:word|wd|phrase)|secret(?:[-_](?:access[-_])?key)?|pepper|"
    r"credentials?|(?:set-)?cookie|x-session-id)"
)
_LOOKS = (
    r"(?P<cookies>(?i:\bcookie)\s*:\s*)[^\s\"'][^\"'\r\n]*",  # all of them, as in the header (RFC 6265, 4.2)
    # key=value, "key": "value with \" or &", ('key', 'value'), ('key': b'value'), and that inside of a string
    rf"(?P<named>(?<![^\W_])(?i:{_NAMES}\b)(?:\\*[\"']?\s*[=:]\s*|\\*[\"']\s*,\s*)b?(?P<quote>\\*[\"'])?+)"
    r"(?(quote)(?:(?!(?P=quote))(?:\\[^\n]|[^\\\n]))++"
    r"|(?:(?i:bearer|basic|token)\s+)?[^\s\"'&,;(){}\[\]<>\\][^\s\"'&,;){}\]]*)",
    r"(?P<scheme>\b(?i:bearer|basic)\s+)[\w.~+/=-]{6,}",
    r"(?P<user>://[^/\s:@]*:)[^/\s]+(?=@)",
    # keys of gateways and services
    r"(?<![^\W_])(?:(?:gk[a-z]{0,2}|sk|rk|pk|gh[a-z]|xox[a-z]|glpat|hf)[-_][\w-]{16,}|AIza[\w-]{30,})",
    # JSON web tokens (RFC 7519), signed or encrypted. No letter is looked at twice: texts are as long as clients like.
    r"(?<![\w-])eyJ[\w-]{8,}+(?:\.[\w-]*+){1,4}",
    r"(?<=-)eyJ[\w-]{8,256}+(?:\.[\w-]*+){1,4}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
)
_replace = re.compile("|".join(_LOOKS), re.DOTALL).sub
_is_secret_name = re.compile(rf"(?:.*[\W_])?{_NAMES}", re.IGNORECASE | re.DOTALL).fullmatch


class Redactor:
    """Replaces secrets in texts by ``***``. ``known`` are secrets as they are: of the settings, say."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = sorted({secret for secret in known if len(secret) >= _SHORTEST}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """``text`` without secrets."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        return _replace(_masked, text)

    def fields(self, fields: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
        """Named values for a log line: those whose name says that they are secret are masked, all others redacted."""
        return {name: MASK if _is_secret_name(name) else self.value(value, depth) for name, value in fields.items()}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Anything that can be written as JSON, with all texts in it redacted; what cannot becomes text, and what
        lies too deep does, too.
        """
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self(value)
            case Mapping() if depth < _DEEPEST:
                return self.fields({as_text(name): item for name, item in value.items()}, depth + 1)
            case list() | tuple() if depth < _DEEPEST:
                return [self.value(item, depth + 1) for item in value]
            case _:
                return self(as_text(value))


def as_text(value: object) -> str:
    """``str()`` of anything, or its type's name where that fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever an object raises when it should describe itself
        return f"<{type(value).__name__}>"


def _masked(found: re.Match[str]) -> str:
    return (found["cookies"] or found["named"] or found["scheme"] or found["user"] or "") + MASK


def secrets_in(value: object) -> Iterator[str]:
    """Every secret in settings, and the passwords inside those that are URLs."""
    match value:
        case SecretStr():
            secret = value.get_secret_value()
            yield secret
            yield from _password(secret)
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets_in(getattr(value, name))
        case Mapping():
            for item in value.values():
                yield from secrets_in(item)
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from secrets_in(item)


def _password(url: str) -> Iterator[str]:
    try:
        password = urlsplit(url).password if "://" in url else None
    except ValueError:
        return
    if password:
        yield from {password, unquote(password)}
