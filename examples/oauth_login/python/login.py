"""Log in at a gateway with a browser, and call it: authorization code with PKCE, with nothing but the standard library.

    python login.py https://gateway.example.com CLIENT_ID

The client is a public one with the redirect URI http://127.0.0.1/callback; its port is free (RFC 8252, 7.3).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen


def fetch(url: str, form: dict[str, str] | None = None, token: str | None = None) -> Any:
    """The JSON at ``url``; with ``form`` by POST, with ``token`` as its bearer."""
    body = None if form is None else urlencode(form).encode()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with urlopen(Request(url, body, headers), timeout=30) as answer:  # noqa: S310 - the issuer was given by the user
        return json.load(answer)


def wait_for_redirect(server: HTTPServer) -> dict[str, str]:
    """The parameters with which the browser comes back."""
    found: dict[str, str] = {}

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            found.update({name: values[0] for name, values in query.items()})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"You can close this page.")

        def log_message(self, *_: object) -> None:
            return

    server.RequestHandlerClass = Callback
    while "code" not in found and "error" not in found:
        server.handle_request()
    return found


def login(issuer: str, client_id: str) -> dict[str, Any]:
    """The tokens of whoever logs in."""
    known = fetch(f"{issuer}/.well-known/oauth-authorization-server")
    if known["issuer"] != issuer:
        raise SystemExit("this is the metadata of another server")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        redirect_uri = f"http://127.0.0.1:{server.server_port}/callback"
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": "inference usage",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": state,
        }
        url = f"{known['authorization_endpoint']}?{urlencode(asked)}"
        print(f"Open this address if no browser opens:\n{url}", flush=True)
        webbrowser.open(url)
        answer = wait_for_redirect(server)
    if answer.get("state") != state or answer.get("iss") != issuer:
        raise SystemExit("this answer belongs to another request")
    if "error" in answer:
        raise SystemExit(f"not logged in: {answer['error']}")
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": verifier,
    }
    tokens: dict[str, Any] = fetch(known["token_endpoint"], form)
    return tokens


def main() -> None:
    """Log in, and list the models."""
    issuer, client_id = sys.argv[1:]
    tokens = login(issuer, client_id)
    print(f"Logged in for {tokens['expires_in']} s.")
    for model in fetch(f"{issuer}/v1/models", token=tokens["access_token"])["data"]:
        print(model["id"])


if __name__ == "__main__":
    main()
