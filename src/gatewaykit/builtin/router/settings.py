"""``[router]``: which model is where, and which target goes first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from gatewaykit.settings import Seconds, Section, Table

Strategy: TypeAlias = Literal["order", "weighted", "least_latency", "least_in_flight", "cheapest"]
Kind: TypeAlias = Literal[
    "unavailable",
    "timeout",
    "rate_limited",
    "unpaid",
    "context_too_long",
    "content_blocked",
    "auth_failed",
    "denied",
    "bad_answer",
    "no_such_model",
]
PLACE = r"^[^/\s]+/\S.*$"
_MOST_TARGETS = 256
_NUMBER = (int, float)
_PARAMETERS: Mapping[str, tuple[type, ...]] = {
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "seed": (int,),
    "top_logprobs": (int,),
    "logprobs": (bool,),
    "parallel_tool_calls": (bool,),
    "reasoning_effort": (str,),
    "user": (str,),
}
"""Parameters that the gateway has a word for; others are passed on as they are."""

_THE_CLIENT_S = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "response_format", "stop", "n", "input"}
)


class TargetTable(Table):
    """One target of a model."""

    to: str = Field(pattern=PLACE, max_length=512, description="`provider/model`.")
    priority: int = Field(1, ge=0, description="Targets with a lower number go before those with a higher one.")
    weight: float = Field(1.0, ge=0, le=100, description="Share among the targets of the same priority.")
    first_event: Seconds | None = Field(
        None, description="Seconds until its first event, instead of `timeouts.first_event`."
    )
    between_events: Seconds | None = Field(
        None, description="Seconds from one event of its stream to the next, instead of `timeouts.between_events`."
    )
    whole_call: Seconds | None = Field(
        None, description="Seconds for its whole answer, from when it is asked; within `timeouts.whole_call`."
    )
    context: int | None = Field(None, ge=1, description="Length of its context window in tokens.")
    parameters: dict[str, Any] = Field(
        {}, description="Request parameters, in OpenAI's words, that are sent where the client sets none."
    )

    @model_validator(mode="after")
    def _parameters_are_plain(self) -> Self:
        for name, value in self.parameters.items():
            if name in _THE_CLIENT_S:
                raise ValueError(f"parameters.{name} is the client's alone")
            wanted = _PARAMETERS.get(name, (object,))
            if not isinstance(value, wanted) or (isinstance(value, bool) and not {bool, object} & {*wanted}):
                raise ValueError(f"parameters.{name} must be of type {wanted[-1].__name__}")
        if {"max_tokens", "max_completion_tokens"} <= self.parameters.keys():
            raise ValueError("parameters.max_completion_tokens is the same as max_tokens")
        return self


class HedgeTable(Table):
    """When a second target is started beside a silent first."""

    after: Seconds = Field(2.0, description="Seconds without a first event; while no quantile is known, if one is set.")
    quantile: float | None = Field(
        0.95, gt=0, lt=1, description="Share of the first target's answers that begin in time; unset for `after` alone."
    )


class MirrorTable(Table):
    """A target that gets copies of requests, and whose answers nobody sees."""

    to: str = Field(pattern=PLACE, max_length=512, description="`provider/model`.")
    share: float = Field(1.0, ge=0, le=1, description="Share of the requests that are copied.")


class ModelTable(Table):
    """One model of the table: its targets, and how one of them is chosen."""

    targets: tuple[TargetTable, ...] = Field(
        min_length=1, max_length=_MOST_TARGETS, description="The targets, see below."
    )
    strategy: Strategy = Field(
        "order",
        description="Who goes first among targets of the same priority: as they stand, at random by weight, the one "
        "with the least latency or the fewest calls in flight, or the cheapest by `[prices]`.",
    )
    sticky: bool = Field(
        False, description="Send all turns of a conversation to one target, by weight, so that its prompt cache hits."
    )
    hedge: HedgeTable | None = Field(None, description="Start a second target beside a silent first; unset for never.")
    fallback: dict[Kind, tuple[str, ...]] = Field(
        {}, description="Targets to try after a failure of this kind, instead of the next ones; an empty list for none."
    )
    mirror: MirrorTable | None = Field(None, description="A target that gets copies of the requests.")

    @model_validator(mode="after")
    def _can_be_chosen(self) -> Self:
        for kind, places in self.fallback.items():
            _check_places(f"fallback.{kind}", places)
        if self.strategy == "weighted" and not any(target.weight for target in self.targets):
            raise ValueError("no target has a weight")
        return self


class RuleTable(Table):
    """Sends requests to another model: the first rule of which everything fits counts."""

    to: str = Field(min_length=1, max_length=512, description="A model of the table, an alias, or `provider/model`.")
    models: tuple[str, ...] = Field(("*",), description="Globs of the model that the client asks for.")
    keys: tuple[str, ...] = Field((), description="Globs of the key's id; none for any.")
    tenants: tuple[str, ...] = Field((), description="Globs of the tenant; none for any.")
    headers: dict[str, str] = Field({}, description="Globs of request headers that must be there, by name.")
    longer_than: int | None = Field(None, ge=0, description="Tokens of the prompt, taken as four characters each.")
    shorter_than: int | None = Field(None, ge=0, description="The same, from above.")
    tools: bool | None = Field(None, description="Whether the request offers tools.")
    images: bool | None = Field(None, description="Whether the request has images.")


class RouterSettings(Section):
    """Which model is where."""

    section = "router"

    default_provider: str | None = Field(None, description="Provider of models that no list names.")
    aliases: dict[str, tuple[str, ...]] = Field(
        {}, description="Targets by the name that clients use, each `provider/model`, best first."
    )
    models: dict[str, ModelTable] = Field({}, description="Models by the name that clients use; see docs/routing.md.")
    rules: tuple[RuleTable, ...] = Field((), description="What is sent to another model than the one asked for.")
    file: Path | None = Field(
        None,
        description="JSON file in which the admin API keeps models; they are stronger than those of the configuration. "
        "Unset, the table is changed by the configuration alone.",
    )
    refresh: Seconds = Field(300.0, description="Seconds between two looks at the providers' lists of models.")

    @model_validator(mode="after")
    def _are_targets(self) -> Self:
        for alias, targets in self.aliases.items():
            _check_places(f"aliases.{alias}", targets)
            if not targets:
                raise ValueError(f"aliases.{alias} has no target")
            if alias in self.models:
                raise ValueError(f"{alias!r} is both an alias and a model")
        return self


def _check_places(where: str, places: tuple[str, ...]) -> None:
    for place in places:
        provider, slash, model = place.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"{where}: {place!r} is not 'provider/model'")
