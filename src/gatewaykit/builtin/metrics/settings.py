"""What is measured beyond the usual, and who may look."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from gatewaykit.settings import Section


class MetricsSettings(Section):
    """What the gateway measures of itself, for Prometheus, at `/metrics`."""

    section = "metrics"

    enabled: bool = Field(True, description="Measure at all.")
    token: SecretStr | None = Field(
        None, min_length=16, description="Bearer token that opens `/metrics`; keys of administrators open it, too."
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="Port of its own for `/metrics`, which then is nowhere else; plain HTTP."
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on with that port.")
    allow_anonymous: bool = Field(
        False, description="Open that port without a token, on whatever address. Whoever reaches it sees the traffic."
    )
    genai: Literal["1.41", "main", "both"] = Field(
        "1.41",
        description="Names of the GenAI metrics: `1.41` is what most dashboards know, `main` what "
        "semantic-conventions-genai says now, without a release.",
    )
    models: tuple[str, ...] = Field(
        (), description="Globs of models that get series of their own although no list or alias names them."
    )
    keys: bool = Field(False, description="Also count calls, tokens and money of each key, by its id.")
    series: int = Field(
        1000, ge=10, le=50_000, description="Most series of one metric; what comes on top is counted as `other`."
    )

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> Self:
        from gatewaykit.serving.server import is_loopback

        if self.port and not (is_loopback(self.host) or self.token or self.allow_anonymous):
            raise ValueError("port: host can be reached from other machines; set a token, or allow_anonymous = true")
        return self
