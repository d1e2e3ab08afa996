"""Pages that are generated fit the code, and what they show runs."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
import textwrap
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import gatewaykit
from gatewaykit import Gateway, hookspecs
from gatewaykit.dialects.openai_chat import OpenAIChat
from gatewaykit.testing import make_call
from gatewaykit.types import EmbeddingsRequest

ROOT = Path(__file__).resolve().parents[2]
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("gateway_")}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["configuration.md", "plugins.md", "cli.md", "observability.md"])
def test_generated_page_is_current(generator: ModuleType, page: str) -> None:
    """What stands in the page is what `make docs` would write."""
    assert (ROOT / "docs" / page).read_text() == generator.PAGES[page](), "run `make docs`"


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_documented_with_its_exact_signature(name: str) -> None:
    """Every hook has a heading of its name and, right below it, its signature."""
    text = (ROOT / "docs/plugins.md").read_text()
    signature = str(inspect.signature(HOOKS[name])).replace("'", "")
    assert f"\n## {name}\n\n```python\n{name}{signature}\n```\n" in text


def example_of(hook: Any) -> str:
    """The code block of a hook's docstring."""
    text = inspect.getdoc(hook) or ""
    return textwrap.dedent(text.split("::\n", 1)[1])


@pytest.fixture
def words() -> dict[str, Any]:
    """The names that the examples use without importing them."""
    return {
        **{name: getattr(gatewaykit, name) for name in gatewaykit.__all__},
        "Field": Field,
        "OpenAIChat": OpenAIChat,
        "PlainTextResponse": PlainTextResponse,
        "Route": Route,
        "shutil": shutil,
        "aclosing": aclosing,
        "asynccontextmanager": asynccontextmanager,
        "time": time,
    }


@pytest.mark.parametrize("name", HOOKS)
async def test_example_of_hook_makes_a_gateway_that_starts(name: str, words: dict[str, Any]) -> None:
    """The example in a hook's documentation is a plugin as it stands."""
    exec(compile(example_of(HOOKS[name]), f"<example of {name}>", "exec"), words)
    plugin = SimpleNamespace(**{name: words[name]}, name="example")
    gateway = Gateway({"log": {"access": False}}, plugins=[plugin], environ={})
    assert name in next(info for info in gateway.plugins if info.name == "example").hooks
    async with gateway:
        assert gateway.ready


def test_example_of_a_router_lets_other_requests_pass(words: dict[str, Any]) -> None:
    """A router is asked for embeddings too: the example does not know their model, and says so."""
    exec(compile(example_of(HOOKS["gateway_routers"]), "<example>", "exec"), words)
    plugin = SimpleNamespace(gateway_routers=words["gateway_routers"], name="example")
    call = make_call()
    call.request = EmbeddingsRequest("other", ("hello",))
    assert not Gateway({}, plugins=[plugin], environ={}).routers["nightly"].route(call)


def test_example_command_is_added_to_the_group(words: dict[str, Any]) -> None:
    """The example of `gateway_commands` gives a command that runs."""
    exec(compile(example_of(HOOKS["gateway_commands"]), "<example>", "exec"), words)
    group = click.Group()
    words["gateway_commands"](group)
    assert "hello" in group.commands
