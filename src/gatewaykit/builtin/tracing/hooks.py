"""What happens on the client's time: a place in the trace for each attempt, and what is said, if that is kept."""

from __future__ import annotations

import time

from gatewaykit.builtin.tracing.places import MOST_CHARACTERS, STATE, Place, Try
from gatewaykit.builtin.tracing.tracer import Tracer
from gatewaykit.http import PROPAGATED
from gatewaykit.protocols import Transform
from gatewaykit.tracecontext import format_parent
from gatewaykit.types import Call, Event, Finished, Reply, Target, TextDelta

_LONGEST_TRACESTATE = 512


class Propagation(Transform):
    """Gives each attempt a span's id, and the provider the headers that name it (W3C Trace Context)."""

    name = "tracing"
    on_error = "open"

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def on_attempt(self, call: Call, target: Target) -> None:
        """A new span begins."""
        place: Place | None = call.state.get(STATE)
        if place is None:
            place = call.state[STATE] = self._tracer.place(call)
        begun = Try(target, self._tracer.span_id(), time.time_ns())
        place.tries.append(begun)
        trace_id = self._tracer.trace_id(call.incoming.headers.get("traceparent"), call.request_id)
        headers = {"traceparent": format_parent(trace_id, f"{begun.span_id:016x}", sampled=place.sampled)}
        state = call.incoming.headers.get("tracestate")
        if state and call.incoming.trace_id and len(state) <= _LONGEST_TRACESTATE:
            headers["tracestate"] = state
        PROPAGATED.set(headers)


class Content(Transform):
    """Keeps the text of the answer for the span. Bytes do not pass unread where it takes part."""

    name = "tracing-content"
    on_error = "open"

    def on_event(self, call: Call, event: Event) -> Event | None:
        """Note text and reasons."""
        place: Place | None = call.state.get(STATE)
        if place is not None and call.request.stream:
            if isinstance(event, TextDelta):
                _keep(place, event.text)
            elif isinstance(event, Finished):
                place.reasons.append(event.reason)
        return event

    def on_reply(self, call: Call, reply: Reply) -> Reply:
        """Note the whole answer."""
        place: Place | None = call.state.get(STATE)
        if place is not None:
            for choice in reply.choices:
                _keep(place, choice.text)
                place.reasons.append(choice.finish_reason)
        return reply


def _keep(place: Place, text: str) -> None:
    if place.said is None:
        place.said = []
    if sum(map(len, place.said)) < MOST_CHARACTERS:
        place.said.append(text)
