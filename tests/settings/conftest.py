"""A section as a plugin would declare it, and loading of text that a test writes as a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field, SecretStr, field_validator

from gatewaykit.errors import ConfigError
from gatewaykit.settings import CORE_SECTIONS, ReadableFile, Section, Settings, Table, load_settings

Load = Callable[..., Settings]
Faults = Callable[..., list[str]]


class Upstream(Table):
    base_url: str = Field(description="Address.", pattern="^https?://")
    api_key: SecretStr | None = Field(None, description="Key.")
    models: tuple[str, ...] = Field((), description="Models.")
    timeout: float = Field(60.0, gt=0, description="Seconds.")
    headers: dict[str, SecretStr] = Field({}, description="Headers to add.")


class Client(Table):
    name: str = Field(description="Who.")
    key: SecretStr = Field(description="Key.")


class Acme(Section):
    """The acme provider."""

    section = "acme"
    environment: ClassVar[Mapping[str, str]] = {
        "ACME_TOKEN": "token",
        "ACME_RETRIES": "retries",
        "ACME_CA_FILE": "ca_file",
        "ACME_DEBUG": "debug",
    }

    token: SecretStr | None = Field(None, description="Token.")
    retries: int = Field(2, ge=0, le=9, description="Tries after the first.")
    limit: int | None = Field(None, description="Most calls at once.")
    size: int | str = Field("auto", description="Size.")
    debug: bool = Field(False, description="Say more.")
    ca_file: str | None = Field(None, description="Path of the root certificate, read later.")
    cert_file: ReadableFile | None = Field(None, description="Client certificate.")
    labels: dict[str, str] = Field({}, description="Labels.")
    weights: tuple[int, ...] = Field((), description="Weights.")
    note: str = Field("", description="Any text.")
    upstreams: dict[str, Upstream] = Field({}, description="Servers behind.")
    clients: tuple[Client, ...] = Field((), description="Who may call.")

    @field_validator("token")
    @classmethod
    def _no_space(cls, token: SecretStr | None) -> SecretStr | None:
        if token and " " in token.get_secret_value():
            raise ValueError(f"a token has no space, but {token.get_secret_value()!r} has")
        return token


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """``load(toml_text, environ, **options)`` with the core's sections and ``[acme]``."""
    numbers = count()

    def from_text(text: str | None = None, environ: Mapping[str, str] | None = None, **options: Any) -> Settings:
        file: Path | None = None
        if text is not None:
            file = tmp_path_factory.getbasetemp() / f"config-{next(numbers)}" / "gatewaykit.toml"
            file.parent.mkdir()
            file.write_bytes(text.encode())
        sections = options.pop("sections", {"gatewaykit": CORE_SECTIONS, "acme": (Acme,)})
        return load_settings(sections, file=file, environ=environ or {}, **options)

    return from_text


@pytest.fixture(scope="session")
def faults(load: Load) -> Faults:
    """The same arguments; answers each fault as ``where: message``, without the folder of the file."""

    def of_text(text: str | None = None, environ: Mapping[str, str] | None = None, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, environ, **options)
        assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]
        return [re.sub(r"\S*/(?=gatewaykit\.toml)", "", str(fault)) for fault in caught.value.faults]

    return of_text
