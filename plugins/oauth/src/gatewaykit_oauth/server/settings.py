"""The table ``[oauth]``: without an issuer there is no authorization server."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gatewaykit.settings import Seconds, Section, Table
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from ..identity.settings import IdentityProviderSettings

YEAR = 31_536_000
"""Seconds: the longest that an access token may live."""

BUILTIN = (INFERENCE, USAGE, KEYS, ADMIN, "openid", "profile", "offline_access")
"""Scopes that need no configuration; the last three are OpenID Connect's."""

Allowed = Literal["inference", "usage", "keys", "admin"]
Life = Annotated[int, Field(ge=60, le=YEAR)]
_scope = re.compile(r"[!#-\[\]-~]{1,64}").fullmatch
_provider = re.compile(r"[a-z0-9][a-z0-9-]{0,31}").fullmatch
_path = re.compile(r"/[A-Za-z0-9._~/-]{0,200}").fullmatch


class ScopeSettings(Table):
    """A scope of your own: what it is called on the consent page, and what it allows."""

    description: str = Field(min_length=1, max_length=200, description="What the consent page says of it.")
    allows: tuple[Allowed, ...] = Field(("inference",), description="What its tokens may do, as scopes of API keys.")
    models: tuple[str, ...] = Field(("*",), min_length=1, description="Models that they may use, as globs.")
    routes: tuple[str, ...] = Field(("*",), min_length=1, description="Paths that they may call, as globs.")


class OAuthSettings(Section):
    """The authorization server. Access tokens are JWTs (RFC 9068) that can be revoked at once."""

    section = "oauth"

    issuer: str | None = Field(
        None,
        description="Public address of this gateway, as `https://gateway.example.com`: with it the authorization "
        "server is on. Plain http is accepted for loopback addresses only.",
    )
    algorithm: Literal["ES256", "EdDSA", "RS256"] = Field("ES256", description="With what new signing keys sign.")
    access_seconds: Life = Field(3600, description="Life of an access token whose client has no time of its own.")
    longest_access_seconds: Life = Field(
        YEAR, description="The longest that a client may be given for its access tokens: up to a year."
    )
    refresh_idle_seconds: Seconds = Field(30 * 86_400.0, description="A refresh token that is not used ends after it.")
    refresh_seconds: Seconds = Field(365 * 86_400.0, description="A grant ends after it, however often refreshed.")
    refresh_grace_seconds: float = Field(
        10.0,
        ge=0,
        le=60,
        description="For so long a refresh token that was just spent gives the same successor once more, for clients "
        "that lost the answer. After that its use ends the whole grant.",
    )
    keep_days: int = Field(
        90,
        ge=0,
        le=36_500,
        description="Days that grants which have ended, and what was agreed to with them, are kept for people to look "
        "at; 0 for ever.",
    )
    read_ahead: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="How many of the newest access tokens each process reads before their bearers come: a first call "
        "then costs no more than the signature; 0 for none. A thousand take 2 to 3 MB.",
    )
    code_seconds: Seconds = Field(60.0, le=600, description="Life of an authorization code.")
    device_seconds: Seconds = Field(600.0, le=1800, description="Life of a device code.")
    key_days: int = Field(90, ge=1, le=3650, description="Days after which the next signing key takes over.")
    jwks_seconds: int = Field(300, ge=1, le=86_400, description="How long others may remember the public keys.")
    resources: tuple[str, ...] = Field(
        ("/v1",), description="Paths that tokens can be restricted to (RFC 8707), beside the gateway as a whole."
    )
    scopes: dict[str, ScopeSettings] = Field({}, description="Scopes of your own, by name.")
    dpop_nonce: bool = Field(
        False,
        description="Demand in each proof of possession (DPoP) a nonce of this server's, at most ten minutes old: a "
        "proof cannot be made in advance then. Clients ask once more for it (RFC 9449, 8).",
    )
    registration: bool = Field(
        False, description="Let anybody register clients (RFC 7591). They can do nothing without somebody's consent."
    )
    identity_providers: dict[str, IdentityProviderSettings] = Field(
        {}, description="Outside OpenID providers through which people sign in to the pages, by name."
    )
    client_documents: bool = Field(
        False, description="Accept clients whose id is the https address of a document that describes them."
    )

    @field_validator("issuer")
    @classmethod
    def _is_issuer(cls, issuer: str | None) -> str | None:
        if issuer is not None:
            _check_issuer(issuer)
        return issuer

    @field_validator("resources")
    @classmethod
    def _are_paths(cls, resources: tuple[str, ...]) -> tuple[str, ...]:
        for path in resources:
            if not _path(path) or path.endswith("/") or "//" in path:
                raise ValueError("a resource is a path such as /v1, without a slash at its end")
        return resources

    @field_validator("scopes")
    @classmethod
    def _are_scopes(cls, scopes: dict[str, ScopeSettings]) -> dict[str, ScopeSettings]:
        for name in scopes:
            if not _scope(name):
                raise ValueError("a scope is 1 to 64 visible ASCII characters without quotes and backslashes")
            if name in BUILTIN:
                raise ValueError(f"the scope {name} is there already and cannot be changed")
        return scopes

    @field_validator("identity_providers")
    @classmethod
    def _are_names(cls, providers: dict[str, IdentityProviderSettings]) -> dict[str, IdentityProviderSettings]:
        if not all(_provider(name) for name in providers):
            raise ValueError("a provider's name is 1 to 32 lower-case letters, digits and -")
        return providers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.access_seconds > self.longest_access_seconds:
            raise ValueError("access_seconds must not be more than longest_access_seconds")
        return self


def _check_issuer(issuer: str) -> None:
    """RFC 8414, 2: https, without query and fragment."""
    parts = urlsplit(issuer)
    loopback = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not loopback:
        raise ValueError("must be an https URL; http is for loopback addresses only")
    if not parts.hostname or parts.query or parts.fragment or "?" in issuer or "#" in issuer or "@" in parts.netloc:
        raise ValueError("must be a URL of scheme, host and perhaps a path, and nothing else")
    if issuer.endswith("/") or not re.fullmatch(r"[!-~]+", issuer) or parts.netloc != parts.netloc.lower():
        raise ValueError("must be in lower case, without a slash at its end")
    _ = parts.port
