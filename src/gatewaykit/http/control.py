"""The control plane's client: for what is not a model call."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .client import USER_AGENT

if TYPE_CHECKING:
    import httpx


def control_client(
    *,
    base_url: str = "",
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 30.0,
    **options: Any,
) -> httpx.AsyncClient:
    """An httpx client for what is not a model call: no redirects, no proxy variables, one time limit in seconds."""
    import httpx

    return httpx.AsyncClient(
        base_url=base_url,
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        verify=ssl_context if ssl_context is not None else True,
        timeout=httpx.Timeout(timeout),
        trust_env=False,
        follow_redirects=False,
        **options,
    )
