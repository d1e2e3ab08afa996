"""``/oauth/openapi.json``: the endpoints of the protocol for programs that read OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from .authority import Authority
from .model import GRANT_TYPES

_TEXT: dict[str, Any] = {"type": "string"}
_FORM = "application/x-www-form-urlencoded"
_CLIENT = {
    "client_id": _TEXT,
    "client_secret": _TEXT,
    "client_assertion": _TEXT,
    "client_assertion_type": _TEXT,
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT, "error_description": _TEXT},
}
_TOKENS: dict[str, Any] = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in", "scope"],
    "properties": {
        "access_token": _TEXT,
        "token_type": {"enum": ["Bearer", "DPoP"]},
        "expires_in": {"type": "integer"},
        "scope": _TEXT,
        "refresh_token": _TEXT,
        "id_token": _TEXT,
    },
}


def described(authority: Authority) -> dict[str, Any]:
    """The document."""
    grant = {
        "grant_type": {"enum": list(GRANT_TYPES)},
        "code": _TEXT,
        "code_verifier": _TEXT,
        "redirect_uri": _TEXT,
        "refresh_token": _TEXT,
        "device_code": _TEXT,
        "scope": _TEXT,
        "resource": _TEXT,
    }
    token = {"token": _TEXT, "token_type_hint": _TEXT}
    paths = {
        "/oauth/token": {"post": _operation("Get tokens", _form({**grant, **_CLIENT}, "grant_type"), _TOKENS)},
        "/oauth/revoke": {"post": _operation("End a token", _form({**token, **_CLIENT}, "token"))},
        "/oauth/introspect": {
            "post": _operation("Ask what a token is worth", _form({**token, **_CLIENT}, "token"), _of("active"))
        },
        "/oauth/device": {
            "post": _operation(
                "Connect a device", _form({"scope": _TEXT, "resource": _TEXT, **_CLIENT}), _of("device_code")
            )
        },
        "/oauth/userinfo": {"get": _operation("Ask who somebody is", None, _of("sub"))},
        "/oauth/jwks": {"get": _operation("The public keys", None, _of("keys"))},
        "/oauth/authorize": {"get": _authorize()},
        "/.well-known/oauth-authorization-server": {"get": _operation("The metadata", None, _of("issuer"))},
        "/.well-known/oauth-protected-resource": {"get": _operation("The metadata", None, _of("resource"))},
    }
    if authority.settings.registration:
        client = {"redirect_uris": {"type": "array", "items": _TEXT}, "client_name": _TEXT, "scope": _TEXT}
        client |= {"token_endpoint_auth_method": _TEXT, "grant_types": {"type": "array", "items": _TEXT}}
        body = {"content": {"application/json": {"schema": {"type": "object", "properties": client}}}}
        paths["/oauth/register"] = {"post": _operation("Register a client", body, _of("client_id"), status="201")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gatewaykit: authorization server", "version": "1"},
        "servers": [{"url": authority.issuer}],
        "paths": paths,
    }


def _operation(
    summary: str, body: dict[str, Any] | None, answer: dict[str, Any] | None = None, status: str = "200"
) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    if answer is not None:
        good["content"] = {"application/json": {"schema": answer}}
    wrong = {"description": "An error (RFC 6749, 5.2).", "content": {"application/json": {"schema": _ERROR}}}
    refusals = dict.fromkeys(("400", "401", "403", "404", "405", "413", "429"), wrong)
    found: dict[str, Any] = {"summary": summary, "responses": {status: good, **refusals}}
    return found if body is None else {**found, "requestBody": body}


def _authorize() -> dict[str, Any]:
    names = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method")
    parameters = [{"name": name, "in": "query", "schema": _TEXT} for name in (*names, "nonce", "prompt", "max_age")]
    answers = {"200": "A page.", "303": "To sign in, or back to the client.", "400": "A page that says why not."}
    responses = {status: {"description": text} for status, text in answers.items()}
    return {"summary": "Ask somebody for consent", "parameters": parameters, "responses": responses}


def _form(fields: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "required": list(required)}
    return {"required": True, "content": {_FORM: {"schema": schema}}}


def _of(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}
