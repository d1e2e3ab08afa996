"""Talking to a provider: little time, few bytes, no redirects, and authlib's client for what is OAuth about it."""

from __future__ import annotations

import asyncio
import ssl
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from .failures import ProviderAway, ProviderWrong
from .settings import LOOPBACK, IdentityProviderSettings

if TYPE_CHECKING:
    import httpx

LONGEST_BODY = 256 * 1024


class Wire:
    """Exchanges with one provider."""

    def __init__(self, settings: IdentityProviderSettings) -> None:
        self._settings = settings
        self._is_plain = urlsplit(settings.issuer).scheme == "http"

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.ca_file)

    def is_address(self, url: object) -> bool:
        """Whether the provider may be asked at this address: https, unless its issuer is a loopback address itself."""
        if not isinstance(url, str) or not url.isascii() or not url.isprintable():
            return False
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            return False
        plain = self._is_plain and parts.scheme == "http" and parts.hostname in LOOPBACK
        return (
            bool(parts.hostname)
            and "@" not in parts.netloc
            and not parts.fragment
            and (parts.scheme == "https" or plain)
        )

    async def document(self, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at this address.

        Raises :class:`~.failures.ProviderAway` and :class:`~.failures.ProviderWrong`.
        """
        response = await self.exchange("GET", url, {"accept": "application/json", **(headers or {})})
        if response.status_code >= 500 or response.status_code == 429:
            raise ProviderAway(f"status {response.status_code}")
        if response.status_code != 200:
            raise ProviderWrong(f"status {response.status_code}")
        try:
            found = msgspec.json.decode(response.content)
        except (ValueError, RecursionError):
            raise ProviderWrong("no JSON") from None
        if not isinstance(found, dict):
            raise ProviderWrong("no JSON object")
        return found

    async def tokens(self, url: str, method: str, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """What the token endpoint gives for a code.

        Raises :class:`~.failures.ProviderAway` and :class:`~.failures.ProviderWrong`.
        """
        from authlib.common.errors import AuthlibBaseError
        from authlib.oauth2.client import OAuth2Client

        wire, secret = self, self._settings.client_secret

        class TokenClient(OAuth2Client):  # type: ignore[misc]  # authlib is not typed
            """authlib's client, over this wire."""

            async def _fetch_token(
                self, url: str, body: str = "", headers: Any = None, auth: Any = None, method: str = "POST", **_: Any
            ) -> Any:
                url, headers, body = auth.prepare(method, url, dict(headers or {}), body)
                response = await wire.exchange(method, url, headers, body.encode())
                if response.status_code >= 500 or response.status_code == 429:
                    raise ProviderAway(f"token endpoint: status {response.status_code}")
                return self.parse_response_token(response)

        client = TokenClient(
            None,
            client_id=self._settings.client_id,
            client_secret=secret.get_secret_value() if secret is not None else None,
            token_endpoint_auth_method=method,
            redirect_uri=redirect_uri,
        )
        try:
            found = await client.fetch_token(
                url, grant_type="authorization_code", code=code, code_verifier=verifier, redirect_uri=redirect_uri
            )
        except AuthlibBaseError as error:
            raise ProviderWrong(f"token endpoint: {_word(error.error)}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise ProviderWrong(f"token endpoint: {type(error).__name__}") from None
        return dict(found)

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> httpx.Response:
        """One exchange, read to its end."""
        import httpx

        from gatewaykit.http import control_client

        seconds = self._settings.timeout
        try:
            async with (
                asyncio.timeout(seconds),
                control_client(timeout=seconds, ssl_context=await asyncio.to_thread(lambda: self._context)) as http,
                http.stream(method, url, headers=headers, content=body or None) as response,
            ):
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > LONGEST_BODY:
                        raise ProviderWrong("the answer is too long")
                return httpx.Response(response.status_code, content=bytes(content), request=response.request)
        except TimeoutError:
            raise ProviderAway(f"no answer in {seconds:g} s") from None
        except (httpx.InvalidURL, httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise ProviderWrong(type(error).__name__) from None
        except (httpx.HTTPError, OSError) as error:
            raise ProviderAway(type(error).__name__) from None


def _word(error: object) -> str:
    """An error code of the provider's, if it is one."""
    text = str(error or "")
    return text if text.isascii() and text.replace("_", "").isalnum() and len(text) <= 60 else "an error"
