"""What an upstream tells the metrics."""

from __future__ import annotations

from pathlib import Path

import trustme

from gatewaykit.certificates import ends
from gatewaykit.metrics.names import CREDENTIAL, CREDENTIAL_EXPIRES, PROVIDER
from gatewaykit_openai.provider import OpenAICompatible
from gatewaykit_openai.settings import Upstream


def test_the_end_of_its_authorities_is_measured(tmp_path: Path) -> None:
    """An upstream that is trusted by a bundle of its own tells when the next of it ends; others tell nothing."""
    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    table = {"base_url": "https://llm.invalid/v1", "api_key": "canary-key"}
    (reading,) = OpenAICompatible("own", Upstream.model_validate({**table, "ca_bundle_file": str(file)})).readings()
    assert (reading.metric, reading.value) == (CREDENTIAL_EXPIRES, ends(file))
    assert reading.labels == {PROVIDER: "own", CREDENTIAL: "ca_bundle_file"}
    assert not list(OpenAICompatible("usual", Upstream.model_validate(table)).readings())
