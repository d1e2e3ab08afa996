"""One outside OpenID provider: its metadata and keys, remembered, and the way from a code to who somebody is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

import jwt
import msgspec

from ..jwks import readable
from .attempts import Attempt
from .failures import ProviderAway, ProviderRefused, ProviderWrong
from .id_tokens import claims_of, kid_of
from .settings import IdentityProviderSettings
from .wire import Wire

KEPT, OLDEST = 3600.0, 86_400.0
"""Seconds for which metadata and keys are believed, and for which they serve while the provider cannot be asked."""

_AGAIN = 10.0
"""A key that is not known makes us ask for the keys anew, at most once in so many seconds."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of a provider's metadata (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Kept:
    """A document of the provider's: read at most once at a time, and again when it is old."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._found: dict[str, Any] | None = None
        self._since = 0.0
        self._failed = -_AGAIN
        self._turn = asyncio.Lock()

    async def get(self, url: str, *, older_than: float = KEPT) -> dict[str, Any]:
        """The document, read anew if it is older than that, in seconds.

        Raises :class:`~.failures.ProviderAway` and :class:`~.failures.ProviderWrong`; an older one serves meanwhile.
        Those who wait while somebody finds the provider away do not try again, one after the other.
        """
        came = monotonic()
        async with self._turn:
            age = monotonic() - self._since
            if self._found is not None and age < older_than:
                return self._found
            serves = self._found is not None and age < OLDEST
            try:
                if self._failed > (came - _AGAIN if serves else came):
                    raise ProviderAway("it was away just now")
                self._found = await self._document(url)
            except ProviderAway:
                if self._found is None or not serves:
                    raise
                return self._found
            self._since = monotonic()
            return self._found

    async def _document(self, url: str) -> dict[str, Any]:
        try:
            return await self._wire.document(url)
        except ProviderAway:
            self._failed = monotonic()
            raise

    def forget(self) -> None:
        """It was not what it should be."""
        self._found = None


class IdentityProvider:
    """Asks one provider who somebody is. Everything raises
    :class:`~.failures.SignInFailed` where it cannot go on."""

    def __init__(self, name: str, settings: IdentityProviderSettings) -> None:
        self.name = name
        self.settings = settings
        self._wire = Wire(settings)
        self._metadata = Kept(self._wire)
        self._keys = Kept(self._wire)

    @property
    def label(self) -> str:
        """What people call it."""
        return self.settings.label

    async def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where a browser is sent: state, nonce and PKCE are the attempt's. With an account in it, who is there has to
        prove it once more.
        """
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        metadata = await self.metadata()
        again = {} if attempt.account is None else {"prompt": "login", "max_age": "0"}
        found: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            client_id=self.settings.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=" ".join(self.settings.scopes),
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
            **again,
        )
        return found

    async def claims(self, attempt: Attempt, given: Mapping[str, str], redirect_uri: str) -> dict[str, Any]:
        """What the provider says of whoever came back with these parameters, to an attempt that they belong to."""
        metadata = await self.metadata()
        issuer = given.get("iss")
        if issuer != self.settings.issuer and (
            issuer is not None or metadata.authorization_response_iss_parameter_supported
        ):
            raise ProviderWrong("the answer is another issuer's")  # RFC 9207, 2.4
        code = given.get("code")
        if code is None or "error" in given:
            raise ProviderRefused(f"the provider says {_plain(given.get('error'))}")
        tokens = await self._wire.tokens(
            metadata.token_endpoint, self._method(metadata), code, attempt.verifier, redirect_uri
        )
        text, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(text, str) or not isinstance(access_token, str):
            raise ProviderWrong("token endpoint: no ID token")
        claims = claims_of(
            text,
            await self._keys_for(text, metadata),
            issuer=self.settings.issuer,
            client_id=self.settings.client_id,
            nonce=attempt.nonce,
            access_token=access_token,
        )
        return await self._completed(claims, access_token, metadata)

    async def metadata(self) -> Metadata:
        """The provider's metadata, checked."""
        found = await self._metadata.get(f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            return self._checked(found)
        except ProviderWrong:
            self._metadata.forget()
            raise

    def _checked(self, found: Mapping[str, Any]) -> Metadata:
        try:
            metadata = msgspec.convert(found, Metadata)
        except msgspec.ValidationError:
            raise ProviderWrong("metadata: a field is missing or not of its kind") from None
        if metadata.issuer != self.settings.issuer:
            raise ProviderWrong("metadata: another issuer's")
        used = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
        if not all(map(self._wire.is_address, used)):
            raise ProviderWrong("metadata: an address that is not https")
        return metadata

    def _method(self, metadata: Metadata) -> str:
        if self.settings.client_secret is None:
            return "none"
        known = metadata.token_endpoint_auth_methods_supported
        return "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"

    async def _keys_for(self, text: str, metadata: Metadata) -> list[jwt.PyJWK]:
        kid = kid_of(text)
        keys = _read(await self._keys.get(metadata.jwks_uri))
        if kid is not None and kid not in {key.key_id for key in keys}:
            keys = _read(await self._keys.get(metadata.jwks_uri, older_than=_AGAIN))
        return keys

    async def _completed(self, claims: dict[str, Any], access_token: str, metadata: Metadata) -> dict[str, Any]:
        """With those of the user info, where the ID token lacks what is asked of it (Core 5.3). When somebody proved
        who they are says the ID token alone.
        """
        wanted = {self.settings.account_claim, *self.settings.require, *self.settings.admins}
        if self.settings.domains or "email" in wanted:
            wanted |= {"email", "email_verified"}
        url = metadata.userinfo_endpoint
        if wanted <= set(claims) or not self._wire.is_address(url):
            return claims
        found = await self._wire.document(str(url), {"authorization": f"Bearer {access_token}"})
        if found.get("sub") != claims["sub"]:
            raise ProviderWrong("user info: of somebody else")
        return {**{name: value for name, value in found.items() if name != "auth_time"}, **claims}


def _read(document: Mapping[str, Any]) -> list[jwt.PyJWK]:
    """The keys of a set (RFC 7517, 5) that sign and that we understand."""
    listed = document.get("keys")
    keys = []
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        if (key := readable(one)) is not None:
            keys.append(key)
    return keys


def _plain(word: str | None) -> str:
    known = {"access_denied", "login_required", "consent_required", "interaction_required", "temporarily_unavailable"}
    return word if word in known else "no"
