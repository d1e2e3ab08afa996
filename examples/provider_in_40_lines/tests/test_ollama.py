"""The example is a plugin that can be configured, and has no more lines than it promises."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import gatewaykit_ollama

from gatewaykit.testing import gateway_client, make_gateway

MOST_LINES = 40
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


async def test_plugin_reads_its_address_from_the_configuration(ollama_address: str) -> None:
    """``[ollama]`` says where Ollama is, and its models can be asked for as ``ollama/NAME``."""
    gateway = make_gateway(gatewaykit_ollama, ollama={"base_url": ollama_address})
    async with gateway_client(gateway) as client:
        question = {"model": "ollama/llama3", "messages": [{"role": "user", "content": "Hello"}]}
        answer = await client.post("/v1/chat/completions", json={**question, "tools": []})
    assert answer.json()["choices"][0]["message"]["content"] == "Hello from llama3"


def test_provider_has_at_most_40_lines_of_code() -> None:
    """Blank lines, comments and docstrings aside, the module keeps its promise."""
    source = Path(gatewaykit_ollama.__file__).read_text()
    assert len(_code_lines(source) - _docstring_lines(source)) <= MOST_LINES


def _code_lines(source: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {line for token in tokens if token.type not in _LAYOUT for line in range(token.start[0], token.end[0] + 1)}


def _docstring_lines(source: str) -> set[int]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)]
    return {line for node in nodes for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
