"""Two relays without features: what a Python gateway on uvicorn and aiohttp can reach at best.

    python references.py {asgi,starlette} --port PORT --upstream-port PORT [--workers N]

`asgi` is one ASGI callable; `starlette` adds a route with request and response objects, and is the reference, ratio 1.
Both forward the body with its content type to the upstream's chat address and relay status, content type and body; an
event stream is relayed chunk by chunk as aiohttp yields it. No key, no log, no retries, no limits.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

JSON_HEADERS = {"content-type": "application/json"}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def upstream_url() -> str:
    """The chat address of the upstream whose port stands in the environment."""
    return f"http://127.0.0.1:{os.environ['BENCH_UPSTREAM_PORT']}/v1/chat/completions"


def open_session() -> aiohttp.ClientSession:
    """A client session without a limit of connections or time."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))


class AsgiRelay:
    """The bare relay: an ASGI callable and its client session."""

    def __init__(self) -> None:
        self.url = upstream_url()
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        else:
            await self.relay(receive, send)

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Opens and closes the session as the server starts and stops."""
        await receive()
        async with open_session() as self.session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def relay(self, receive: Receive, send: Send) -> None:
        """One request to the upstream and its answer back, whatever the path."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert self.session is not None
        async with self.session.post(self.url, data=body, headers=JSON_HEADERS) as answer:
            headers = [(b"content-type", answer.content_type.encode())]
            if answer.content_type != "text/event-stream":
                whole = await answer.read()
                headers.append((b"content-length", str(len(whole)).encode()))
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": whole})
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def stream_of(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The answer's bytes as they arrive; releases the connection at the end."""
    async with answer:
        async for chunk in answer.content.iter_any():
            yield chunk


async def chat(request: Request) -> Response:
    """The Starlette route: the same relay with request and response objects."""
    state = request.app.state
    answer = await state.session.post(state.url, data=await request.body(), headers=JSON_HEADERS)
    if answer.content_type == "text/event-stream":
        return StreamingResponse(stream_of(answer), status_code=answer.status, media_type=answer.content_type)
    async with answer:
        return Response(await answer.read(), status_code=answer.status, media_type=answer.content_type)


@asynccontextmanager
async def session_of(app: Starlette) -> AsyncIterator[None]:
    """Keeps a session open while the application lives."""
    app.state.url = upstream_url()
    async with open_session() as app.state.session:
        yield


def asgi() -> AsgiRelay:
    """Factory of the pure ASGI relay."""
    return AsgiRelay()


def starlette() -> Starlette:
    """Factory of the Starlette relay."""
    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=session_of)


def main() -> None:
    """Serves one of the two relays on 127.0.0.1."""
    parser = argparse.ArgumentParser(description="A relay without features")
    parser.add_argument("kind", choices=["asgi", "starlette"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream-port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    os.environ["BENCH_UPSTREAM_PORT"] = str(options.upstream_port)
    uvicorn.run(
        f"references:{options.kind}",
        factory=True,
        app_dir=str(Path(__file__).parent),
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
