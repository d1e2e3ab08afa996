"""The authenticator of access tokens: from a request's headers to the principal, from memory in a few microseconds.

A text that is no JWT of this server is left to the other authenticators. Bad, expired and revoked tokens get the same
answer. Only ``Authorization`` counts: a token in the query string is not looked at (OAuth 2.1, 5.1). The token goes no
further: providers are called with the gateway's own credentials.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from urllib.parse import quote

from gatewaykit.errors import AuthFailed, BadRequest
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import CACHE, CACHE_ENTRIES, UNCONFIRMED
from gatewaykit.protocols import Authenticator, Known
from gatewaykit.types import Incoming, Principal

from . import proofs
from .access_tokens import claimed_id
from .authority import Authority, digest_of
from .challenges import HEADER
from .recognising import TokenEntry, look_up_grant
from .resources import covers

_BEARER, _DPOP = "bearer", "dpop"


class AccessTokens(Authenticator):
    """Knows the access tokens of the authorization server."""

    name = "access-tokens"
    before = ("static-keys",)
    after = ("api-keys",)

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """The principal of the token; None for credentials of another kind.

        Raises :class:`~gatewaykit.errors.AuthFailed`, :class:`~gatewaykit.errors.BadRequest` for two credentials at
        once, and :class:`~gatewaykit.errors.Unavailable` while it cannot be known whether the token is valid.
        """
        authorization = incoming.headers.get("authorization")
        if authorization is None:
            return None
        scheme, _, text = authorization.partition(" ")
        scheme = scheme.lower()
        if text[:2] != "ey" or scheme not in {_BEARER, _DPOP}:
            return None
        authority = self._authority
        digest = digest_of(text)
        entry = authority.running.lookup.remembered(digest)
        if entry is None:
            jti = claimed_id(text, authority.issuer)
            if jti is None:
                return None
            entry = await self._load(text, digest, jti, incoming.path)
        if time.time() >= entry.ends or not covers(entry.paths, incoming.path):
            raise self._not_valid(incoming.path)
        if entry.thumbprint is not None or scheme == _DPOP:
            self._require_proof(entry, scheme, text, incoming)
        if "x-api-key" in incoming.headers:
            raise BadRequest("Authorization and x-api-key are both given. Send one of them.")
        return entry.principal

    def challenge(self, incoming: Incoming) -> str | None:
        """Where tokens come from; that one was not valid, if one was sent."""
        given = "authorization" in incoming.headers or "x-api-key" in incoming.headers
        challenges = self._authority.challenges
        return challenges.invalid(incoming.path) if given else challenges.plain(incoming.path)

    def readings(self) -> Iterator[Reading]:
        """How many tokens are remembered, how many were read ahead, and how many could not be confirmed."""
        everywhere = self._authority.everywhere
        yield Reading(CACHE_ENTRIES, sum(len(one.lookup.cache) for one in everywhere), {CACHE: "tokens"})
        yield Reading(CACHE_ENTRIES, sum(len(one.ahead) for one in everywhere), {CACHE: "tokens_ahead"})
        yield Reading(UNCONFIRMED, sum(one.lookup.unconfirmed for one in everywhere), {CACHE: "tokens"})

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """A grant by its id: what its tokens may do at most."""
        scopes = self._authority.scopes
        return await self._authority.read(lambda session: look_up_grant(session, id, scopes, "", datetime.now(UTC)))

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """That of the authorization server."""
        return self._authority.lifespan()

    async def _load(self, text: str, digest: bytes, jti: str, path: str) -> TokenEntry:
        try:
            return await self._authority.entry(text, digest, jti)
        except AuthFailed:
            raise self._not_valid(path) from None

    def _require_proof(self, entry: TokenEntry, scheme: str, text: str, incoming: Incoming) -> None:
        """RFC 9449, 7: a token that is bound comes as DPoP, with a proof of its own key for this very request."""
        given, authority = incoming.headers.get("dpop"), self._authority
        if entry.thumbprint is None or scheme != _DPOP or given is None:
            raise self._not_valid(incoming.path, proof="invalid_token")
        proof = proofs.check(given, incoming.method, authority.issuer + quote(incoming.path), text)
        if proof is None or proof.thumbprint != entry.thumbprint:
            raise self._not_valid(incoming.path, proof="invalid_dpop_proof")
        if (nonce := authority.nonce_for(proof)) is not None:
            raise self._not_valid(incoming.path, "use_dpop_nonce", ("dpop-nonce", nonce))
        if not authority.running.replays.is_new(proof):
            raise self._not_valid(incoming.path, proof="invalid_dpop_proof")

    def _not_valid(self, path: str, proof: str | None = None, *headers: tuple[str, str]) -> AuthFailed:
        challenges = self._authority.challenges
        challenge = challenges.invalid(path) if proof is None else challenges.proof(path, proof)
        return AuthFailed("This access token is not valid.", headers=[(HEADER, challenge), *headers])
