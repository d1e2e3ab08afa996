"""What a translated request is, and the choices that an operator has in translating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from gatewaykit.types import EMPTY

CachedTokens: TypeAlias = Literal["auto", "yes", "no"]


class ConvertOptions(msgspec.Struct, frozen=True):
    """Where GigaChat and its clients differ, what to do. The defaults honour as much as can be, and refuse least.

    ``cached_tokens_included``
        Whether ``prompt_tokens`` holds the cached tokens too. ``auto`` adds them only when there are more of them than
        prompt tokens, which cannot be otherwise.
    ``send_state_id``
        Send ``functions_state_id`` back with a call of the history; some models refuse it.
    ``profanity_check``
        Sent as it is; ``None`` leaves it to the service and to the client. A client cannot override another value.
    ``flags``
        Feature flags of the service, sent with every request; a client may add to them.
    ``unsupported``
        ``report`` names what cannot be honoured in the answer's header; ``refuse`` answers 400.
    ``json_object``
        ``instruct`` asks for JSON in the system message and reports it, for there is no such mode; ``refuse``
        answers 400.
    ``json_schema``
        ``native`` uses the service's own mode; ``function`` forces a function of that schema, for models without it.
    ``required_tool``
        With several tools nothing can force a call. ``report`` passes the answer on; ``insist`` holds it back until a
        tool is called, and fails if none is.
    ``frequency_penalty``
        ``report``: it is not honoured; ``repetition_penalty``: it becomes ``1 + x/2``, a rule of thumb.
    ``think_tags``
        Turn a leading ``<think>…</think>`` of the text into reasoning.
    """

    cached_tokens_included: CachedTokens = "auto"
    send_state_id: bool = False
    profanity_check: bool | None = None
    flags: tuple[str, ...] = ()
    unsupported: Literal["report", "refuse"] = "report"
    json_object: Literal["instruct", "refuse"] = "instruct"
    json_schema: Literal["native", "function"] = "native"
    required_tool: Literal["report", "insist"] = "report"
    frequency_penalty: Literal["report", "repetition_penalty"] = "report"
    think_tags: bool = False


_DEFAULTS = ConvertOptions()


class Translation(msgspec.Struct, gc=False):
    """A request in GigaChat's words, and what is needed to read its answer.

    ``body`` is the JSON object for ``POST /chat/completions`` without ``stream``. ``ignored`` names the client's
    parameters that were not, or not fully, honoured. ``names`` leads from a function's alias to the client's tool.
    ``answer_function`` is the function whose arguments are the answer's text. ``call_ids`` are taken already.
    """

    body: dict[str, Any]
    ignored: tuple[str, ...] = ()
    names: Mapping[str, str] = EMPTY
    stop: tuple[str, ...] = ()
    answer_function: str | None = None
    must_call: bool = False
    call_ids: frozenset[str] = frozenset()
    options: ConvertOptions = _DEFAULTS


__all__ = ["CachedTokens", "ConvertOptions", "Translation"]
