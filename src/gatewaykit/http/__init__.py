"""HTTP to providers: the one place that knows connections, parsers and client libraries.

:class:`HttpClient` is the data plane, for model calls: HTTP/1.1 over httptools' parser, and nothing that a model call
does not need. What is rare and wider than that (redirects, proxies, cookies, forms) uses :func:`control_client`, an
httpx client with safe defaults, whose import waits until then. Whatever goes wrong in either is told in the words of
:mod:`gatewaykit.errors`.
"""

from .client import MAX_ANSWER_BYTES, PROPAGATED, USER_AGENT, HttpAnswer, HttpClient, HttpStream
from .control import control_client
from .translation import translated_errors

__all__ = [
    "MAX_ANSWER_BYTES",
    "PROPAGATED",
    "USER_AGENT",
    "HttpAnswer",
    "HttpClient",
    "HttpStream",
    "control_client",
    "translated_errors",
]
