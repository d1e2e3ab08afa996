"""The tests that every provider has to pass, over real sockets, whatever its wire format.

::

    class TestAcme(ProviderContract):
        secrets = ("acme-key-0123456789",)

        def provider(self, base_url):
            return Acme(AcmeSettings(base_url=base_url, api_key=self.secrets[0]))

        def upstream_text(self, pieces, request):
            return UpstreamAnswer.of_events([{"text": piece} for piece in pieces])

        def upstream_tool_call(self, call, request):
            return UpstreamAnswer.of_events([{"tool": call.name, "arguments": call.arguments}])

The tests need pytest and no plugin of it: each runs in an event loop of its own.
"""

from __future__ import annotations

from gatewaykit.testing.contract.answering import AnsweringTests, CatalogueTests, ToolTests
from gatewaykit.testing.contract.failing import FailingTests, SecretTests
from gatewaykit.testing.contract.leaving import LeavingTests
from gatewaykit.testing.contract.serving import ServingTests


class ProviderContract(
    AnsweringTests, ToolTests, CatalogueTests, LeavingTests, FailingTests, SecretTests, ServingTests
):
    """Subclass it as ``class TestMine(ProviderContract)``, say how to make the provider and what its upstream answers.

    ``model`` is what calls ask for. ``secrets`` are credentials that :meth:`provider` gives to the provider: nothing of
    them may show. ``close_within`` is how many seconds the provider may take to let go of its upstream.

    A provider that has no upstream to speak to over HTTP says so in ``without_upstream``, and one without tools in
    ``without_tools``: a sentence that the report of the skipped tests shows.
    """


__all__ = ["ProviderContract"]
