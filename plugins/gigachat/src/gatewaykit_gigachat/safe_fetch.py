"""Download from an address that a client gave, without becoming the client's hand inside the network (SSRF).

The host is resolved here, once; every address it has must be global unicast; and the connection goes to the very
address that was checked, so that a second answer of the name server cannot matter. Redirects are followed by hand,
under the same rules. What a client learns of a failure is the same whether a host is missing, forbidden or silent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from msgspec import Struct

from gatewaykit.addresses import Address
from gatewaykit.errors import BadRequest, ProviderError
from gatewaykit.http import control_client, translated_errors
from gatewaykit_gigachat.fetch_options import FetchOptions

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_URL = 8192
_MOST_ADDRESSES = 4
_UNREACHABLE = "The file could not be fetched from its address."


class Fetched(Struct, frozen=True):
    """A downloaded body; ``content_type`` is what the server says of it, lower case and without parameters."""

    data: bytes
    content_type: str


class SafeFetcher:
    """Fetches http(s) addresses under :class:`FetchOptions`. It keeps no connection and no cookie between downloads."""

    def __init__(self, options: FetchOptions | None = None) -> None:
        self._options = options or FetchOptions()
        self._ssl_context = self._options.ssl_context

    async def fetch(self, url: str, *, limit: int, param: str | None = None) -> Fetched:
        """The body behind ``url``, at most ``limit`` bytes.

        Raises :class:`~gatewaykit.errors.BadRequest` with ``param``, whatever went wrong: the address is the client's.
        """
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._follow(_parsed(url), limit)
        except _Refused as refused:
            raise BadRequest(refused.message, param=param, detail=refused.detail) from refused
        except TimeoutError as error:
            raise BadRequest("The file could not be fetched in time.", param=param) from error
        except ProviderError as error:
            raise BadRequest(_UNREACHABLE, param=param, detail=error.detail) from error

    async def _follow(self, url: httpx.URL, limit: int) -> Fetched:
        for _ in range(self._options.max_redirects + 1):
            answer = await self._one(url, limit)
            if isinstance(answer, Fetched):
                return answer
            url = answer
        raise _Refused("The address of the file redirects too often.")

    async def _one(self, url: httpx.URL, limit: int) -> Fetched | httpx.URL:
        """One request: the body, or where else it is."""
        addresses = await self._checked(url)
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        async with control_client(
            ssl_context=await self._context(url),
            timeout=self._options.timeout,
            cookies=jar,
            limits=httpx.Limits(max_connections=1),
        ) as client:
            with translated_errors():
                response = await _connected(client, url, addresses)
                try:
                    if response.status_code in _REDIRECTS:
                        return _parsed(str(url.join(_plain(response.headers.get("location", "")))))
                    return await _body(response, limit)
                finally:
                    await response.aclose()

    async def _checked(self, url: httpx.URL) -> list[Address]:
        """The addresses of the host, all of them fit to be connected to."""
        port = url.port if url.port is not None else 443 if url.scheme == "https" else 80
        if port not in self._options.ports:
            raise _Refused("Files are not fetched from this port.")
        try:
            found = await self._options.resolve(url.raw_host.decode("ascii"), port)
            addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in dict.fromkeys(found)]
        except (OSError, ValueError) as error:
            raise _Refused(_UNREACHABLE, f"not resolved: {type(error).__name__}") from error
        if not addresses or not all(map(self._options.allow, addresses)):
            raise _Refused(_UNREACHABLE, "the host has an address that is not allowed")
        return addresses[:_MOST_ADDRESSES]

    async def _context(self, url: httpx.URL) -> ssl.SSLContext:
        """The TLS settings, made once, for loading the authorities takes long; plain HTTP has no use for them."""
        if self._ssl_context is None:
            if url.scheme == "http":
                return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._ssl_context = await asyncio.to_thread(httpx.create_ssl_context)
        return self._ssl_context


class _Refused(Exception):
    """Why nothing is fetched: ``message`` for the client, ``detail`` for the log."""

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


def _plain(location: str) -> str:
    if not location:
        raise _Refused(_UNREACHABLE, "a redirect without an address")
    return location


def _parsed(text: str) -> httpx.URL:
    """``text`` as an address that may be looked at more closely."""
    try:
        if len(text) > _MAX_URL:
            raise httpx.InvalidURL("too long")
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise _Refused("The address of the file is not valid.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _Refused("The address of a file must begin with http:// or https://.")
    if url.userinfo:
        raise _Refused("The address of a file must not hold a user name or password.")
    return url


async def _connected(client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[Address]) -> httpx.Response:
    """The answer of the first address that accepts a connection; its host name goes into ``Host`` and TLS only."""
    *others, last = addresses
    for address in others:
        try:
            return await _sent(client, url, address)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    return await _sent(client, url, last)


async def _sent(client: httpx.AsyncClient, url: httpx.URL, address: Address) -> httpx.Response:
    request = client.build_request(
        "GET",
        url.copy_with(host=str(address)),
        headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "Connection": "close"},
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
    return await client.send(request, stream=True)


async def _body(response: httpx.Response, limit: int) -> Fetched:
    """The bytes as they come over the wire: a compressed body is refused, for its size would be unknown."""
    if response.status_code != 200:
        raise _Refused(f"The server of the file answered with status {response.status_code}.")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Refused(_UNREACHABLE, "the body is compressed")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:18]) > limit:
        raise _too_large(limit)
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > limit:
            raise _too_large(limit)
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(bytes(data), content_type)


def _too_large(limit: int) -> _Refused:
    return _Refused(f"The file behind the address is larger than {limit} bytes.")
