"""The table ``[keys]``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gatewaykit.settings import Seconds, Section

SHORTEST_PEPPER = 32


def _is_long(pepper: SecretStr) -> SecretStr:
    if len(pepper.get_secret_value()) < SHORTEST_PEPPER:
        raise ValueError(f"is too short to be safe: {SHORTEST_PEPPER} characters at least")
    return pepper


Pepper = Annotated[SecretStr, AfterValidator(_is_long)]


class KeysSettings(Section):
    """API keys that are kept in the database."""

    section = "keys"

    env: str = Field(
        "live", pattern=r"^[a-z0-9]{1,16}$", description="What new keys carry after `gk_`, to tell installations apart."
    )
    pepper: Pepper | None = Field(
        None,
        description=f"Secret with which keys are digested, from {SHORTEST_PEPPER} characters; it must not be kept in "
        "the database. With SQLite the default is a file that is made beside the database, `FILE.pepper`.",
    )
    old_peppers: dict[str, Pepper] = Field(
        default_factory=dict,
        description="Earlier peppers, under any names: keys digested with them stay valid, and pass to the current one "
        "when they are used.",
    )
    longest_days: int | None = Field(
        None, ge=1, le=3650, description="The longest that a key may be made to live, in days; unset for no end at all."
    )
    cache_size: int = Field(10_000, ge=1, description="Keys that each process remembers.")
    negative_seconds: Seconds = Field(
        5.0, le=60, description="How long each process remembers that it does not know a key, at most."
    )
    poll_seconds: Seconds = Field(
        1.0, le=60, description="How often each process asks for changes of keys: a revoked key works no longer."
    )
    leak_reports: bool = Field(
        False,
        description="Let anybody end API keys and refresh tokens by sending them to `/api/credentials/revoke`, as "
        "those do who find them in public.",
    )
    stale_seconds: Seconds = Field(
        60.0,
        description="How long remembered keys work while the database cannot be asked for changes; from then on "
        "requests are answered with 503.",
    )

    @property
    def longest(self) -> timedelta | None:
        """The same as a length of time."""
        return None if self.longest_days is None else timedelta(days=self.longest_days)

    @model_validator(mode="after")
    def _outlives_polls(self) -> Self:
        if self.stale_seconds < 2 * self.poll_seconds:
            raise ValueError("stale_seconds must be at least twice poll_seconds")
        return self


class AdminSettings(Section):
    """The pages under `/admin/`, on which people sign in and manage keys; they need a database."""

    section = "admin"

    enabled: bool = Field(True, description="Serve the pages.")
    base_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s@]+$",
        description="Where browsers find the gateway, such as `https://gateway.example.com`. Needed behind a proxy "
        "that speaks HTTPS for it, unless that is one of `server.trusted_proxies`.",
    )
    allow_http: bool = Field(
        False,
        description="Let people sign in over plain HTTP from other machines. Whoever can listen then becomes them.",
    )
    session_idle: Seconds = Field(2 * 3600.0, description="A session ends after so many seconds without a request.")
    session_absolute: Seconds = Field(
        24 * 3600.0, description="A session ends after so many seconds, however busy it is."
    )
    fresh: Seconds = Field(
        3600.0,
        description="What matters most, such as making a key, wants a password that was given at most so many seconds "
        "ago.",
    )
