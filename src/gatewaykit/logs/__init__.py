"""Logs of a running gateway, by loguru: one JSON object a line for machines, or coloured text on a terminal.

Library code logs through the standard ``logging``, so that a host application keeps its own habits; only the command
line takes those records over: first :func:`hold_logs`, for nobody knows yet where they go, then :func:`configure_logs`.

::

    logging, uvicorn, sqlalchemy …  →  Intercept  →  loguru  →  lines  →  redaction  →  LineWriter  →  a stream or file
    access log  →  StructuredLines  ───────────────────────────↗                    (a thread of its own)
"""

from __future__ import annotations

from gatewaykit.logs.configuring import configure_logs, dropped_lines
from gatewaykit.logs.files import RotatingFile
from gatewaykit.logs.holding import HeldLogs, hold_logs
from gatewaykit.logs.intercepting import Intercept, Structured, StructuredLines
from gatewaykit.logs.lines import encode_line, no_colours, visible
from gatewaykit.logs.redaction import Redactor, secrets_in
from gatewaykit.logs.writing import LineWriter

__all__ = [
    "HeldLogs",
    "Intercept",
    "LineWriter",
    "Redactor",
    "RotatingFile",
    "Structured",
    "StructuredLines",
    "configure_logs",
    "dropped_lines",
    "encode_line",
    "hold_logs",
    "no_colours",
    "secrets_in",
    "visible",
]
