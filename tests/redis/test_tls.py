"""TLS to Redis, before which something else ends it here, as in front of many a managed one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from gatewaykit.errors import Unavailable
from gatewaykit.testing.servers import RedisServer

from .conftest import ECHO, PATIENT, eventually, link_to


@asynccontextmanager
async def behind_tls(server: RedisServer, authority: trustme.CA) -> AsyncIterator[int]:
    """The port of 127.0.0.1 on which ``server`` is reached over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    open_ends: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ends.add(writer)
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
            writer.close()
            await writer.wait_closed()
        open_ends.discard(writer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(server.socket)
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as proxy:
        yield proxy.sockets[0].getsockname()[1]
        await eventually(lambda: not open_ends)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Who signs certificates."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


async def test_calls_over_tls(server: RedisServer, authority: trustme.CA, tmp_path: Path) -> None:
    """With the authority's certificate named in the URL, calls go over TLS."""
    async with behind_tls(server, authority) as port:
        link = link_to(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/ca.pem", timeout=PATIENT)
        async with link.lifespan():
            assert await asyncio.gather(*(link.run(ECHO, [], ["x"]) for _ in range(5))) == [b"x"] * 5


async def test_a_certificate_of_a_stranger(server: RedisServer, authority: trustme.CA) -> None:
    """A server whose certificate nobody vouches for gets no call."""
    async with behind_tls(server, authority) as port:
        link = link_to(f"rediss://user:sesame@127.0.0.1:{port}", timeout=PATIENT)
        async with link.lifespan():
            with pytest.raises(Unavailable):
                await link.run(ECHO, [], ["x"])
