"""Access tokens: issued, known, expired, revoked."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .refusals import api_refusal

TOKEN_BYTES = 825
MOST_TOKENS = 10_000


@dataclass(frozen=True)
class Grant:
    """Whom a token stands for and until when (unix seconds)."""

    client_id: str
    scope: str
    expires_at: float


class TokenVault:
    """Every token of one sandbox. Expired and revoked ones stay known, to be told from wrong ones."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._grants: dict[str, Grant] = {}
        self._revoked: set[str] = set()

    def issue(self, client_id: str, scope: str) -> tuple[str, Grant]:
        """Make a new opaque token of about 1100 characters."""
        if len(self._grants) >= MOST_TOKENS:
            self._forget(next(iter(self._grants)))
        token = secrets.token_urlsafe(TOKEN_BYTES)
        grant = Grant(client_id, scope, self._clock() + self._lifetime)
        self._grants[token] = grant
        return token, grant

    def grant(self, token: str) -> Grant:
        """Whom ``token`` stands for; 401 for a wrong, expired or revoked one."""
        grant = self._grants.get(token)
        if grant is None:
            raise api_refusal(401)
        if token in self._revoked or grant.expires_at <= self._clock():
            raise api_refusal(401, "Token has expired")
        return grant

    def revoke(self, token: str) -> None:
        """Let ``token`` count as expired from now on."""
        if token in self._grants:
            self._revoked.add(token)

    def revoke_all(self) -> None:
        """Let every token issued so far count as expired."""
        self._revoked.update(self._grants)

    def _forget(self, token: str) -> None:
        del self._grants[token]
        self._revoked.discard(token)
