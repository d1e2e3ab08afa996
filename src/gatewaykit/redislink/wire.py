"""Connections of redis-py: made from a URL, and their errors in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import redis.exceptions
from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection, UnixDomainSocketConnection, parse_url

from gatewaykit.errors import ConfigError, ConfigFault

Wire: TypeAlias = Connection | UnixDomainSocketConnection
NoScript = redis.exceptions.NoScriptError
Moved = redis.exceptions.MovedError
_OPTIONS = frozenset(
    {"db", "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)
_ALWAYS = {"protocol": 2, "driver_info": None, "socket_timeout": None, "socket_connect_timeout": None}


class Address:
    """Where Redis is, and who the gateway is there. Raises :class:`~gatewaykit.errors.ConfigError` for a bad URL.

    Neither ``str`` nor ``repr`` shows credentials. Connections have no time limits of their own: who uses them has.
    """

    def __init__(self, url: str) -> None:
        try:
            self._arguments: dict[str, Any] = dict(_arguments(url))
            self._kind: type[Wire] = self._arguments.pop("connection_class", Connection)
            self._arguments |= _ALWAYS
            self._tls = self._shared_tls()
        except (ValueError, OSError, redis.exceptions.RedisError) as error:
            text = str(error) if isinstance(error, BadUrl) else "is not a URL of Redis, or its TLS files cannot be read"
            raise ConfigError([ConfigFault(text, "redis.url")]) from None

    def __str__(self) -> str:
        known = self._arguments
        network = f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        return f"redis at {known.get('path', network)}"

    __repr__ = __str__

    def connection(self, node: tuple[str, int] | None = None) -> Wire:
        """A connection that is not open yet; to ``node`` (host and port) of the cluster, if one is given."""
        arguments, kind = self._arguments, self._kind
        if node is not None and kind is not UnixDomainSocketConnection:
            arguments = {**arguments, "host": node[0] or arguments.get("host", "localhost"), "port": node[1]}
        made = kind(**arguments)
        if isinstance(made, SSLConnection) and self._tls is not None:
            made.ssl_context = self._tls
        return made

    def _shared_tls(self) -> RedisSSLContext | None:
        """To read certificates takes long: it is done once."""
        made = self._kind(**self._arguments)
        if not isinstance(made, SSLConnection):
            return None
        made.ssl_context.get()
        return made.ssl_context


class BadUrl(ValueError):
    """What is wrong with a URL, in words that repeat nothing of it."""


def _arguments(url: str) -> Any:
    """redis-py's arguments for ``url``; it would ignore a path that is no number, and let options undo the settings."""
    parts = urlsplit(url)
    if not set(parse_qs(parts.query, keep_blank_values=True)) <= _OPTIONS:
        raise BadUrl(f"has unknown options; known are {', '.join(sorted(_OPTIONS))}")
    number = parts.path.strip("/")
    if parts.scheme != "unix" and number and not (number.isascii() and number.isdecimal()):
        raise BadUrl("ends in a path that is no number of a database")
    if parts.scheme == "unix" and not parts.path:
        raise BadUrl("has no path of a socket")
    return parse_url(url)


async def opened(wire: Wire) -> None:
    """Make sure that it is connected, and that nothing is left to be read of what somebody gave up."""
    untyped: Any = wire
    if wire.is_connected and await wire.can_read():
        await wire.disconnect(nowait=True)
    if not wire.is_connected:
        await untyped.connect()


def reason(error: BaseException) -> str:
    """What happened, in words that repeat nothing of address, credentials or keys."""
    if isinstance(error.__cause__, redis.exceptions.RedisError):
        return reason(error.__cause__)
    if isinstance(error, TimeoutError | redis.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refuses the credentials"
    if isinstance(error, redis.exceptions.ConnectionError | OSError):
        return "no connection"
    if not isinstance(error, redis.exceptions.ResponseError):
        return "it does not answer as Redis does"
    code = getattr(error, "status_code", None)
    return f"it answers {code}" if code else "it answers with an error"


def packed(words: Iterable[str | bytes | int]) -> bytes:
    """A command as Redis reads it (RESP, arrays of bulk strings). redis-py's own packing takes four times as long."""
    parts = [b""]
    for word in words:
        text = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    parts[0] = b"*%d\r\n" % (len(parts) - 1)
    return b"".join(parts)
