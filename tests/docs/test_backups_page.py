"""The page on backups does what it says: its configuration is valid, its commands answer as it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatewaykit.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/backups.md", "docs/ru/backups.md"]
_VARIES = re.compile(
    r"\d{4}-\d\d-\d\dT[\d.-]+Z|\d{8}T\d{6}Z|[\d.]+ k?B|\d+ rows in \d+ tables|[\d.]+ hours|\w+_\d{4}\b"
)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def without_what_varies(text: str, folder: Path) -> list[str]:
    """The lines, with names, sizes and revisions replaced; paths as the page has them."""
    return [_VARIES.sub("…", line) for line in text.replace(f"{folder}/", "").splitlines()]


def test_both_languages_show_the_same() -> None:
    """Commands and answers, line by line; the configuration but for its comments."""
    english, russian = (blocks(page, "console") for page in PAGES)
    assert len(english) == 2
    assert english == russian
    settings = [re.sub(r"\s*#.*", "", blocks(page, "toml")[0]) for page in PAGES]
    assert settings[0] == settings[1]


def test_the_commands_answer_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty folder with the page's configuration, in the page's order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gatewaykit.toml").write_text(blocks(PAGES[0], "toml")[0])
    runner = CliRunner()
    assert runner.invoke(main, ["db", "upgrade"]).exit_code == 0
    for block in blocks(PAGES[0], "console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            variables, _, arguments = command.rpartition("gatewaykit ")
            given = {"COLUMNS": "300", **dict(pair.split("=", 1) for pair in variables.split())}
            answer = runner.invoke(main, arguments.split(), env=given)
            assert answer.exit_code == 0, answer.output
            told = without_what_varies(answer.output, tmp_path)
            assert told == without_what_varies(shown, tmp_path), command
