"""The table ``[gigachat]``, and the names that users of GigaChat's own library have in their environment already."""

from __future__ import annotations

import ssl
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from gatewaykit.settings import ReadableFile, Seconds, Section, Table

from .attachments import AttachmentOptions
from .convert import ConvertOptions
from .fetch_options import FetchOptions
from .tls import load_bundle, load_chain

PUBLIC_URL = "https://api.giga.chat/v1"
PUBLIC_AUTH_URL = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"

Kind = Literal["access_token", "credentials", "password", "certificate"]
ALONE = "default"
"""The name of the credential that stands in ``[gigachat]`` itself."""

SCOPE_SLOTS = {"GIGACHAT_API_PERS": 1, "GIGACHAT_API_B2B": 10, "GIGACHAT_API_CORP": 10}
"""Requests that the service takes at a time from a client of this scope (GigaChat REST API, "Limits")."""


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be an address such as https://host/v1")
    if "@" in value or "?" in value or "#" in value:
        raise ValueError("must have no user name, query or fragment")
    return value.rstrip("/")


def _word(value: SecretStr) -> SecretStr:
    """Surrounding space and a scheme are cut off, for people copy them along."""
    text = value.get_secret_value().strip()
    scheme, _, rest = text.partition(" ")
    if scheme.lower() in ("basic", "bearer"):
        text = rest.strip()
    if not text:
        raise ValueError("is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be one word of ASCII characters, as it was copied")
    return SecretStr(text)


Address = Annotated[str, AfterValidator(_address)]
SecretWord = Annotated[SecretStr, AfterValidator(_word)]
ScopeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
MemberName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Weight = Annotated[float, Field(ge=0.01, le=100)]


class MemberSettings(Table):
    """One credential of the pool. What is not set here is as in ``[gigachat]``."""

    credentials: SecretWord | None = Field(None, description="Authorization key of a project.")
    scope: ScopeName | None = Field(None, description="What the key is for; by default that of `[gigachat]`.")
    access_token: SecretWord | None = Field(None, description="A ready token, instead of a key.")
    user: str | None = Field(None, min_length=1, pattern=r"^[^:]*$", description="User, instead of a key.")
    password: SecretStr | None = Field(None, description="Password of `user`.")
    base_url: Address | None = Field(None, description="Address of the API, if it is another one.")
    auth_url: Address | None = Field(None, description="Address that gives tokens, if it is another one.")
    parallel: int | None = Field(
        None, ge=0, description="Requests at a time; by default as the scope allows: 1 for persons, 10 for companies."
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password need each other")
        if sum(way is not None for way in (self.credentials, self.access_token, self.user)) != 1:
            raise ValueError("exactly one of credentials, access_token, user and password is needed")
        return self

    @property
    def secret_text(self) -> str:
        """The secret, in the clear."""
        return secret(self.credentials or self.access_token or self.password) or ""


class QueueSettings(Table):
    """Calls that wait for a place at a credential."""

    max_waiting: int = Field(500, ge=0, description="Calls that may wait in all; one more gets 429.")
    max_waiting_per_key: int = Field(100, ge=0, description="Calls of one key that may wait.")
    max_wait: Seconds = Field(30.0, description="Seconds that a call may wait before it gets 429.")
    weights: dict[str, Weight] = Field(
        {}, description="Shares of single keys, by their id, such as `static:NAME`; every other key has 1."
    )


class AttachmentSettings(Table):
    """Images, sound and documents that clients send along: how large they may be, and how long they stay uploaded."""

    delete: Literal["after_call", "after_ttl", "never"] = Field(
        "after_ttl", description="When an upload is deleted: when no call uses it, when it is forgotten, or never."
    )
    ttl: Seconds = Field(
        3600.0, description="Seconds that an upload is remembered, to be used again for the same bytes."
    )
    max_entries: int = Field(1000, ge=1, description="Most uploads that are remembered.")
    max_image_bytes: int = Field(15 * 1024 * 1024, ge=1, description="Largest image, in bytes.")
    max_audio_bytes: int = Field(35 * 1024 * 1024, ge=1, description="Largest sound, in bytes.")
    max_document_bytes: int = Field(40 * 1024 * 1024, ge=1, description="Largest document, in bytes.")
    fetch_timeout: Seconds = Field(20.0, description="Seconds to fetch an image from an address that a client gave.")

    @property
    def options(self) -> AttachmentOptions:
        """The same, in the words of the attachments."""
        return AttachmentOptions(
            delete=self.delete,
            ttl=self.ttl,
            max_entries=self.max_entries,
            max_image_bytes=self.max_image_bytes,
            max_audio_bytes=self.max_audio_bytes,
            max_document_bytes=self.max_document_bytes,
            fetch=FetchOptions(timeout=self.fetch_timeout),
        )


class GigaChatSettings(Section):
    """How to reach GigaChat, as whom, and what to do where it differs from its clients.

    Of several credentials here the first of these counts, as in GigaChat's own library: ``access_token``,
    ``credentials``, ``user`` and ``password``, ``cert_file`` alone. A certificate is shown with any of them. Further
    credentials are tables of ``pool``. Without a credential the provider is absent.
    """

    section = "gigachat"
    environment = {  # noqa: RUF012 - declared as ClassVar in the base
        "GIGACHAT_BASE_URL": "base_url",
        "GIGACHAT_AUTH_URL": "auth_url",
        "GIGACHAT_CREDENTIALS": "credentials",
        "GIGACHAT_SCOPE": "scope",
        "GIGACHAT_ACCESS_TOKEN": "access_token",
        "GIGACHAT_USER": "user",
        "GIGACHAT_PASSWORD": "password",
        "GIGACHAT_CERT_FILE": "cert_file",
        "GIGACHAT_KEY_FILE": "key_file",
        "GIGACHAT_KEY_FILE_PASSWORD": "key_file_password",
        "GIGACHAT_CA_BUNDLE_FILE": "ca_bundle_file",
        "GIGACHAT_VERIFY_SSL_CERTS": "verify_tls",
        "GIGACHAT_TIMEOUT": "timeout",
        "GIGACHAT_MAX_CONNECTIONS": "max_connections",
        "GIGACHAT_MAX_RETRIES": "max_retries",
        "GIGACHAT_RETRY_BACKOFF_FACTOR": "retry_backoff_factor",
        "GIGACHAT_RETRY_ON_STATUS_CODES": "retry_on_status_codes",
        "GIGACHAT_TOKEN_EXPIRY_BUFFER_MS": "token_expiry_buffer_ms",
        "GIGACHAT_PROFANITY_CHECK": "profanity_check",
        "GIGACHAT_FLAGS": "flags",
    }

    base_url: Address = Field(PUBLIC_URL, description="Address of the API, version included.")
    auth_url: Address = Field(PUBLIC_AUTH_URL, description="Address that gives tokens for `credentials`.")
    credentials: SecretWord | None = Field(
        None, description="Authorization key of a project: base64 of client id and secret, as the cabinet shows it."
    )
    scope: ScopeName = Field(
        "GIGACHAT_API_PERS",
        description="What the key is for: `GIGACHAT_API_PERS`, `GIGACHAT_API_B2B` or `GIGACHAT_API_CORP`.",
    )
    access_token: SecretWord | None = Field(
        None, description="A ready token. It cannot be renewed: after half an hour every call fails."
    )
    user: str | None = Field(
        None, min_length=1, pattern=r"^[^:]*$", description="User at a dedicated installation; needs `base_url`."
    )
    password: SecretStr | None = Field(None, description="Password of `user`.")
    cert_file: ReadableFile | None = Field(None, description="Client certificate (chain) in PEM.")
    key_file: ReadableFile | None = Field(
        None, description="Private key of the certificate in PEM, if it is not in `cert_file`."
    )
    key_file_password: SecretStr | None = Field(None, description="Password of the private key.")
    ca_bundle_file: ReadableFile | None = Field(
        None,
        description="Authorities in PEM to trust for GigaChat's connections, beside the system's: the public hosts "
        "need the Russian Trusted Root CA.",
    )
    verify_tls: bool = Field(
        True, description="Check the server's certificate. Without it anybody on the way can read your key."
    )

    parallel: int | None = Field(
        None,
        ge=0,
        description="Requests at a time, 0 for any number; the others wait. By default what the scope of "
        "`credentials` allows (1 for persons, 10 for companies), and any number for other credentials.",
    )
    pool: dict[MemberName, MemberSettings] = Field({}, description="Further credentials, by any name.")
    queue: QueueSettings = Field(
        default_factory=lambda: QueueSettings.model_validate({}), description="Calls that wait for a place."
    )
    store: Literal["auto", "memory", "database", "redis"] = Field(
        "auto",
        description="What counts requests at a time. `auto`: Redis where `redis.url` is set; else the memory of a "
        "single worker, or the database that several workers share.",
    )
    instances: int | None = Field(
        None,
        ge=1,
        description="Processes among which the places are divided while the store is down; by default the workers.",
    )
    probe_interval: Seconds = Field(
        60.0, description="Longest pause between two probes of a credential that has left the pool. They cost nothing."
    )
    balance_interval: float = Field(
        300.0, ge=0, description="Seconds between two looks at the balance of credentials that are used; 0 for none."
    )

    timeout: Seconds | None = Field(
        None,
        description="Seconds until a streamed answer begins or an answer in one piece is complete; by default the "
        "limits of `timeouts` alone count.",
    )
    connect_timeout: Seconds = Field(10.0, description="Seconds to open a connection.")
    control_timeout: Seconds = Field(30.0, description="Seconds for a token, the list of models or a deletion.")
    upload_timeout: Seconds = Field(120.0, description="Seconds for the upload of one file.")
    max_connections: int = Field(0, ge=0, description="Most connections for model calls at a time; 0 for no limit.")
    max_retries: int = Field(
        2,
        ge=0,
        le=20,
        description="Further tries of a call that failed and has not begun; `[retries]` bounds them, too.",
    )
    retry_backoff_factor: float = Field(
        0.5, ge=0, description="Before try n the wait is random, up to this many seconds times 2 to the power of n."
    )
    retry_max_wait: Seconds = Field(
        20.0, description="Longest wait in seconds; when the server asks for more, the client gets the error instead."
    )
    retry_on_status_codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = Field(
        (408, 429, 500, 502, 503, 504), description="Statuses that are tried again."
    )
    token_expiry_buffer_ms: int = Field(
        60_000, ge=0, description="Milliseconds before its end at which a token is renewed."
    )

    profanity_check: bool | None = Field(
        None, description="Switch the content filter; by default the service decides. Off needs the vendor's consent."
    )
    flags: tuple[str, ...] = Field((), description="Feature flags of the service, sent with every request.")
    cached_tokens_included: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether `prompt_tokens` holds the cached tokens; `auto` adds them only if there are more of them.",
    )
    send_state_id: bool = Field(
        False, description="Send `functions_state_id` back with the calls of the history; refused, it is left out."
    )
    unsupported: Literal["report", "refuse"] = Field(
        "report", description="What GigaChat cannot do: name it in a header of the answer, or answer 400."
    )
    json_object: Literal["instruct", "refuse"] = Field(
        "instruct", description="`response_format` json_object: ask for JSON in the system message, or answer 400."
    )
    json_schema: Literal["native", "function"] = Field(
        "native", description="`response_format` json_schema: the service's own mode, or a forced function."
    )
    required_tool: Literal["report", "insist"] = Field(
        "report", description="`tool_choice` required with several tools: pass on what comes, or fail without a call."
    )
    frequency_penalty: Literal["report", "repetition_penalty"] = Field(
        "report", description="Name `frequency_penalty` as not honoured, or send a like `repetition_penalty`."
    )
    think_tags: bool = Field(False, description="Turn a leading `<think>…</think>` of the text into reasoning.")
    attachments: AttachmentSettings = Field(
        default_factory=lambda: AttachmentSettings.model_validate({}), description="Files that clients send along."
    )
    session_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Key from which names of conversations are derived; by default the credential. Give one where "
        "several gateways with different credentials serve the same conversations.",
    )

    @property
    def kind(self) -> Kind | None:
        """Which credential counts; ``None`` without any."""
        if self.access_token is not None:
            return "access_token"
        if self.credentials is not None:
            return "credentials"
        if self.user is not None:
            return "password"
        return "certificate" if self.cert_file is not None else None

    @property
    def slots(self) -> int:
        """Requests at a time of the credential that stands here; 0 for any number."""
        if self.parallel is not None:
            return self.parallel
        return SCOPE_SLOTS.get(self.scope, 1) if self.kind == "credentials" else 0

    @property
    def members(self) -> dict[str, GigaChatSettings]:
        """Every credential with all its settings, by name; that of this table first."""
        alone = {ALONE: self} if self._stands_alone else {}
        return alone | {name: self._with(member) for name, member in self.pool.items()}

    @property
    def _stands_alone(self) -> bool:
        """Whether a credential stands in this table; beside a pool a certificate alone is none."""
        return self.kind is not None and not (self.kind == "certificate" and self.pool)

    def _with(self, member: MemberSettings) -> GigaChatSettings:
        nobody = dict.fromkeys(("credentials", "access_token", "user", "password", "parallel"))
        own = {name: getattr(member, name) for name in MemberSettings.model_fields}
        return self.model_copy(update=nobody | {name: value for name, value in own.items() if value is not None})

    @property
    def convert_options(self) -> ConvertOptions:
        """The choices that concern translation."""
        return ConvertOptions(
            cached_tokens_included=self.cached_tokens_included,
            send_state_id=self.send_state_id,
            profanity_check=self.profanity_check,
            flags=self.flags,
            unsupported=self.unsupported,
            json_object=self.json_object,
            json_schema=self.json_schema,
            required_tool=self.required_tool,
            frequency_penalty=self.frequency_penalty,
            think_tags=self.think_tags,
        )

    @model_validator(mode="after")
    def _user_and_password(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password need each other")
        if self.kind == "password" and urlsplit(self.base_url).hostname == urlsplit(PUBLIC_URL).hostname:
            raise ValueError("user and password are for dedicated installations: set base_url to yours")
        return self

    @model_validator(mode="after")
    def _members(self) -> Self:
        if ALONE in self.pool and self._stands_alone:
            raise ValueError(f"pool.{ALONE} is the name of the credential that stands in this table itself")
        for name, member in self.pool.items():
            if member.user and urlsplit(member.base_url or self.base_url).hostname == urlsplit(PUBLIC_URL).hostname:
                raise ValueError(f"pool.{name}: user and password are for dedicated installations: set base_url")
        return self

    @model_validator(mode="after")
    def _certificates(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_bundle_file is not None:
            load_bundle(context, self.ca_bundle_file)
        if self.cert_file is not None:
            load_chain(context, self.cert_file, self.key_file, secret(self.key_file_password))
        elif self.key_file is not None or self.key_file_password is not None:
            raise ValueError("key_file and key_file_password need cert_file")
        return self


def secret(value: SecretStr | None) -> str | None:
    """The text of a secret, if there is one."""
    return None if value is None else value.get_secret_value()
