"""API keys from the configuration: the first authenticator, so that nothing is open by default.

A key is given by the SHA-256 of its text (``printf %s "$KEY" | sha256sum``) or, from a secret file or the
environment, as it is. Only digests stay in memory. SHA-256 without salt suffices for keys that no one can guess;
short ones are refused.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import Field, SecretStr, model_validator

from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import Authenticator, GatewayContext, Known
from gatewaykit.settings import Section, ServerSettings
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Incoming, Principal

MIN_LENGTH = 20
SCOPES = (INFERENCE, USAGE, KEYS, ADMIN)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ANYBODY = Principal(id="anonymous", name="anonymous")


class StaticKeysSettings(Section):
    """API keys that stand in the configuration."""

    section = "static_keys"

    keys: dict[str, SecretStr] = Field(
        {},
        description=f"Keys by name, each as `sha256:` and the key's SHA-256 in hex, or as it is (from "
        f"{MIN_LENGTH} characters).",
    )
    models: dict[str, tuple[str, ...]] = Field(
        {}, description="Models that a key may use, as globs by key name; a key that is not named may use all."
    )
    scopes: dict[str, tuple[str, ...]] = Field(
        {},
        description="What a key may do, by key name: `inference` (call models), `usage` (read its own usage), `keys` "
        "(manage its own keys), `admin` (manage everything); a key that is not named has the first two.",
    )

    @model_validator(mode="after")
    def _are_keys(self) -> Self:
        for name, key in self.keys.items():
            text = key.get_secret_value()
            if text.startswith("sha256:"):
                if not _DIGEST.fullmatch(text):
                    raise ValueError(f"keys.{name} must be 'sha256:' and 64 hexadecimal digits in lower case")
            elif len(text) < MIN_LENGTH:
                raise ValueError(f"keys.{name} is too short to be safe: {MIN_LENGTH} characters at least")
        self._refuse_unknown("models", self.models)
        self._refuse_unknown("scopes", self.scopes)
        for name, scopes in self.scopes.items():
            if unknown := sorted(set(scopes).difference(SCOPES)):
                raise ValueError(f"scopes.{name}: there is no {', '.join(unknown)}, only {', '.join(SCOPES)}")
        return self

    def _refuse_unknown(self, field: str, named: Iterable[str]) -> None:
        if unknown := sorted(set(named) - set(self.keys)):
            raise ValueError(f"{field} names keys that do not exist: {', '.join(unknown)}")


def given_key(headers: Mapping[str, str]) -> str | None:
    """The key that a client sent: ``Authorization: Bearer`` (RFC 6750), or ``x-api-key`` as Anthropic clients do."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key") or None


class StaticKeys(Authenticator):
    """Knows the keys of the configuration; passes any other on to the next authenticator."""

    name = "static-keys"

    def __init__(self, settings: StaticKeysSettings) -> None:
        self._principals: dict[bytes, tuple[bytes, Principal]] = {}
        for name, key in settings.keys.items():
            digest = _digest(key.get_secret_value())
            principal = Principal(
                id=f"static:{name}",
                name=name,
                models=settings.models.get(name, ("*",)),
                scopes=frozenset(settings.scopes.get(name, (INFERENCE, USAGE))),
            )
            self._principals[digest] = (digest, principal)

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """The principal of the key, if it is one of ours."""
        key = given_key(incoming.headers)
        if key is None:
            return None
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = self._principals.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """``static:NAME``."""
        found = (principal for _, principal in self._principals.values() if principal.id == id)
        return next((Known(principal) for principal in found), None)


class Anonymous(Authenticator):
    """Lets everybody in, last of all, when the operator said so."""

    name = "anonymous"
    tier = 1000

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """The anonymous principal; not for those who sent a key that nobody knows."""
        return None if given_key(incoming.headers) else _ANYBODY

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """``anonymous``."""
        return Known(_ANYBODY) if id == _ANYBODY.id else None


def _digest(key: str) -> bytes:
    if _DIGEST.fullmatch(key):
        return bytes.fromhex(key.removeprefix("sha256:"))
    return hashlib.sha256(key.encode()).digest()


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[static_keys]``."""
    return [StaticKeysSettings]


@hookimpl
def gateway_authenticators(gateway: GatewayContext) -> Iterable[Authenticator]:
    """The keys, if there are any, and everybody, if the operator said so."""
    settings = gateway.settings.get(StaticKeysSettings)
    found: list[Authenticator] = [StaticKeys(settings)] if settings.keys else []
    if gateway.settings.get(ServerSettings).allow_anonymous:
        found.append(Anonymous())
    return found
