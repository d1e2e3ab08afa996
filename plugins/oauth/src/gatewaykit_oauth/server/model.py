"""The words of the authorization server: clients, grants and tokens as they are managed. None of them holds a secret
but :class:`NewClient`, once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant type
CLIENT_CREDENTIALS = "client_credentials"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_TYPES = (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, DEVICE_CODE)
USUAL_SCOPES = ("openid", "profile", "offline_access", "inference", "usage")

Origin: TypeAlias = Literal["static", "dynamic", "document"]


class ClientSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client is to be.

    ``confidential`` clients have a secret or, with ``jwks``, public keys (RFC 7517) of which they hold the private
    parts. ``scopes`` are those it may ask for. ``owner`` is the account for which it
    acts with the grant ``client_credentials``. ``access_seconds`` is the life of its access tokens, up to a year;
    None is the usual one. ``bound`` demands a proof of possession (RFC 9449) for each of its tokens.
    """

    name: str
    confidential: bool = False
    redirect_uris: tuple[str, ...] = ()
    grants: tuple[str, ...] = (AUTHORIZATION_CODE, REFRESH_TOKEN)
    scopes: tuple[str, ...] = USUAL_SCOPES
    owner: str | None = None
    access_seconds: int | None = None
    bound: bool = False
    jwks: dict[str, Any] | None = None


class ClientChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is to become different about a client; fields that are not set stay as they are."""

    name: str | UnsetType = UNSET
    redirect_uris: tuple[str, ...] | UnsetType = UNSET
    grants: tuple[str, ...] | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    access_seconds: int | UnsetType | None = UNSET
    bound: bool | UnsetType = UNSET
    jwks: dict[str, Any] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Client(Struct, frozen=True, kw_only=True):
    """What is known of a client: :class:`ClientSpec`, and its life."""

    id: str
    name: str
    origin: Origin
    confidential: bool
    hint: str | None
    redirect_uris: tuple[str, ...]
    grants: tuple[str, ...]
    scopes: tuple[str, ...]
    owner: str | None
    access_seconds: int | None
    bound: bool
    enabled: bool
    created: datetime
    created_by: str
    last_used: datetime | None
    version: int
    jwks: dict[str, Any] | None = None


class NewClient(Struct, frozen=True):
    """A client and its new secret, which nobody will ever see again; None for a public client."""

    client: Client
    secret: str | None

    def __repr__(self) -> str:
        return f"NewClient({self.client.id})"


class Grant(Struct, frozen=True, kw_only=True):
    """What an account allowed a client, or what a client does on its own (no ``account``).

    ``tokens`` is how many of its access tokens are alive, ``token_expires`` when the last of them ends.
    """

    id: str
    client: str
    client_name: str
    account: str | None
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    access_seconds: int
    bound: bool
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    ended: datetime | None
    reason: str | None
    tokens: int
    token_expires: datetime | None


class AccessToken(Struct, frozen=True, kw_only=True):
    """An access token that was issued."""

    jti: str
    grant: str
    client: str
    account: str | None
    kid: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    issued: datetime
    expires: datetime
    revoked: datetime | None


class Issued(Struct, frozen=True, kw_only=True):
    """What was written for a token response: the claims to sign, and the text of the refresh token."""

    jti: str
    grant: str
    client: str
    account: str | None
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    issued: int
    expires: int
    thumbprint: str | None = None
    refresh_token: str | None = None
    nonce: str | None = None
    auth_time: int | None = None
    name: str = ""

    def __repr__(self) -> str:
        return f"Issued({self.jti})"
