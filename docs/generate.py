"""Writes the pages of this folder that are made from the code: ``configuration.md``, ``plugins.md`` and ``cli.md``, and
the table of metrics in ``observability.md``.

``make docs`` writes them; a test fails when they differ from what this program would write.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gatewaykit import Gateway, hookspecs, protocols
from gatewaykit.cli import main
from gatewaykit.metrics import Metric
from gatewaykit.metrics.names import all_metrics
from gatewaykit.settings import document
from gatewaykit.shapes import KINDS

HERE = Path(__file__).resolve().parent

CONFIGURATION = """# Configuration

*This page is generated from the settings models: `make docs`.*

The gateway reads `gatewaykit.toml` in the current directory, or the file named by `--config` or `GATEWAYKIT_CONFIG`.
It needs no file at all: every setting has a default or can come from the environment.

**Strength.** Command line, then environment variables `GATEWAYKIT_…` (two underscores go one table down:
`GATEWAYKIT_SERVER__PORT=9000`), then the names in the column *other variable*, then secret files, then the file,
then the default.

**Secrets.** Any setting can be read from a file: by `…_FILE` in the environment
(`GATEWAYKIT_GIGACHAT__CREDENTIALS_FILE=/run/secrets/gigachat`), or as a systemd credential called
`gatewaykit.gigachat.credentials`. In the file, `"${NAME}"` stands for an environment variable; `$${` is a plain `${`.

**Faults.** Unknown keys, wrong types and missing files are errors; `gatewaykit check` reports all of them at once, each
with file and line, and `gatewaykit config show` says where each value comes from.

"""

PLUGINS = """# Plugins and hooks

*This page is generated from `gatewaykit/hookspecs.py` and `gatewaykit/protocols`: `make docs`.*

A plugin is a Python module, found by an entry point of the group `gatewaykit`:

```toml
[project.entry-points.gatewaykit]
acme = "gatewaykit_acme.plugin"
```

It has functions marked with `@hookimpl`. Hooks are ordinary functions, called once while the gateway is put
together; they return the objects that do the work. `async def` hooks and pluggy's wrappers are refused with a
message that shows the right form. At run time the gateway calls the objects directly, and awaits what the signatures
below have as `async def`: an object with another method that is one is refused, for nobody would await it.

`gatewaykit plugins` lists what is installed and what it brings. `plugins.required` and `plugins.blocked` in the
configuration decide what must and what may not take part. A plugin that does not load is fatal when it is required
or has a section in the configuration; else it is reported and left out.

"""

COMMANDS = """# Command line

*This page is generated from the commands' own help: `make docs`.*

Plugins may add commands of their own; `demo` comes with the package `gatewaykit-gigachat`.

**Exit codes.** 0: done. 1: the configuration has faults, or what was asked for failed; each fault is one line on
standard error, with its place. 2: the command line itself is wrong.

**Output.** What programs may read goes to standard output, as JSON where `--json` is there; notices for people and
faults go to standard error. `gatewaykit serve` logs to standard output: text on a terminal, one JSON object a line
elsewhere. Colours are used on terminals only, and not where `NO_COLOR` is set.

**Signals.** SIGTERM and SIGINT (Ctrl-C) end `serve` and `demo` with exit code 0: no more connections are accepted, and
running calls get `server.graceful_shutdown` seconds to finish; those that do not are told so. A gateway that is still
starting ends at once, and so does one at a second Ctrl-C; with several workers any second signal kills them.

"""
_HELP_WIDTH = 100
_BEGIN, _END = "<!-- metrics: written by `make docs` -->\n", "<!-- end -->"


def configuration() -> str:
    """The page of all settings, core and shipped plugins."""
    gateway = Gateway(environ={})
    return CONFIGURATION + document([type(section) for section in gateway.settings.sections.values()]).strip() + "\n"


def plugins() -> str:
    """The page of all hooks and protocols."""
    parts = [PLUGINS, "## Order, failure, deadline, lifespan\n\n", _relations(), "\n\n"]
    for name, hook in _hooks():
        parts.append(
            f"## {name}\n\n```python\n{name}{_signature(hook)}\n```\n\n{_markdown(inspect.getdoc(hook) or '')}\n\n"
        )
        if name in KINDS:
            parts.append(_protocol(KINDS[name]))
    return "".join(parts).strip() + "\n"


def cli() -> str:
    """The page of all commands."""
    return (
        COMMANDS
        + "\n".join(_help(main, click.Context(main, info_name="gatewaykit", **main.context_settings))).strip()
        + "\n"
    )


def observability() -> str:
    """The page of metrics and traces as it stands, with a table of all metrics."""
    page = (HERE / "observability.md").read_text()
    before, begin, rest = page.partition(_BEGIN)
    after = rest[rest.index(_END) :]
    rows = ["| metric | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    rows += [_metric(metric) for metric in all_metrics()]
    return before + begin + "\n".join(["", *rows, "", *_conventions()]) + "\n" + after


def _metric(metric: Metric) -> str:
    kind = f"{metric.kind} ({metric.merge})" if metric.kind == "gauge" else metric.kind
    marks = list(dict.fromkeys(other.convention for other in all_metrics() if other.convention))
    mark = f" [{marks.index(metric.convention) + 1}]" if metric.convention else ""
    labels = ", ".join(f"`{label}`" for label in metric.prometheus_labels)
    return f"| `{metric.prometheus}`{mark} | {kind} | {metric.unit} | {labels} | {metric.description} |"


def _conventions() -> list[str]:
    found = dict.fromkeys(metric.convention for metric in all_metrics() if metric.convention)
    return [f"[{number}] {convention}  " for number, convention in enumerate(found, 1)]


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command, and of all below it."""
    context.terminal_width = _HELP_WIDTH
    yield f"## {context.command_path}\n\n```text\n{click.unstyle(command.get_help(context)).strip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _help(child, click.Context(child, parent=context, info_name=name))


def _hooks() -> Iterator[tuple[str, Any]]:
    for name, hook in vars(hookspecs).items():
        if name.startswith("gateway_"):
            yield name, hook


def _relations() -> str:
    """The attributes that objects of every kind may declare, from the module's docstring."""
    text = inspect.getdoc(protocols) or ""
    return _markdown(text.partition("\n\n")[2])


def _protocol(kind: type) -> str:
    lines = [f"### {kind.__name__}\n\n", _markdown(inspect.getdoc(kind) or ""), "\n\n"]
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            word = "async def" if inspect.iscoroutinefunction(method) else "def"
            lines.append(f"```python\n{word} {name}{_signature(method)}\n```\n\n")
            lines.append(_markdown(inspect.getdoc(method) or "") + "\n\n")
    return "".join(lines)


def _signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("'", "")


def _markdown(docstring: str) -> str:
    """reStructuredText as our docstrings use it, as Markdown."""
    blocks: list[str] = []
    code: list[str] = []
    for block in [*docstring.split("\n\n"), ""]:
        if block.startswith("    "):
            code.append(block)
            continue
        if code:
            blocks.append("```python\n" + textwrap.dedent("\n\n".join(code)) + "\n```")
            code = []
        if block.strip() not in {"", "::"}:
            blocks.append(_inline(_definitions(block)))
    return "\n\n".join(blocks)


def _definitions(block: str) -> str:
    """A definition list as a Markdown list."""
    lines = block.splitlines()
    if not (len(lines) > 1 and lines[0].startswith("``") and lines[1].startswith("    ")):
        return block
    items: list[str] = []
    for line in lines:
        if line.startswith("    "):
            items[-1] += f" {line.strip()}"
        else:
            items.append(f"- {line.strip()}:")
    return "\n".join(items)


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([\w]+)`", r"`\1`", text)
    return text.replace("``", "`")


PAGES = {"configuration.md": configuration, "plugins.md": plugins, "cli.md": cli, "observability.md": observability}


if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
        print(f"wrote docs/{page}")
