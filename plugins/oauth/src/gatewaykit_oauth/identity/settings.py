"""The table ``[oauth.identity_providers.NAME]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from gatewaykit.settings import Seconds, Table

LOOPBACK = ("127.0.0.1", "::1", "localhost")
Claims = dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]
_domain = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+").fullmatch


class IdentityProviderSettings(Table):
    """An OpenID provider through which people sign in to the pages, beside passwords or instead of them."""

    label: str = Field(min_length=1, max_length=40, description="What the button on the sign-in page calls it.")
    issuer: str = Field(
        description="Its issuer, as `https://accounts.example.com`; the rest is read from its metadata. Plain http is "
        "accepted for loopback addresses only."
    )
    client_id: str = Field(min_length=1, max_length=500, description="What the gateway is called there.")
    client_secret: SecretStr | None = Field(
        None, description="The gateway's secret there; without one it is a public client, with PKCE alone."
    )
    scopes: tuple[str, ...] = Field(("openid", "profile", "email"), description="Scopes to ask for.")
    account_claim: str = Field(
        "email",
        min_length=1,
        description="Claim whose value is the account's id at the first sign-in. From then on the account belongs to "
        "that person's `sub`, whatever becomes of the claim. An `email` counts only if the provider has verified it.",
    )
    domains: tuple[str, ...] = Field(
        (), description="Domains of verified e-mail addresses that may sign in; any if empty."
    )
    require: Claims = Field(
        {}, description='Claims that whoever signs in must have, each with one of these values: `groups = ["staff"]`.'
    )
    admins: Claims = Field(
        {},
        description="Who has one of these values in one of these claims is an admin, and everybody else is not, as of "
        "each sign-in. Empty: the provider says nothing of roles.",
    )
    create: bool = Field(
        False,
        description="Make an account at the first sign-in of somebody who has none. It needs `domains` or `require`.",
    )
    timeout: Seconds = Field(5.0, le=30, description="Seconds that one exchange with the provider may take.")
    ca_file: Path | None = Field(None, description="Certificates to believe (PEM), where the system's do not suffice.")

    @field_validator("issuer")
    @classmethod
    def _is_issuer(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        loopback = parts.scheme == "http" and parts.hostname in LOOPBACK
        if (parts.scheme != "https" and not loopback) or not parts.hostname:
            raise ValueError("must be an https URL; http is for loopback addresses only")
        if parts.query or parts.fragment or "@" in parts.netloc or not re.fullmatch(r"[!-~]+", issuer):
            raise ValueError("must be a URL of scheme, host and perhaps a path, and nothing else")
        _ = parts.port
        return issuer

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("must have openid among them")
        return scopes

    @field_validator("domains")
    @classmethod
    def _are_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_domain(domain) for domain in domains):
            raise ValueError("a domain is written like example.com, in lower case")
        return domains

    @model_validator(mode="after")
    def _is_closed(self) -> Self:
        if self.create and not (self.domains or self.require):
            raise ValueError("create needs domains or require: otherwise anybody there could make an account here")
        return self
