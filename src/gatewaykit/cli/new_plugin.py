"""``gatewaykit new-plugin``: a package with a provider that works and tests that pass, to be changed step by step."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 30
_TEMPLATES = {
    "README.md": "README.md.in",
    "pyproject.toml": "pyproject.toml.in",
    "src/$module/__init__.py": "init.py.in",
    "src/$module/plugin.py": "plugin.py.in",
    "src/$module/provider.py": "provider.py.in",
    "src/$module/py.typed": "py.typed.in",
    "src/$module/wire.py": "wire.py.in",
    "tests/test_provider.py": "test_provider.py.in",
}
"""What is written, and from which file of ``templates``."""


@click.command()
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="here",
    help="Folder in which the package's folder is made.",
)
def new_plugin(name: str, into: Path) -> None:
    """Write a new provider package, gatewaykit-NAME, whose tests pass as written.

    NAME is made of lower-case words and digits, joined by dashes, such as "acme" or "acme-cloud".
    """
    if problem := _problem_with(name):
        raise click.BadParameter(problem, param_hint="NAME")
    folder = into / f"gatewaykit-{name}"
    try:
        into.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        written = [_write(folder, path, template, _words(name)) for path, template in _TEMPLATES.items()]
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} exists already; nothing was changed.") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo("\n".join([f"{folder} is there:", *(f"  {path}" for path in written), "", "Next:"]))
    click.echo(f"  cd {folder}\n  pip install -e . --group dev\n  pytest")


def _problem_with(name: str) -> str | None:
    """Why ``name`` cannot be a plugin's, in words."""
    if name.startswith("gatewaykit-"):
        return f"leave out 'gatewaykit-': it is put in front of {name.removeprefix('gatewaykit-')!r} anyway."
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        return f"{name!r} is not made of lower-case letters and digits, joined by dashes ({_LONGEST} at most)."
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"{name!r} is a word of Python itself."
    if name.replace("-", "_") in _taken():
        return f"{name!r} is taken: a plugin or a table of the configuration has this name already."
    return None


def _taken() -> set[str]:
    """Names of plugins and of their tables, the core's among them, with underscores."""
    from gatewaykit.settings import CORE_SECTIONS
    from gatewaykit.sources import Sources

    registry = Sources(None, {}, {}).load_plugins(())
    sections = [*CORE_SECTIONS, *(section for _, section in registry.collect("gateway_settings"))]
    names = (info.name.replace("-", "_") for info in registry.report)
    return {*names, *(section.section for section in sections)}


def _words(name: str) -> dict[str, str]:
    """What stands for what in the templates."""
    underscored = name.replace("-", "_")
    capital = "".join(word.capitalize() for word in name.split("-"))
    return {
        "name": name,
        "package": f"gatewaykit-{name}",
        "module": f"gatewaykit_{underscored}",
        "section": underscored,
        "capital": capital,
        "environment": underscored.upper(),
    }


def _write(folder: Path, path: str, template: str, words: dict[str, str]) -> str:
    relative = Template(path).substitute(words)
    text = (files("gatewaykit.cli") / "templates" / template).read_text(encoding="utf-8")
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template(text).substitute(words), encoding="utf-8")
    return relative
