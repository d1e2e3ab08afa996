"""The base of every settings model, and the sections that belong to the core."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)


class Table(BaseModel):
    """A table inside a section, such as one entry of ``[openai.upstreams.NAME]``: unknown keys are errors, values are
    fixed, and no error of pydantic's own repeats a value. Every field needs a ``description``.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class Section(Table):
    """One top-level table of the configuration; the core and every plugin declare theirs as a subclass.

    ::

        class EchoSettings(Section):
            section = "echo"
            environment = {"ECHO_TOKEN": "token"}
            token: SecretStr | None = Field(None, description="Key of the echo service.")

    ``section`` is the table's name: lower-case letters, digits and single underscores. ``environment`` maps names
    that users already have in their environment to the dotted path of the field that they fill; an empty one counts
    as unset. A secret is a field of type ``SecretStr``: its value appears in no message, repr or listing.
    """

    section: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {}


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return path


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""Path of a file that exists and may be read when the settings are loaded."""

Seconds = Annotated[float, Field(gt=0)]
"""A length of time, more than 0."""


DATABASE_SCHEMES = ("sqlite", "postgresql", "postgres")
"""How a database URL may begin."""


class ServerSettings(Section):
    """Where and how the gateway listens."""

    section = "server"

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 lets the system choose a free one.")
    workers: int = Field(1, ge=1, description="Number of worker processes.")
    root_path: str = Field(
        "",
        pattern=r"^(/[!-~]*[!-.0-~])?$",
        description="Path under which a proxy in front serves the gateway, such as `/llm`; empty for none.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of proxies in front whose `X-Forwarded-For` and `X-Forwarded-Proto` count; "
        "`*` alone for whoever connects.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Serve without keys, on any address. Whoever reaches the port then spends your credentials.",
    )
    max_body_bytes: int = Field(
        10 * 1024 * 1024, ge=1, description="Largest request body, in bytes; a larger one is answered with 413."
    )
    max_header_bytes: int = Field(
        64 * 1024, ge=1024, description="Largest request head (request line and headers together), in bytes."
    )
    graceful_shutdown: float = Field(
        30.0, ge=0, description="Seconds that running calls get to finish when the gateway stops."
    )
    tls_certfile: ReadableFile | None = Field(
        None, description="Certificate chain in PEM; with it the gateway speaks HTTPS."
    )
    tls_keyfile: ReadableFile | None = Field(
        None, description="Private key of the certificate in PEM, if it is not in `tls_certfile`."
    )
    tls_keyfile_password: SecretStr | None = Field(None, description="Password of the private key.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies if proxies != ("*",) else ():
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"must be addresses or networks, or '*' alone: {error}") from None
        return proxies

    @model_validator(mode="after")
    def _key_needs_certificate(self) -> Self:
        if self.tls_certfile is None and (self.tls_keyfile or self.tls_keyfile_password):
            raise ValueError("tls_keyfile and tls_keyfile_password need tls_certfile")
        return self


class PluginsSettings(Section):
    """Which installed plugins take part."""

    section = "plugins"

    required: tuple[str, ...] = Field(
        (), description="Plugins without which the gateway refuses to start, by entry-point name."
    )
    blocked: tuple[str, ...] = Field((), description="Plugins that are not loaded although they are installed.")

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if both := sorted(set(self.required) & set(self.blocked)):
            raise ValueError(f"both required and blocked: {', '.join(both)}")
        return self


class TimeoutSettings(Section):
    """Time limits of one call, in seconds."""

    section = "timeouts"

    request_body: Seconds = Field(60.0, description="For the client to send the body of its request.")
    first_event: Seconds = Field(120.0, description="From sending the request to the first event of the answer.")
    between_events: Seconds = Field(120.0, description="From one event of a stream to the next.")
    whole_call: Seconds = Field(600.0, description="From the client's request to the end of the answer.")
    keepalive_comment: Seconds = Field(
        15.0, description="Silence after which a waiting stream gets a comment line, so that no proxy closes it."
    )
    hook: Seconds = Field(1.0, description="For one step of a plugin, such as a transform, in each call.")


class RetrySettings(Section):
    """Trying again what failed before its first event, when no other target is left. Providers' own retries count."""

    section = "retries"

    attempts: int = Field(2, ge=0, le=10, description="Further tries of one call, by the gateway or by its provider.")
    backoff: float = Field(
        0.25, ge=0, description="Before try n the wait is random, up to this many seconds times 2 to the power of n."
    )
    longest: Seconds = Field(
        10.0, description="Longest wait in seconds; when a provider asks for more, the client gets its error instead."
    )
    budget: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of all calls that further tries may add; clients' own retries use it up too.",
    )
    reserve: int = Field(10, ge=0, description="Further tries in 10 seconds that are possible whatever the share says.")


class BreakerSettings(Section):
    """When a failing target is left alone for a while, in each process."""

    section = "breaker"

    enabled: bool = Field(True, description="Leave failing targets alone.")
    window: Seconds = Field(30.0, description="Seconds that are looked back upon.")
    calls: int = Field(20, ge=1, description="Calls within the window below which nothing is concluded.")
    error_share: float = Field(0.5, gt=0, le=1, description="Share of failures that opens the circuit.")
    slow: Seconds | None = Field(None, description="Seconds after which an answer counts as slow; unset, none does.")
    slow_share: float = Field(0.5, gt=0, le=1, description="Share of slow answers that opens the circuit.")
    cooldown: Seconds = Field(5.0, description="Seconds without any call to the target, before a probe.")
    probes: int = Field(
        2, ge=1, description="Calls that must succeed, one after the other, to close the circuit again."
    )


class HedgingSettings(Section):
    """How many calls may ask a second target beside a silent first one; models opt in under `[router.models]`."""

    section = "hedging"

    share: float = Field(
        0.06,
        ge=0,
        le=1,
        description="Share of all hedged models' calls that a second target may add: a little more than is "
        "expected, or none is left for the slowest.",
    )
    reserve: int = Field(2, ge=0, description="Second targets in 10 seconds that are possible whatever the share says.")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Days = Annotated[int, Field(ge=0, le=36_500)]


class Rotation(Table):
    """When a log file is put aside, and how long such files are kept."""

    max_bytes: int = Field(
        default=100 * 1024 * 1024, ge=0, description="Size in bytes at which the file is put aside; 0 for any size."
    )
    hours: int = Field(
        default=24,
        ge=0,
        description="Hours from midnight UTC after which the file is put aside; 0 for never.",
    )
    compress: bool = Field(default=True, description="Compress files that were put aside (gzip).")
    keep_files: int = Field(default=30, ge=0, description="How many files that were put aside are kept; 0 for all.")
    keep_days: Days = Field(default=30, description="Days that files which were put aside are kept; 0 for ever.")


class LogSettings(Section):
    """What is logged, where, and in which form."""

    section = "log"

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Least severe level that is logged."
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json` for machines, `text` for people; `auto` is text on a terminal and JSON elsewhere."
    )
    access: bool = Field(True, description="Log one line for each request.")
    file: Path | None = Field(
        None, description="Log to this file, which all workers share, instead of standard output; JSON, unless told."
    )
    rotation: Rotation = Field(Rotation(), description="When `file` is put aside, and how long such files are kept.")


class DatabaseSettings(Section):
    """Where the gateway keeps what has to outlive it. Without a `url` it keeps nothing."""

    section = "database"

    url: SecretStr | None = Field(
        None,
        description="`sqlite:///file.db` (four slashes for an absolute path) or "
        "`postgresql://user:password@host/name`; unset for no database.",
    )
    pool_size: int = Field(4, ge=1, le=64, description="Threads that work with the database, in each process.")
    queue_size: int = Field(
        256, ge=1, description="Pieces of work that may wait for a thread; what comes on top is refused with 503."
    )
    timeout: Seconds = Field(
        10.0, description="Longest that a request waits for the database, the queue included, before a 503."
    )
    busy_timeout: Seconds = Field(5.0, description="Longest wait for a lock that another process holds.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, mark, rest = url.get_secret_value().partition("://")
        if not mark or scheme not in DATABASE_SCHEMES:
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{name}://' for name in DATABASE_SCHEMES)}")
        if rest.partition("?")[0].count("@") > 1:
            raise ValueError("has more than one '@': in user and password write it as %40, ':' as %3A and '/' as %2F")
        return url


class RedisSettings(Section):
    """A Redis or Valkey that several processes or machines share; without a `url` each process counts for itself."""

    section = "redis"

    url: SecretStr | None = Field(
        None, description="`redis://user:password@host:6379/0`, `rediss://…` for TLS, or `unix:///path/to/socket`."
    )
    timeout: Seconds = Field(
        0.05,
        description="Longest wait for an answer, connecting included; what takes longer counts as a failure. Less than "
        "half of `timeouts.hook`, so that calls can go on without it.",
    )
    max_connections: int = Field(
        32,
        ge=1,
        description="Connections of each process. Calls wait for a free one for half a second, or for `timeout` if "
        "that is longer; then they do without Redis, which is no failure of it.",
    )
    prefix: str = Field(
        "gatewaykit",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What all keys begin with; gateways with different databases need different ones. It is also their "
        "hash tag, so that a cluster keeps them in one slot.",
    )
    failures: int = Field(5, ge=1, description="Failures in a row after which Redis is left alone for a while.")
    cooldown: Seconds = Field(5.0, description="How long it is left alone before it is tried again.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a URL that starts with redis://, rediss:// or unix://")
        return url


CORE_SECTIONS: tuple[type[Section], ...] = (
    ServerSettings,
    PluginsSettings,
    TimeoutSettings,
    RetrySettings,
    BreakerSettings,
    HedgingSettings,
    LogSettings,
    DatabaseSettings,
    RedisSettings,
)
