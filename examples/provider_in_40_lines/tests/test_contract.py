"""The example passes what every provider has to pass."""

from collections.abc import Sequence

from gatewaykit_ollama import Ollama

from gatewaykit.testing import ProviderContract, UpstreamAnswer, UpstreamRequest


class TestOllama(ProviderContract):
    """Over sockets, in Ollama's wire format."""

    without_tools = "the example leaves tools out, and says so to the client"

    def provider(self, base_url: str) -> Ollama:
        return Ollama(base_url)

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        lines = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
        end = {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 6}
        return UpstreamAnswer.of_lines([*lines, end])
