"""The reference of all settings, made from the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr

from gatewaykit.settings import CORE_SECTIONS, Section, Settings, Table, document, fields


class Part(Table):
    key: SecretStr = Field(description="Key | of\nit.")
    below: dict[str, Part] = Field({}, description="Parts.")


class Whole(Section):
    """All of it."""

    section = "whole"
    environment: ClassVar[Mapping[str, str]] = {"OLD_LIMIT": "limit"}
    limit: int | None = Field(None, ge=1, description="Limit.")
    parts: dict[str, Part] = Field({}, description="Parts.")
    names: tuple[str, ...] = Field(("a",), description="Names.")


@pytest.mark.parametrize("section", CORE_SECTIONS)
def test_every_core_setting_says_what_it_means(section: type[Section]) -> None:
    """Section and fields are described, each in whole sentences."""
    assert (section.__doc__ or "").strip().endswith(".")
    assert fields(section)
    assert [row.path for row in fields(section) if not row.meaning.endswith(".")] == []


def test_the_variables_that_the_reference_names_are_the_ones_that_work(load: Callable[..., Settings]) -> None:
    """Every variable of the core's reference, but those of whole tables, sets its field: the value's origin says so."""
    for section in CORE_SECTIONS:
        for row in fields(section):
            if row.default == "unset" or row.type == "table":
                continue
            text = row.default.strip("`").strip('"').removeprefix("[").removesuffix("]")
            settings = load(environ={row.environment[0]: text})
            assert settings.origins[f"{section.section}.{row.path}"] == f"environment {row.environment[0]}"


def test_a_row_tells_type_default_variables_and_meaning() -> None:
    """Limits stand with the type; names that users already have follow ours; free keys are NAME."""
    rows = {row.path: row for row in fields(Whole)}
    assert rows["limit"].type == "whole number, at least 1"
    assert rows["limit"].default == "unset"
    assert rows["limit"].environment == ("GATEWAYKIT_WHOLE__LIMIT", "OLD_LIMIT")
    assert rows["names"].default == '`["a"]`'
    assert rows["parts.NAME.key"].type == "secret"
    assert rows["parts.NAME.key"].default == "required"
    assert rows["parts.NAME.key"].environment == ("GATEWAYKIT_WHOLE__PARTS__NAME__KEY",)


def test_the_document_is_a_table_for_each_section() -> None:
    """Heading, what the section is for, and rows of five cells, whatever is in a description."""
    text = document([Whole])
    assert text.startswith("## `[whole]`\n\nAll of it.\n\n| key | type | default | environment | meaning |\n")
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert "| `parts.NAME.key` | secret | required | `GATEWAYKIT_WHOLE__PARTS__NAME__KEY` | Key \\| of it. |" in text
