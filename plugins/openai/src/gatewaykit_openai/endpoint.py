"""An upstream with its vendor's row filled in: all that a provider has to know to ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .settings import Upstream, vendor_of
from .vendors import LengthField


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and how they are made. ``headers`` have secrets in the clear; so has ``secrets``, which must
    never reach a client or a log.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    length_field: LengthField
    ask_for_usage: bool
    chat_model: str
    embedding_model: str

    @classmethod
    def of(cls, name: str, upstream: Upstream) -> Endpoint:
        """What the settings say, and where they say nothing, the vendor's row."""
        vendor = vendor_of(name, upstream)
        project = upstream.project.get_secret_value() if upstream.project else ""
        given = {"OpenAI-Organization": upstream.organization, "OpenAI-Project": upstream.project, **upstream.headers}
        headers = {header: value.get_secret_value() for header, value in given.items() if value}
        secrets = list(headers.values())
        if upstream.api_key:
            key = upstream.api_key.get_secret_value()
            headers[vendor.key_header] = f"{vendor.key_scheme} {key}".lstrip()
            secrets.append(key)
        return cls(
            base_url=upstream.base_url or vendor.base_url or "",
            headers=headers,
            secrets=tuple(secrets),
            length_field=upstream.max_tokens_field or vendor.length_field,
            ask_for_usage=upstream.ask_for_usage,
            chat_model=vendor.chat_model.replace("{project}", project),
            embedding_model=vendor.embedding_model.replace("{project}", project),
        )

    def chat_name(self, model: str) -> str:
        """The upstream's own name of a model that answers."""
        return _full(self.chat_model, model)

    def embedding_name(self, model: str) -> str:
        """The upstream's own name of a model that makes vectors."""
        return _full(self.embedding_model, model)


def _full(template: str, model: str) -> str:
    return model if "://" in model else template.replace("{model}", model)
