"""``WWW-Authenticate`` (RFC 6750, 3; RFC 9728, 5.1; RFC 9449, 7.1): where tokens come from, and what was wrong."""

from __future__ import annotations

from urllib.parse import urlsplit

from .proofs import ALGORITHMS
from .resources import Resources
from .scopes import Scopes

HEADER = "www-authenticate"
METADATA = "/.well-known/oauth-protected-resource"


class Challenges:
    """What clients are told that were refused."""

    def __init__(self, issuer: str, resources: Resources, scopes: Scopes) -> None:
        parts = urlsplit(issuer)
        self._origin, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._resources = resources
        self._scope = " ".join(name for name in scopes.of_resources if name in {"inference", "usage"})

    def metadata_url(self, resource_path: str) -> str:
        """Where the metadata of a resource is: the well-known part stands between host and path (RFC 9728, 3.1)."""
        return f"{self._origin}{METADATA}{self._path}{resource_path}"

    def plain(self, path: str) -> str:
        """For a request without credentials: no error, for nothing was wrong yet."""
        return f'Bearer realm="gatewaykit", {self._where(path)}, scope="{self._scope}"'

    def invalid(self, path: str) -> str:
        """For credentials that are not valid, expired or revoked."""
        text = "The token or key is not valid"
        return f'Bearer realm="gatewaykit", error="invalid_token", error_description="{text}", {self._where(path)}'

    def proof(self, path: str, error: str) -> str:
        """For a token that has to come with a proof, or a proof that is not valid."""
        algorithms = " ".join(ALGORITHMS)
        return f'DPoP realm="gatewaykit", error="{error}", algs="{algorithms}", {self._where(path)}'

    def insufficient(self, audience: str | tuple[str, ...]) -> str:
        """For a good token that may not do something; the scope that it would need is added to this."""
        paths = self._resources.paths_of((audience,) if isinstance(audience, str) else audience)
        where = f'resource_metadata="{self.metadata_url(paths[0] if paths else "")}"'
        return f'Bearer realm="gatewaykit", error="insufficient_scope", {where}'

    def _where(self, path: str) -> str:
        return f'resource_metadata="{self.metadata_url(self._resources.nearest(path))}"'
