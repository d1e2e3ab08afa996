"""The sandbox's own endpoints: planning faults and reading the counters."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from .body import decode, shaped
from .faults import FaultSyntaxError
from .refusals import Refusal, api_refusal
from .replies import json_response
from .state import Sandbox


class PlannedFault(Struct):
    """A fault for the next ``times`` requests (null: until cleared) to ``path`` (null: any)."""

    fault: str
    times: int | None = 1
    path: str | None = None


async def faults(request: Request) -> Response:
    """``POST /_sandbox/faults`` plans a fault, ``DELETE`` forgets all, ``GET`` says how many are left."""
    sandbox: Sandbox = request.app.state.sandbox
    if request.method == "DELETE":
        sandbox.faults.clear()
    elif request.method == "POST":
        try:
            planned = shaped(decode(await request.body()), PlannedFault)
            sandbox.faults.push(planned.fault, times=planned.times, path=planned.path)
        except Refusal as refusal:
            return refusal.response({})
        except (FaultSyntaxError, ValueError) as error:
            return api_refusal(400, f"Sandbox fault: {error}").response({})
    return json_response({"planned": len(sandbox.faults)})


async def stats(request: Request) -> Response:
    """``GET /_sandbox/stats``."""
    sandbox: Sandbox = request.app.state.sandbox
    return json_response(sandbox.stats.as_dict())
