"""The conditions of rules, compiled: each is a plain function, and the words that say what it wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from typing import TypeAlias

from msgspec import Struct

from gatewaykit.builtin.router.settings import RuleTable
from gatewaykit.types import Call, ChatRequest, ImagePart

CHARACTERS_PER_TOKEN = 4
Test: TypeAlias = Callable[[Call], bool]


class Condition(Struct, frozen=True):
    """One thing that a rule wants of a call."""

    text: str
    test: Test


class Rule(Struct, frozen=True):
    """A rule: where it sends calls for ``models`` that meet all ``conditions``. ``number`` is its place, from 1."""

    number: int
    to: str
    models: Callable[[str], bool]
    conditions: tuple[Condition, ...]

    def fits(self, call: Call) -> bool:
        """Whether the call meets every condition."""
        for condition in self.conditions:  # noqa: SIM110 - all() costs twice as much
            if not condition.test(call):
                return False
        return True

    def unmet(self, call: Call) -> list[str]:
        """What it wants and the call has not."""
        return [condition.text for condition in self.conditions if not condition.test(call)]


def compiled(rules: Sequence[RuleTable]) -> tuple[Rule, ...]:
    """The rules, in order."""
    return tuple(
        Rule(number, rule.to, _matching(rule.models), tuple(_conditions(rule))) for number, rule in enumerate(rules, 1)
    )


def prompt_tokens(call: Call) -> int:
    """A cautious guess of the prompt's length: a prompt is seldom shorter than that."""
    request = call.request
    if not isinstance(request, ChatRequest):
        return len(call.body) // CHARACTERS_PER_TOKEN
    return sum(len(message.text) for message in request.messages) // CHARACTERS_PER_TOKEN


def _conditions(rule: RuleTable) -> Iterator[Condition]:
    if rule.keys:
        key = _matching(rule.keys)
        yield Condition(f"key {_any_of(rule.keys)}", lambda call: key(call.principal.id))
    if rule.tenants:
        tenant = _matching(rule.tenants)
        yield Condition(f"tenant {_any_of(rule.tenants)}", lambda call: tenant(call.principal.tenant))
    for name, glob in rule.headers.items():
        yield Condition(f"header {name} {glob!r}", _header(name.lower(), glob))
    if (longer := rule.longer_than) is not None:
        yield Condition(f"more than {longer} tokens", lambda call: prompt_tokens(call) > longer)
    if (shorter := rule.shorter_than) is not None:
        yield Condition(f"fewer than {shorter} tokens", lambda call: prompt_tokens(call) < shorter)
    if (tools := rule.tools) is not None:
        yield Condition("tools" if tools else "no tools", lambda call: _has_tools(call) is tools)
    if (images := rule.images) is not None:
        yield Condition("images" if images else "no images", lambda call: _has_images(call) is images)


def _matching(globs: Sequence[str]) -> Callable[[str], bool]:
    """Whether any of the globs matches a whole text."""
    if "*" in globs:
        return lambda text: True
    if not any(mark in glob for glob in globs for mark in "*?["):
        return frozenset(globs).__contains__
    matches = re.compile("|".join(translate(glob) for glob in globs)).match
    return lambda text: matches(text) is not None


def _header(name: str, glob: str) -> Test:
    matches = _matching((glob,))
    return lambda call: (value := call.incoming.headers.get(name)) is not None and matches(value)


def _has_tools(call: Call) -> bool:
    return isinstance(call.request, ChatRequest) and bool(call.request.tools)


def _has_images(call: Call) -> bool:
    return isinstance(call.request, ChatRequest) and any(
        isinstance(part, ImagePart)
        for message in call.request.messages
        if not isinstance(message.content, str)
        for part in message.content
    )


def _any_of(globs: Sequence[str]) -> str:
    return " or ".join(repr(glob) for glob in globs)
