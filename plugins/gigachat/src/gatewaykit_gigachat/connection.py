"""From settings to what they describe: trust, credential, retries, and the two HTTP clients."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from importlib.metadata import version
from urllib.parse import urlsplit

from gatewaykit.http import HttpClient

from .api import Api
from .control import Control
from .credentials import Credential, FixedCredential, OAuthEndpoint, PasswordEndpoint
from .retries import Retries
from .settings import GigaChatSettings, secret
from .tls import make_context
from .token import TokenKeeper

logger = logging.getLogger(__name__)

USER_AGENT = f"gatewaykit-gigachat/{version('gatewaykit-gigachat')}"
"""Always sent: without any, the public host answers 403."""


class Connection:
    """One GigaChat account at one host. Nothing is opened before the first request."""

    def __init__(self, settings: GigaChatSettings) -> None:
        if not settings.verify_tls:
            logger.warning(
                "gigachat.verify_tls is off: the server's certificate is NOT checked, and anybody on the way to %s can "
                "read your key and every conversation. Set gigachat.ca_bundle_file and switch it on again.",
                settings.base_url,
            )
        for address in (settings.base_url, settings.auth_url):
            if address.startswith("http:") and not _is_here(address):
                logger.warning("%s has no TLS: keys and conversations can be read on the way to it.", address)
        context = make_context(
            bundle=settings.ca_bundle_file,
            cert=settings.cert_file,
            key=settings.key_file,
            key_password=secret(settings.key_file_password),
            verify=settings.verify_tls,
        )
        headers = {"User-Agent": USER_AGENT}
        self.retries = Retries(
            settings.max_retries,
            settings.retry_backoff_factor,
            settings.retry_max_wait,
            settings.retry_on_status_codes,
        )
        self.http = HttpClient(
            settings.base_url,
            headers=headers,
            ssl_context=context,
            connect_timeout=settings.connect_timeout,
            max_connections=settings.max_connections,
        )
        control = Control(context, headers, settings.control_timeout)
        self.credential = _credential(settings, control, self.retries)
        self.api = Api(settings.base_url, control, self.credential, self.retries)

    async def aclose(self) -> None:
        """Close what the running event loop has open."""
        await self.credential.aclose()
        await self.http.aclose()


def naming_secret(settings: GigaChatSettings) -> bytes:
    """What names of conversations are derived from: the same in every worker, and known to nobody else."""
    source = settings.session_secret or settings.access_token or settings.credentials or settings.password
    if source is not None:
        text = source.get_secret_value().encode()
    else:
        path = settings.key_file or settings.cert_file
        text = path.read_bytes() if path else b""
    return hashlib.sha256(b"gatewaykit conversations\0" + text).digest()


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
