"""Which limits a call is under, and what it is charged before it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Self, TypeAlias

from msgspec import Struct

from gatewaykit.admission import matches
from gatewaykit.builtin.limits.headers import OWN, Teller
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import PriceUnknown
from gatewaykit.limiting import Charges
from gatewaykit.limits import Limit
from gatewaykit.pricing import PriceBook
from gatewaykit.types import (
    CACHE,
    AudioPart,
    Call,
    ChatRequest,
    EmbeddingsRequest,
    FilePart,
    ImagePart,
    ModelsRequest,
    Principal,
    Request,
    Usage,
)

_CHARACTERS_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_ATTACHMENT = 1500
_MOST_PLANS = 4096

InOrder: TypeAlias = Callable[[Mapping[str, int]], Sequence[int]]


class Plan(Struct, frozen=True):
    """The limits of one principal's calls of one model, its own first: ``held`` are those of them that are settled
    afterwards, ``budgets`` the positions and keys of those of money. ``amounts`` and ``held_amounts`` put amounts by
    unit into the order of the limits and of the held ones; ``tokens`` says whether those of a call have to be known.
    """

    principal: Principal
    limits: tuple[Limit, ...]
    held: tuple[Limit, ...]
    amounts: InOrder
    held_amounts: InOrder
    budgets: tuple[tuple[int, str], ...]
    tokens: bool
    teller: Teller

    @classmethod
    def of(cls, principal: Principal, limits: tuple[Limit, ...]) -> Self:
        """The plan of a principal's ``limits``."""
        held = tuple(limit for limit in limits if limit.held)
        return cls(
            principal,
            limits,
            held,
            _in_order(limits),
            _in_order(held),
            tuple((position, limit.key) for position, limit in enumerate(limits) if limit.unit == "money"),
            any(limit.unit in {"tokens", "money"} for limit in limits),
            Teller(limits),
        )


def _in_order(limits: Sequence[Limit]) -> InOrder:
    if len(limits) < 2:
        return lambda amounts: [amounts[limit.unit] for limit in limits]
    return itemgetter(*(limit.unit for limit in limits))


class Plans:
    """Finds the limits of calls; remembers them by principal and model."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._settings = settings
        self._all = tuple(settings.all.limits("all"))
        self._known: dict[tuple[int, str, type], Plan] = {}

    def plan(self, principal: Principal, request: Request) -> Plan:
        """The plan for ``request``."""
        key = (id(principal), request.model, type(request))
        known = self._known.get(key)
        if known is not None and known.principal is principal:
            return known
        if len(self._known) >= _MOST_PLANS:
            self._known.clear()
        limits = tuple(sorted(self._limits(principal, request.model), key=_is_of_others))
        if isinstance(request, ModelsRequest):
            limits = tuple(limit for limit in limits if limit.unit == "requests" and limit.whose != "model")
        plan = self._known[key] = Plan.of(principal, limits)
        return plan

    def own(self, principal: Principal) -> tuple[Limit, ...]:
        """The limits of the principal's key and account, whatever it asks for."""
        return tuple(limit for limit in self._limits(principal, "") if limit.whose in OWN)

    def _limits(self, principal: Principal, model: str) -> Iterator[Limit]:
        key = f"key:{principal.id}"
        settings = self._settings
        named = settings.keys.get(principal.id)
        own = [*principal.limits, *(named.limits(key) if named else ())]
        yield from _without_doubles(own, settings.each_key.limits(key))
        if principal.owner:
            user = f"user:{principal.owner}"
            yield from _missing([limit for limit in own if limit.subject == user], settings.each_user.limits(user))
        for glob, table in settings.models.items():
            if matches((glob,), model):
                yield from table.limits(f"model:{glob}")
        yield from self._all


def _is_of_others(limit: Limit) -> bool:
    return limit.whose not in OWN


def _without_doubles(own: Iterable[Limit], defaults: Iterable[Limit]) -> Iterator[Limit]:
    """``own``, the strictest where two count the same, and those defaults that count what none of them does."""
    strictest: dict[str, Limit] = {}
    for limit in own:
        known = strictest.get(limit.key)
        if known is None or limit.amount < known.amount:
            strictest[limit.key] = limit
    yield from strictest.values()
    yield from _missing(strictest.values(), defaults)


def _missing(own: Iterable[Limit], defaults: Iterable[Limit]) -> Iterator[Limit]:
    kinds = {(limit.subject, limit.name) for limit in own}
    return (limit for limit in defaults if (limit.subject, limit.name) not in kinds)


class Estimator:
    """What a call may use at most, as far as can be told before it is made."""

    def __init__(self, book: PriceBook, *, output_tokens: int) -> None:
        self._book = book
        self._output_tokens = output_tokens

    def charges(self, call: Call, plan: Plan) -> Charges:
        """The charges of ``call``. Raises :class:`~gatewaykit.errors.PriceUnknown` for a budget without a price."""
        amounts = {"requests": 1, "concurrency": 1, "tokens": 0, "money": 0}
        if plan.tokens and not isinstance(call.request, ModelsRequest):
            asked, answered = self._tokens(call.request)
            amounts["tokens"] = asked + answered
            if plan.budgets:
                amounts["money"] = self._ceiling(call, asked, answered)
        return Charges(plan.limits, plan.amounts(amounts))

    def _tokens(self, request: ChatRequest | EmbeddingsRequest) -> tuple[int, int]:
        """Tokens asked, and answered at most."""
        if isinstance(request, EmbeddingsRequest):
            return input_tokens(request), 0
        return prompt_tokens(request), (request.max_tokens or self._output_tokens) * request.n

    def settled(self, call: Call, plan: Plan, usage: Usage | None) -> Charges:
        """What was really used of the limits that are held; nothing, if ``usage`` is None."""
        amounts = {"concurrency": 0, "tokens": 0, "money": 0}
        if usage is not None and not _was_kept(call):
            amounts["tokens"] = usage.total_tokens
            if plan.budgets:
                amounts["money"] = self._spend(call, usage)
        return Charges(plan.held, plan.held_amounts(amounts))

    def _ceiling(self, call: Call, asked: int, answered: int) -> int:
        spend = self._book.ceiling(call.targets, asked, answered)
        if spend is None:
            if self._book.unknown == "refuse":
                raise PriceUnknown(param="model")
            return 0
        return spend

    def _spend(self, call: Call, usage: Usage) -> int:
        target = call.attempts[-1].target if call.attempts else None
        cost = self._book.cost(target, usage) if target is not None else None
        return 0 if cost is None else cost.spend


def _was_kept(call: Call) -> bool:
    """Whether the answer was kept from an earlier call, and nobody generated it."""
    return bool(call.attempts) and call.attempts[-1].target.provider == CACHE


def input_tokens(request: EmbeddingsRequest) -> int:
    """A generous guess of the tokens of all texts."""
    return sum(
        math.ceil(len(text) / _CHARACTERS_PER_TOKEN) + 1 if isinstance(text, str) else len(text)
        for text in request.input
    )


def prompt_tokens(request: ChatRequest) -> int:
    """A generous guess of the prompt's tokens. No tokeniser: that would hold up the event loop for everybody else."""
    characters = 0
    extra = _TOKENS_PER_MESSAGE * len(request.messages)
    for message in request.messages:
        if isinstance(message.content, str):
            characters += len(message.content)
        else:
            for part in message.content:
                if isinstance(part, ImagePart | AudioPart | FilePart):
                    extra += _TOKENS_PER_ATTACHMENT
                else:
                    characters += len(part.text)
        for made in message.tool_calls:
            characters += len(made.name) + len(made.arguments)
    for tool in request.tools:
        characters += len(tool.name) + len(tool.description or "") + len(repr(tool.parameters))
    return extra + -(-characters // _CHARACTERS_PER_TOKEN)
