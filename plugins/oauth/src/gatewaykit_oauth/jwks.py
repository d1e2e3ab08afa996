"""Keys that others give us (RFC 7517)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt


def readable(jwk: Mapping[str, Any], algorithm: str | None = None) -> jwt.PyJWK | None:
    """The key, for the algorithm that it names or else ``algorithm``; None if PyJWT does not understand it."""
    try:
        return jwt.PyJWK(dict(jwk), algorithm=None if "alg" in jwk else algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    except NotImplementedError:  # "alg": "none"
        return None
