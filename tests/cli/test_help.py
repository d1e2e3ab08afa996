"""What the other commands print: for people on any terminal, for programs as JSON."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from gatewaykit.cli import main
from gatewaykit.cli.output import print_table

from .conftest import Place


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command, the groups among them."""
    context = click.Context(group)
    found = [path]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_the_terminal(place: Place, words: tuple[str, ...], columns: int) -> None:
    """Every command has help; no line is wider than the terminal, and no description is cut off."""
    with place.on_terminal(*words, "--help", columns=columns) as helped:
        assert helped.end(None) == 0
    lines = click.unstyle(helped.out).replace("\r", "").splitlines()
    assert lines[0].startswith(" ".join(["Usage: gatewaykit", *words]))
    assert all(len(line) <= columns for line in lines)
    assert not any(line.endswith("...") for line in lines[2:])
    assert "\x1b[1mOptions:" in helped.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("sevre",), "did you mean 'serve'?"),
        (("demon",), "did you mean 'demo'?"),
        (("config", "shw"), "Did you mean 'show'?"),
        (("xyz",), "There are: accounts, backup, check, clients, config, "),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(place: Place, words: tuple[str, ...], hint: str) -> None:
    """A misspelt command, a plugin's too, is refused with the one that was meant."""
    done = place.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"No such command {words[-1]!r}" in done.stderr
    assert hint in done.stderr


BROKEN = {
    "import": "import not_there",
    "syntax": "def (",
    "exit": "raise SystemExit(3)",
    "hook": "from gatewaykit import hookimpl\n\n@hookimpl\ndef gateway_commands(cli):\n    raise RuntimeError('no')\n",
    "log": "import logging\nlogging.getLogger('shaky').warning('I am here')\nimport not_there",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize(
    "words", [("--help",), ("version",), ("check",), ("config", "show"), ("demo", "--help"), ("plugins",)], ids=" ".join
)
def test_a_broken_plugin_disturbs_nobody(place: Place, words: tuple[str, ...], kind: str) -> None:
    """A plugin that nobody asked for and that is broken: other commands do their work and say nothing on stderr."""
    place.install("shaky-plugin", "shaky", BROKEN[kind])
    done = place.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_broken_plugin_is_shown_where_one_looks(place: Place) -> None:
    """`plugins` and `check` name it with the reason; `plugins` gives that to programs too."""
    place.install("shaky-plugin", "shaky", "import not_there")
    reason = "ModuleNotFoundError: No module named 'not_there'"
    assert "✗ shaky            shaky-plugin 1.0" in place.run("plugins").stdout
    assert reason in place.run("plugins").stdout
    assert f"plugin shaky of shaky-plugin does not load: {reason}" in place.run("check").stdout
    (info,) = [info for info in json.loads(place.run("plugins", "--json").stdout) if info["name"] == "shaky"]
    assert (info["status"], info["reason"]) == ("broken", reason)


def test_plugins_that_must_load_make_the_exit_code(place: Place) -> None:
    """`plugins` lists all of them, tells the fault of a required one, and exits with 1."""
    place.configure('[plugins]\nrequired = ["shaky"]\nblocked = ["openai"]\n')
    place.install("shaky-plugin", "shaky", "import not_there")
    done = place.run("plugins")
    assert done.returncode == 1
    assert re.search(r"^– openai +gatewaykit-openai \S+ +blocked$", done.stdout, re.MULTILINE)
    assert done.stderr.startswith("✗ plugin shaky: does not load")


def test_settings_are_shown_with_their_origin(place: Place) -> None:
    """`config show` prints what is set, where, and no secret; `--all` the defaults too; `--json` the same as JSON."""
    place.configure('[gigachat]\ncredentials = "bm90LWEtc2VjcmV0"\n')
    environ = {"GATEWAYKIT_SERVER__PORT": "9000"}
    done = place.run("config", "show", environ=environ)
    assert done.stdout.splitlines() == [
        "server.port           9000  (environment GATEWAYKIT_SERVER__PORT)",
        "gigachat.credentials  ********  (gatewaykit.toml:2)",
    ]
    everything = place.run("config", "show", "--all", environ=environ).stdout
    assert "server.host" in everything
    assert "bm90" not in everything
    rows = json.loads(place.run("config", "show", "--json", environ=environ).stdout)
    assert rows[0] == {"path": "server.port", "value": "9000", "origin": "environment GATEWAYKIT_SERVER__PORT"}
    assert [row["value"] for row in rows] == ["9000", "********"]


def test_the_version_is_the_package_s(place: Place) -> None:
    """`version` prints one line, or JSON."""
    assert place.run("version").stdout == f"gatewaykit {version('gatewaykit')}\n"
    assert json.loads(place.run("version", "--json").stdout)["gatewaykit"] == version("gatewaykit")


def test_json_survives_any_encoding(place: Place) -> None:
    """Letters that the terminal's encoding lacks arrive as escapes: the document is the same."""
    place.configure('[log]\nfile = "модель.log"\n')
    documents = [
        json.loads(place.run("config", "show", "--json", environ={"PYTHONIOENCODING": encoding}).stdout)
        for encoding in ("utf-8", "latin-1", "ascii")
    ]
    assert documents[0] == documents[1] == documents[2]
    assert "модель" in documents[0][0]["value"]


def test_long_rows_are_stacked_on_narrow_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that does not fit is put below its first cell; the others stay aligned."""
    rows = [("a", "b" * 5, "c"), ("aaaa", "b", "c" * 30)]
    monkeypatch.setenv("COLUMNS", "20")
    print_table(rows, padded=2)
    assert capsys.readouterr().out.splitlines() == ["a     bbbbb  c", "aaaa", "    b", "    " + "c" * 30]
    monkeypatch.delenv("COLUMNS")
    print_table(rows, padded=2)
    assert capsys.readouterr().out.splitlines() == ["a     bbbbb  c", "aaaa  b      " + "c" * 30]


def test_the_page_names_every_command() -> None:
    """docs/cli.md has a heading for each command and each group."""
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    headings = re.findall(r"^## gatewaykit ?(.*)$", page, re.MULTILINE)
    assert headings == [" ".join(words) for words in commands()]
