"""What plugins give to the gateway: small protocols, one for each kind of object that a hook returns.

Subclass a protocol to inherit its defaults, or satisfy it by shape. Every object has a ``name`` that is unique among
its kind. All of them may declare, as class or instance attributes:

``before``, ``after``
    names of objects of the same kind that must come later or earlier; they need not be installed.
``tier``
    a number that orders objects without a declared relation; lower comes first, 0 is usual.
``on_error``
    what an unexpected exception or a missed deadline means: ``"closed"`` refuses the request, ``"open"`` goes on as if
    the object were not there.
``deadline``
    seconds that an asynchronous hook may wait; the setting ``timeouts.hook`` is the default.
``idle``
    true while the object has nothing to do: a transform's ``on_request`` is left out then, and costs nothing. It is
    looked at when the gateway is put together and after each reload.
``lifespan``
    a method that returns an asynchronous context manager, entered when the gateway starts and left when it stops.
``readings``
    a method that tells in numbers how the object stands: it returns :class:`~gatewaykit.metrics.Reading` objects. It is
    called from any thread, whenever somebody looks at the metrics, and may not wait.
``reload``
    a method that gets newly read settings, checks them, and returns a function that puts them into force; all objects
    are asked before any of these functions is called. ``reloads`` names the sections that it heeds.
"""

from __future__ import annotations

from gatewaykit.protocols.context import GatewayContext, Reloaded, Settings, Tally
from gatewaykit.protocols.objects import (
    AroundCall,
    Authenticator,
    Dialect,
    Encoder,
    Known,
    Lifespan,
    Limiter,
    Named,
    Network,
    Observer,
    OnError,
    Ordered,
    Permit,
    Proceed,
    Provider,
    Readable,
    Router,
    Transform,
)

__all__ = [
    "AroundCall",
    "Authenticator",
    "Dialect",
    "Encoder",
    "GatewayContext",
    "Known",
    "Lifespan",
    "Limiter",
    "Named",
    "Network",
    "Observer",
    "OnError",
    "Ordered",
    "Permit",
    "Proceed",
    "Provider",
    "Readable",
    "Reloaded",
    "Router",
    "Settings",
    "Tally",
    "Transform",
]
