"""Ollama as a provider for gatewaykit, by its own chat API: JSON lines in, events out.

Source: Ollama API reference, "Generate a chat completion".
"""

from collections.abc import AsyncIterator, Iterable

import msgspec
from pydantic import Field

import gatewaykit as gk
from gatewaykit.http import HttpClient


class OllamaSettings(gk.Section):
    """The table ``[ollama]``."""

    section = "ollama"
    base_url: str = Field("http://127.0.0.1:11434", description="Address of the Ollama server.")


class Line(msgspec.Struct):
    """One line of an answer; the last one is ``done``, and says why and at what cost."""

    message: dict[str, object]
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    eval_count: int = 0


class Ollama(gk.Provider):
    """Every model that Ollama has, as ``ollama/NAME``."""

    name = "ollama"

    def __init__(self, base_url: str) -> None:
        self._http = HttpClient(base_url)

    async def stream(self, call: gk.Call, target: gk.Target) -> AsyncIterator[gk.Event]:
        """The answer, line by line."""
        if call.chat.tools:
            raise gk.BadRequest("Tools are not supported here.", param="tools")
        options = {"temperature": call.chat.temperature, "num_predict": call.chat.max_tokens}
        messages = [{"role": message.role, "content": message.text} for message in call.chat.messages]
        body = msgspec.json.encode({"model": target.model, "messages": messages, "options": options})
        async with self._http.stream("POST", "/api/chat", body=body) as answer:
            answer.raise_for_status()
            async for line in answer.json_lines(Line):
                yield gk.TextDelta(str(line.message.get("content", "")))
                if line.done:
                    yield gk.Finished("length" if line.done_reason == "length" else "stop")
                    yield gk.Usage(line.prompt_eval_count, line.eval_count)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@gk.hookimpl
def gateway_settings() -> Iterable[type[gk.Section]]:
    """What stands in the configuration."""
    return [OllamaSettings]


@gk.hookimpl
def gateway_providers(gateway: gk.GatewayContext) -> Iterable[gk.Provider]:
    """What answers."""
    return [Ollama(gateway.settings.get(OllamaSettings).base_url)]
