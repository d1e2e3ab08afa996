"""What clients find out by themselves: the server (RFC 8414; OpenID Connect Discovery 1.0), its keys (RFC 7517) and its
resources (RFC 9728).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answering import document, endpoint
from .assertions import ALGORITHMS as SIGNED_BY
from .authority import Authority
from .challenges import METADATA
from .client_auth import METHODS
from .errors import OAuth2Error
from .model import GRANT_TYPES
from .openapi import described
from .proofs import ALGORITHMS
from .signing_keys import ALGORITHMS as KEYS_SIGN_BY

_AUTHENTICATED = ("token", "revocation", "introspection")
_SERVER, _OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


def server_metadata(authority: Authority) -> dict[str, Any]:
    """The document of RFC 8414, 2. Every address in it is the configuration's, whatever ``Host`` a request names."""
    settings, issuer = authority.settings, authority.issuer
    found: dict[str, Any] = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "device_authorization_endpoint": f"{issuer}/oauth/device",
        "userinfo_endpoint": f"{issuer}/oauth/userinfo",
        "scopes_supported": list(authority.scopes.names),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "token_endpoint_auth_methods_supported": list(METHODS),
        "revocation_endpoint_auth_methods_supported": list(METHODS),
        "introspection_endpoint_auth_methods_supported": [name for name in METHODS if name != "none"],
        **{f"{endpoint}_endpoint_auth_signing_alg_values_supported": list(SIGNED_BY) for endpoint in _AUTHENTICATED},
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": settings.client_documents,
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(dict.fromkeys((settings.algorithm, *KEYS_SIGN_BY))),
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "name"],
        "prompt_values_supported": ["none", "login", "consent"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
        "protected_resources": [f"{issuer}{path}" for path in authority.resources.paths],
    }
    if settings.registration:
        found["registration_endpoint"] = f"{issuer}/oauth/register"
    AuthorizationServerMetadata(found).validate()
    return found


def metadata_routes(authority: Authority) -> list[Route]:
    """All routes of metadata; they may be called from any page."""
    kept = {"cache-control": f"public, max-age={authority.settings.jwks_seconds}", "pragma": ""}
    found = server_metadata(authority)
    path = urlsplit(authority.issuer).path

    async def server(request: Request) -> Response:
        return document(found, headers=kept)

    async def jwks(request: Request) -> Response:
        return document({"keys": list((await authority.running.keyring.keys()).jwks)}, headers=kept)

    async def resource(request: Request) -> Response:
        named = f"/{request.path_params.get('path', '')}".rstrip("/")
        own = named.removeprefix(path) if path and named.startswith(path) else named
        if own not in authority.resources.paths:
            raise _nothing_here()
        return document(
            {
                "resource": f"{authority.issuer}{own}",
                "authorization_servers": [authority.issuer],
                "jwks_uri": f"{authority.issuer}/oauth/jwks",
                "bearer_methods_supported": ["header"],
                "scopes_supported": list(authority.scopes.of_resources),
                "resource_name": "gatewaykit",
                "dpop_signing_alg_values_supported": list(ALGORITHMS),
            },
            headers=kept,
        )

    async def openapi(request: Request) -> Response:
        return document(described(authority), headers=kept)

    servers = dict.fromkeys((_SERVER, _OPENID, f"{_SERVER}{path}", f"{_OPENID}{path}"))
    return [
        *(endpoint(name, server, "GET", "HEAD") for name in servers),
        endpoint("/oauth/jwks", jwks, "GET", "HEAD"),
        endpoint("/oauth/openapi.json", openapi, "GET", "HEAD"),
        endpoint(METADATA, resource, "GET", "HEAD"),
        endpoint(f"{METADATA}/{{path:path}}", resource, "GET", "HEAD"),
    ]


def _nothing_here() -> OAuth2Error:
    return OAuth2Error("There is no such resource.", error="invalid_target", status_code=404)
