"""Clients that describe themselves: the id is the https address of a document (Client ID Metadata Documents).

Fetching an address that a stranger names is dangerous, so: https only, one name look-up whose address is then used, no
address that is not public, no redirects, little time, few bytes, few at a time. Errors are not remembered; while a host
is away, its clients are as they were, for a day at most.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from gatewaykit.addresses import Resolver, is_public, system_resolver
from gatewaykit.errors import Unavailable

from ..changes.feed import ended
from .assertions import METHOD, is_key_set
from .model import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN, USUAL_SCOPES, Client
from .redirects import MOST, is_safe

SECONDS = 5.0
LONGEST_BODY = 16 * 1024
SHORTEST_CACHE, LONGEST_CACHE = 300.0, 86_400.0
AGAIN = 60.0
"""Seconds after which a host is asked again that was away."""

AT_ONCE = 8
_SIZE = 1000
_LONGEST_ID = 500
_max_age = re.compile(r"max-age=(\d{1,9})").search
_GRANTS = (AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE)
logger = logging.getLogger(__name__)


def is_document_id(client_id: str) -> bool:
    """Whether the id is meant to be an address."""
    return client_id.startswith(("https://", "http://"))


def is_safe_id(client_id: str) -> bool:
    """Whether it may be fetched at all: https with a path, without dot segments, fragment, query and user."""
    try:
        parts = urlsplit(client_id)
        _ = parts.port
    except ValueError:
        return False
    plain = re.fullmatch(r"[A-Za-z0-9:/._~%-]+", client_id) is not None and len(client_id) <= _LONGEST_ID
    segments = parts.path.lower().replace("%2e", ".").split("/")
    return (
        plain
        and parts.scheme == "https"
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and parts.path not in {"", "/"}
        and not {".", ".."} & set(segments)
    )


class Kept(msgspec.Struct, frozen=True):
    """A client that is believed ``until`` then, and up to its ``end`` where its host is away, in monotonic time."""

    client: Client
    until: float
    end: float


class Documents:
    """Fetches and remembers them. ``enabled`` is the operator's word that there may be such clients.

    ``resolve`` finds the addresses of a host; ``context`` says which certificates are believed.
    """

    def __init__(
        self, *, enabled: bool, resolve: Resolver = system_resolver, context: ssl.SSLContext | None = None
    ) -> None:
        self._enabled = enabled
        self._resolve = resolve
        self._context = context
        self._known: OrderedDict[str, Kept] = OrderedDict()
        self._fetching: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[Client | None]] = {}

    async def client(self, client_id: str) -> Client | None:
        """The client that the document describes; None if it cannot be had or describes none. All who ask for one at
        the same time fetch it once.

        Raises :class:`~gatewaykit.errors.Unavailable` while too many others are fetched.
        """
        if not self._enabled or not is_safe_id(client_id):
            return None
        known = self._known.get(client_id)
        if known is not None and time.monotonic() < known.until:
            return known.client
        asked = (asyncio.get_running_loop(), client_id)
        task = self._fetching.get(asked)
        if task is None:
            if len(self._fetching) >= AT_ONCE:
                raise Unavailable(retry_after=1.0, detail="client documents: too many are being fetched")
            task = asyncio.create_task(self._fetched(client_id), name="gatewaykit-client-document")
            self._fetching[asked] = task
            task.add_done_callback(lambda _: self._fetching.pop(asked))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """End what is under way in this event loop."""
        here = asyncio.get_running_loop()
        await ended([task for (loop, _), task in self._fetching.items() if loop is here])

    async def _fetched(self, client_id: str) -> Client | None:
        try:
            async with asyncio.timeout(SECONDS):
                body, headers = await self._fetch(client_id)
            found = described_client(client_id, body)
            if (keys := keys_address(body)) is not None:
                async with asyncio.timeout(SECONDS):
                    found = with_keys(found, msgspec.json.decode((await self._fetch(keys))[0]))
        except (OSError, ValueError, EOFError, RecursionError, asyncio.LimitOverrunError) as error:
            logger.info("the client document %s cannot be used: %s", client_id, type(error).__name__)
            if isinstance(error, OSError | EOFError):
                return self._as_it_was(client_id)
            self._known.pop(client_id, None)
            return None
        now = time.monotonic()
        self._remember(client_id, Kept(found, now + _lasting(headers), now + LONGEST_CACHE))
        return found

    def _as_it_was(self, client_id: str) -> Client | None:
        known, now = self._known.get(client_id), time.monotonic()
        if known is None or now >= known.end:
            return None
        self._remember(client_id, msgspec.structs.replace(known, until=now + AGAIN))
        return known.client

    def _remember(self, client_id: str, known: Kept) -> None:
        self._known[client_id] = known
        self._known.move_to_end(client_id)
        if len(self._known) > _SIZE:
            self._known.popitem(last=False)

    async def _fetch(self, client_id: str) -> tuple[bytes, dict[str, str]]:
        """A plain HTTP/1.1 exchange: what the guard promises is easiest to see where nothing is hidden."""
        parts = urlsplit(client_id)
        host, port = str(parts.hostname), parts.port or 443
        address = _public(await self._resolve(host, port))
        context = self._context or ssl.create_default_context()
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=host, limit=LONGEST_BODY
        )
        try:
            writer.write(_request(parts))
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, headers = _read_head(head)
            if status >= 500:
                raise OSError("its host is in trouble")
            if status != 200 or not headers.get("content-type", "").startswith("application/"):
                raise ValueError("not a document")
            return await _read_body(reader, headers), headers
        finally:
            writer.close()


def described_client(client_id: str, body: bytes) -> Client:
    """The client in a document. Raises :class:`ValueError` for one about another id, or for a client with a secret."""
    document = msgspec.json.decode(body)
    if not isinstance(document, dict) or document.get("client_id") != client_id:
        raise ValueError("the document is about another client")
    if document.get("token_endpoint_auth_method", "none") not in {"none", METHOD} or "client_secret" in document:
        raise ValueError("the client wants a secret")
    uris = document.get("redirect_uris")
    if not isinstance(uris, list) or not 0 < len(uris) <= MOST:
        raise ValueError("no redirect URIs")
    if not all(isinstance(uri, str) and is_safe(uri) for uri in uris):
        raise ValueError("a redirect URI is not safe")
    grants = _strings(document.get("grant_types"), (AUTHORIZATION_CODE,))
    name = document.get("client_name")
    host = str(urlsplit(client_id).hostname)
    now = datetime.now(UTC)
    client = Client(
        id=client_id,
        name=name if isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() else host,
        origin="document",
        confidential=False,
        hint=None,
        redirect_uris=tuple(uris),
        grants=tuple(grant for grant in _GRANTS if grant in grants),
        scopes=USUAL_SCOPES,
        owner=None,
        access_seconds=None,
        bound=document.get("dpop_bound_access_tokens") is True,
        enabled=True,
        created=now,
        created_by="document",
        last_used=None,
        version=0,
    )
    signs = document.get("token_endpoint_auth_method") == METHOD and "jwks_uri" not in document
    return with_keys(client, document.get("jwks")) if signs else client


def with_keys(client: Client, jwks: Any) -> Client:
    """The client, which proves itself with these keys. Raises :class:`ValueError` for what are none."""
    if not is_key_set(jwks):
        raise ValueError("the keys are not public keys")
    return msgspec.structs.replace(client, confidential=True, jwks=jwks)


def keys_address(body: bytes) -> str | None:
    """Where the keys of a client are that signs, if they are not in its document.

    Raises :class:`ValueError` for an address that may not be fetched.
    """
    document = msgspec.json.decode(body)
    address = document.get("jwks_uri")
    if document.get("token_endpoint_auth_method") != METHOD or address is None:
        return None
    if not isinstance(address, str) or "jwks" in document or not is_safe_id(address):
        raise ValueError("the address of its keys is not safe")
    return address


def _strings(value: Any, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else otherwise


def _public(addresses: Sequence[str]) -> str:
    """The first address, if all are public: a name that also leads inside is not to be trusted."""
    found = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
    if not all(is_public(address) for address in found):
        raise ValueError("the address is not public")
    if not found:
        raise ValueError("the host has no address")
    return str(found[0])


def _request(parts: SplitResult) -> bytes:
    lines = (f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: application/json", "Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _read_head(head: str) -> tuple[int, dict[str, str]]:
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError("not HTTP")
    pairs = (line.partition(":") for line in lines if line)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _read_chunks(reader)
    body = bytearray()
    expected = headers.get("content-length")
    while piece := await reader.read(4096):
        body += piece
        if len(body) > LONGEST_BODY:
            raise ValueError("too long")
        if expected is not None and expected.isdigit() and len(body) >= int(expected):
            break
    return bytes(body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        if len(body) + size > LONGEST_BODY or size < 0:
            raise ValueError("too long")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return bytes(body)


def _lasting(headers: dict[str, str]) -> float:
    found = _max_age(headers.get("cache-control", ""))
    return min(max(float(found[1]) if found else SHORTEST_CACHE, SHORTEST_CACHE), LONGEST_CACHE)
