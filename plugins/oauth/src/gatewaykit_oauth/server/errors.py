"""Errors of the protocol (RFC 6749, 5.2), on top of authlib's tree, with one difference: a description is always a
constant. What a client sent is never repeated to it; it might not even be allowed in a header or a URL.
"""

from __future__ import annotations

from typing import ClassVar

from authlib.oauth2.rfc6749.errors import (
    AccessDeniedError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc7591.errors import InvalidClientMetadataError, InvalidRedirectURIError
from authlib.oauth2.rfc8628.errors import AuthorizationPendingError, ExpiredTokenError, SlowDownError


class UnsupportedGrantType(OAuth2Error):  # type: ignore[misc]  # authlib is not typed
    """RFC 6749, 5.2."""

    error: ClassVar[str] = "unsupported_grant_type"
    description = "This grant type is not supported."


class UnsupportedResponseType(OAuth2Error):  # type: ignore[misc]
    """RFC 6749, 4.1.2.1."""

    error: ClassVar[str] = "unsupported_response_type"
    description = "The only response type is code."


class InvalidTarget(OAuth2Error):  # type: ignore[misc]
    """RFC 8707, 2."""

    error: ClassVar[str] = "invalid_target"
    description = "The resource is unknown, or was not granted."


class InvalidProof(OAuth2Error):  # type: ignore[misc]
    """RFC 9449, 5."""

    error: ClassVar[str] = "invalid_dpop_proof"
    description = "The DPoP proof is missing or not valid."


class UseNonce(OAuth2Error):  # type: ignore[misc]
    """RFC 9449, 8."""

    error: ClassVar[str] = "use_dpop_nonce"
    description = "The DPoP proof needs the nonce that comes with this answer."


class LoginRequired(OAuth2Error):  # type: ignore[misc]
    """OpenID Connect Core 1.0, 3.1.2.6."""

    error: ClassVar[str] = "login_required"
    description = "The user has to sign in."


class ConsentRequired(OAuth2Error):  # type: ignore[misc]
    """OpenID Connect Core 1.0, 3.1.2.6."""

    error: ClassVar[str] = "consent_required"
    description = "The user has to consent."


class Forbidden(OAuth2Error):  # type: ignore[misc]
    """A limit of the credential itself, such as the networks from which a key may be used."""

    error: ClassVar[str] = "access_denied"
    description = "This credential may not do this."
    status_code = 403


class TemporarilyUnavailable(OAuth2Error):  # type: ignore[misc]
    """RFC 6749, 4.1.2.1."""

    error: ClassVar[str] = "temporarily_unavailable"
    description = "The server cannot answer now. Try again later."
    status_code = 503


class TooManyRequests(OAuth2Error):  # type: ignore[misc]
    """A limit of this server."""

    error: ClassVar[str] = "temporarily_unavailable"
    description = "Too many requests. Try again later."
    status_code = 429


def invalid_client() -> OAuth2Error:
    """The one answer to every client that cannot prove who it is."""
    return InvalidClientError("The client is unknown, or did not prove to be itself.", status_code=401)


def invalid_grant() -> OAuth2Error:
    """The one answer to every code or token that cannot be redeemed."""
    return InvalidGrantError("The code or token is not valid, or not for this client.")


__all__ = [
    "AccessDeniedError",
    "AuthorizationPendingError",
    "ConsentRequired",
    "ExpiredTokenError",
    "Forbidden",
    "InvalidClientMetadataError",
    "InvalidProof",
    "InvalidRedirectURIError",
    "InvalidRequestError",
    "InvalidScopeError",
    "InvalidTarget",
    "LoginRequired",
    "OAuth2Error",
    "SlowDownError",
    "TemporarilyUnavailable",
    "TooManyRequests",
    "UnauthorizedClientError",
    "UnsupportedGrantType",
    "UnsupportedResponseType",
    "UseNonce",
    "invalid_client",
    "invalid_grant",
]
