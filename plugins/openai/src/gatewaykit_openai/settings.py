"""The table ``[openai]`` of the configuration: upstreams that speak OpenAI's format, by name."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from gatewaykit.settings import ReadableFile, Seconds, Section, Table

from .vendors import COMPATIBLE, VENDORS, LengthField, Vendor

OPENAI = "openai"
OPENAI_BASE_URL = VENDORS[OPENAI].base_url

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_OWN_HEADERS = frozenset({"accept", "connection", "content-length", "content-type", "host", "transfer-encoding"})


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("expected an address such as https://host/v1")
    if parts.username is not None or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ValueError("an address without user, query and fragment is expected")
    return url.rstrip("/")


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("expected visible ASCII characters, with no space at either end")
    return value


def _header_names(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    if wrong := [name for name in headers if not _HEADER_NAME.match(name)]:
        raise ValueError(f"not a header name: {wrong[0]!r}")
    if own := sorted(_OWN_HEADERS & {name.lower() for name in headers}):
        raise ValueError(f"the gateway sets this header itself: {own[0]}")
    return headers


def _authorities(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ValueError("the file holds no certificates in PEM") from error
    return path


def _vendor(name: str) -> str:
    if name not in VENDORS:
        raise ValueError(f"must be one of {', '.join(VENDORS)}")
    return name


HeaderSecret = Annotated[SecretStr, AfterValidator(_header_value)]
VendorName = Annotated[str, AfterValidator(_vendor)]
UpstreamName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]


class Upstream(Table):
    """One server that speaks OpenAI's format; it becomes the provider of that name."""

    vendor: VendorName | None = Field(
        None, description="Whose server it is, for its address and quirks; by default the name of the table says it."
    )
    base_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        None,
        description="Address up to and including the version, such as `https://host/v1`; by default the vendor's, if "
        "it has one.",
    )
    api_key: HeaderSecret | None = Field(
        None,
        description="Sent as `Authorization: Bearer …`, or as the vendor has it; leave it out for a server without "
        "keys.",
    )
    organization: HeaderSecret | None = Field(None, description="Sent as `OpenAI-Organization`.")
    project: HeaderSecret | None = Field(None, description="Sent as `OpenAI-Project`.")
    headers: Annotated[dict[str, HeaderSecret], AfterValidator(_header_names)] = Field(
        default_factory=dict, description="Further request headers; their values are treated as secrets."
    )
    models: tuple[str, ...] = Field(
        (), description="The models on offer. When given, the upstream is not asked for its list."
    )
    connect_timeout: Seconds = Field(10.0, description="To open a connection, encryption included.")
    ca_bundle_file: Annotated[ReadableFile, AfterValidator(_authorities)] | None = Field(
        None, description="Further trusted certificate authorities (PEM), for this upstream only."
    )
    ask_for_usage: bool = Field(
        False,
        description="Ask for the token counts of streams also when the client does not, and keep them from the client. "
        "The request body is then no longer the client's byte for byte.",
    )
    max_tokens_field: LengthField | None = Field(
        None,
        description="Name of the field for the answer's length in requests that are translated; by default "
        "`max_completion_tokens` for OpenAI and Azure, and `max_tokens` elsewhere.",
    )

    @model_validator(mode="after")
    def _one_authorization(self) -> Self:
        if self.api_key and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("both api_key and a header Authorization are given")
        return self

    def ssl_context(self) -> ssl.SSLContext | None:
        """The system's trust and ``ca_bundle_file``; ``None`` for the system's alone."""
        if self.ca_bundle_file is None:
            return None
        context = ssl.create_default_context()
        context.load_verify_locations(self.ca_bundle_file)
        return context


def vendor_of(name: str, upstream: Upstream) -> Vendor:
    """The row of the upstream's vendor: the one it names, or the one it is called after; one that is called openai and
    is elsewhere may be anybody's.
    """
    if upstream.vendor is not None:
        return VENDORS[upstream.vendor]
    if name == OPENAI and upstream.base_url not in (None, OPENAI_BASE_URL):
        return COMPATIBLE
    return VENDORS.get(name, COMPATIBLE)


class OpenAISettings(Section):
    """Upstreams that speak OpenAI's format."""

    section = "openai"
    environment: ClassVar[Mapping[str, str]] = {
        **{vendor.key_variable: f"upstreams.{name}.api_key" for name, vendor in VENDORS.items() if vendor.key_variable},
        "OPENAI_BASE_URL": f"upstreams.{OPENAI}.base_url",
        "AZURE_OPENAI_BASE_URL": "upstreams.azure.base_url",
        "YANDEX_CLOUD_FOLDER": "upstreams.yandex.project",
    }

    upstreams: dict[UpstreamName, Upstream] = Field(
        default_factory=dict, description="One table for each upstream; its key is the provider's name."
    )

    @model_validator(mode="after")
    def _vendors(self) -> Self:
        for name, upstream in self.upstreams.items():
            vendor = vendor_of(name, upstream)
            if upstream.base_url is None and vendor.base_url is None:
                raise ValueError(f"upstreams.{name} needs a base_url")
            if vendor.needs_project and upstream.project is None:
                raise ValueError(f"upstreams.{name} needs a project, which is part of the names of its models")
        return self
