"""From settings to what they describe: trust, credential, retries, and the two HTTP clients."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from urllib.parse import urlsplit

from gatewaykit.certificates import ends, next_end
from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.http import HttpClient
from gatewaykit.types import Model

from .api import Api
from .control import Control
from .credentials import Credential, FixedCredential, OAuthEndpoint, PasswordEndpoint
from .retries import Retries
from .settings import GigaChatSettings, secret
from .tls import make_context
from .token import TokenKeeper

logger = logging.getLogger(__name__)

_TYPES = ("chat", "embedder")
USER_AGENT = f"gatewaykit-gigachat/{version('gatewaykit-gigachat')}"
"""Always sent: without any, the public host answers 403."""


class Connection:
    """One GigaChat account at one host. Nothing is opened before the first request.

    ``shared_name`` tells the account from others in every process, and does not tell its credential.
    """

    def __init__(self, settings: GigaChatSettings, context: ssl.SSLContext | None, retries: Retries) -> None:
        headers = {"User-Agent": USER_AGENT}
        self.scope = settings.scope if settings.kind == "credentials" else ""
        self.shared_name = _shared_name(settings)
        self.http = HttpClient(
            settings.base_url,
            headers=headers,
            ssl_context=context,
            connect_timeout=settings.connect_timeout,
            max_connections=settings.max_connections,
        )
        control = Control(context, headers, settings.control_timeout)
        self.credential = _credential(settings, control, retries)
        self.api = Api(settings.base_url, control, self.credential, retries)
        self._once = Api(settings.base_url, control, self.credential, Retries(0, 0.0, 0.0, ()))
        self.certificate_expires = None if settings.cert_file is None else ends(settings.cert_file)
        """The unix time at which the client certificate ends; ``None`` without one."""
        bundle = settings.ca_bundle_file
        self.trust_expires = None if bundle is None else next_end(bundle, time.time())
        """The unix time at which the next of the trusted authorities ends; ``None`` for the system's alone."""

    @property
    def token_expires(self) -> float | None:
        """The unix time at which the present token ends; ``None`` if there is none, or nobody knows."""
        return self.credential.expires

    @property
    def token_failures(self) -> Mapping[str, int]:
        """How often there was no token to be had, by the errors' codes."""
        return self.credential.failures

    async def probe(self) -> None:
        """Whether the account is let in: its token and the list of models, which cost nothing.

        Raises :class:`~gatewaykit.errors.GatewayError`.
        """
        await self._once.ask("GET", "/models")

    async def models(self) -> Sequence[Model]:
        """The models for chat and for vectors that this account sees now."""
        document = await self.api.ask("GET", "/models")
        listed = document.get("data")
        if not isinstance(listed, list):
            raise ProviderBadAnswer(detail="the list of models is no list")
        return [
            Model(entry["id"], owner if isinstance(owner := entry.get("owned_by"), str) else "")
            for entry in listed
            if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry.get("type", "chat") in _TYPES
        ]

    async def balance(self) -> Mapping[str, int]:
        """Tokens left, by model (GigaChat REST API, "Balance").

        Raises :class:`~gatewaykit.errors.ProviderDenied` where the account pays as it goes, and other
        :class:`~gatewaykit.errors.GatewayError`.
        """
        document = await self._once.ask("GET", "/balance")
        entries = document.get("balance")
        if not isinstance(entries, list):
            raise ProviderBadAnswer(detail="the balance is no list")
        return {
            entry["usage"]: int(entry["value"])
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("usage"), str)
            and isinstance(entry.get("value"), int | float)
        }

    async def aclose(self) -> None:
        """Close what the running event loop has open."""
        await self.credential.aclose()
        await self.http.aclose()


def trust(settings: GigaChatSettings) -> ssl.SSLContext | None:
    """Whom the connections trust and what they show of themselves: ``None`` where they trust the system's authorities
    and show nothing.

    Warns of what can be read on the way. Raises :class:`ValueError` naming the setting whose file is not what it
    should be.
    """
    if not settings.verify_tls:
        logger.warning(
            "gigachat.verify_tls is off: the server's certificate is NOT checked, and anybody on the way to %s can "
            "read your key and every conversation. Set gigachat.ca_bundle_file and switch it on again.",
            settings.base_url,
        )
    for address in (settings.base_url, settings.auth_url):
        if address.startswith("http:") and not _is_here(address):
            logger.warning("%s has no TLS: keys and conversations can be read on the way to it.", address)
    if settings.verify_tls and settings.ca_bundle_file is None and settings.cert_file is None:
        return None
    return make_context(
        bundle=settings.ca_bundle_file,
        cert=settings.cert_file,
        key=settings.key_file,
        key_password=secret(settings.key_file_password),
        verify=settings.verify_tls,
    )


def retries_of(settings: GigaChatSettings) -> Retries:
    """How often and how soon what failed is tried again."""
    return Retries(
        settings.max_retries, settings.retry_backoff_factor, settings.retry_max_wait, settings.retry_on_status_codes
    )


def naming_secret(settings: GigaChatSettings) -> bytes:
    """What names of conversations are derived from: the same in every worker, and known to nobody else."""
    source = settings.session_secret or settings.access_token or settings.credentials or settings.password
    if source is None and settings.pool:
        text = "\0".join(sorted(member.secret_text for member in settings.pool.values())).encode()
    elif source is not None:
        text = source.get_secret_value().encode()
    else:
        path = settings.key_file or settings.cert_file
        text = path.read_bytes() if path else b""
    return hashlib.sha256(b"gatewaykit conversations\0" + text).digest()


def _shared_name(settings: GigaChatSettings) -> str:
    """Requests are counted by client: two keys of one client have the same name."""
    match settings.kind:
        case "credentials":
            source = _client_of(secret(settings.credentials) or "")
        case "password":
            source = f"{settings.user}@{settings.base_url}"
        case "access_token":
            source = secret(settings.access_token) or ""
        case _:
            source = str(settings.cert_file)
    return hashlib.blake2b(source.encode(), person=b"gigachat-member", digest_size=12).hexdigest()


def _client_of(key: str) -> str:
    """The client's id in an authorization key; the key itself, if that is none."""
    try:
        client, colon, _ = base64.b64decode(key, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return key
    return client if colon and client else key


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credential(settings: GigaChatSettings, control: Control, retries: Retries) -> Credential:
    buffer = settings.token_expiry_buffer_ms / 1000
    if settings.kind == "credentials":
        key = secret(settings.credentials) or ""
        return TokenKeeper(OAuthEndpoint(control, retries, settings.auth_url, key, settings.scope), buffer)
    if settings.kind == "password":
        url, password = settings.base_url + "/token", secret(settings.password) or ""
        return TokenKeeper(PasswordEndpoint(control, retries, url, settings.user or "", password), buffer)
    return FixedCredential(secret(settings.access_token))
