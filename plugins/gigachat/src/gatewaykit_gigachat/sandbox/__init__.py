"""A local GigaChat: the v1 API and its token endpoints, with deterministic answers and scripted faults.

It needs no key, no network and no certificate, keeps everything in memory, and behaves towards its
client as the service is documented and recorded to behave: statuses, error texts, headers, key
order and event format. ``running_sandbox()`` runs one inside a program, ``create_sandbox()`` makes
the ASGI application, and ``gatewaykit-gigachat sandbox`` serves one from a shell.

**Served** under ``/api/v1`` and ``/v1``: ``/models``, ``/chat/completions`` (JSON and SSE), ``/embeddings``,
``/files``, ``/tokens/count``, ``/balance``, ``/functions/validate`` and ``/token``; ``/api/v2/oauth``; and, for
control, ``/_sandbox/faults`` and ``/_sandbox/stats``. Chat v2, threads, assistants, batches and ``/ai/check`` are not.

**Credentials** by default: the authorization keys are base64 of ``sandbox-pers:sandbox-secret``,
``sandbox-b2b:sandbox-secret`` and ``sandbox-corp:sandbox-secret``, each for its own scope; the user is
``sandbox`` with the password ``sandbox-password``.

**What the model answers** depends on the request alone:

1. A function is called when ``function_call`` names it, or when the last message is no function result,
   ``function_call`` is not ``none`` and the last user message holds the name of a function or the trigger
   ``[[call]]`` (then the first function is called). The arguments are made from its schema.
2. With ``response_format`` of type ``json_schema`` the answer is a document made from the schema.
3. After a function result: ``The function NAME returned: RESULT``.
4. ``repeat: TEXT`` (``повтори: TEXT``) is answered with TEXT, and ``say N words`` (``скажи N слов``) with
   ``word1 word2 … wordN``, at most 10 000.
5. Everything else is echoed in a sentence of its own language, Russian or English, with the attachments
   of that message named.

``max_tokens`` cuts the text and gives ``finish_reason`` ``length``. A token is 3.5 characters. A stream has one event
for every three words (``words_per_event``), then the event with ``finish_reason`` and usage, then ``[DONE]``.

**Faults** are scripted in four places, of which the first one found counts: the header
``X-Sandbox-Fault: status=503; retry-after=2``; ``app.state.sandbox.faults.push("status=503", times=2)``, or the
same by ``POST /_sandbox/faults``; ``[[fault: status=503]]`` at the end of the model's name; and the same in the last
user message, so that it passes through any gateway. The grammar is in :mod:`.faults`.
"""

from __future__ import annotations

from .app import create_sandbox
from .faults import Fault, FaultQueue, FaultSyntaxError
from .server import RunningSandbox, SandboxServer, TlsFiles, bound_socket, running_sandbox, url_of
from .settings import B2B, CORP, PERS, Account, Client, ModelCard, SandboxSettings
from .state import Sandbox
from .stats import Entry, Journal, Stats

__all__ = [
    "B2B",
    "CORP",
    "PERS",
    "Account",
    "Client",
    "Entry",
    "Fault",
    "FaultQueue",
    "FaultSyntaxError",
    "Journal",
    "ModelCard",
    "RunningSandbox",
    "Sandbox",
    "SandboxServer",
    "SandboxSettings",
    "Stats",
    "TlsFiles",
    "bound_socket",
    "create_sandbox",
    "running_sandbox",
    "url_of",
]
