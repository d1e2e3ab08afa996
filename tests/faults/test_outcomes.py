"""Each fault of a provider, in one piece and streamed, alone and with a fallback, ends as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewaykit_gigachat.sandbox import B2B, running_sandbox

from .conftest import ALONE, PAIR, told, world_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
ONCE = {"revoke-token"}
"""Faults that happen once, and not to every try."""


def table(page: str) -> dict[str, list[str]]:
    """The rows of the table of faults: what is answered in one piece and streamed, alone and with a fallback."""
    found: dict[str, list[str]] = {}
    for line in (DOCS / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        fault = re.match(r"`([^`]+)`", cells[0])
        if fault is not None and len(cells) == 5 and all(re.match(r"\d{3}\b", cell) for cell in cells[1:]):
            found[fault[1]] = cells[1:]
    return found


def test_both_languages_have_the_same_table() -> None:
    """Faults and outcomes are equal."""
    assert table("failure-matrix.md") == table("ru/failure-matrix.md")


async def test_every_fault_ends_as_the_page_says() -> None:
    """Status and code, and whether the error comes in the stream; with a fallback whatever can be saved is saved."""
    promised = table("failure-matrix.md")
    assert len(promised) > 25
    seen: dict[str, list[str]] = {}
    with running_sandbox() as sandbox:
        alone = {
            "base_url": sandbox.base_url,
            "auth_url": sandbox.auth_url,
            "credentials": sandbox.key(B2B),
            "scope": B2B,
        }
        async with world_of(sandbox, gigachat=alone, timeouts={"first_event": 1.0, "between_events": 1.0}) as world:
            for fault in promised:
                outcomes = []
                for model in (ALONE, PAIR):
                    for stream in (False, True):
                        if fault in ONCE:
                            sandbox.faults.push(fault, path="/chat/completions")
                        answer = await world.ask(model, "" if fault in ONCE else fault, stream=stream)
                        outcomes.append(told(answer))
                seen[fault] = outcomes
    assert seen == promised


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_says_who_gave_it(stream: bool) -> None:
    """After a fallback the headers name the target and how many were tried."""
    with running_sandbox() as sandbox:
        async with world_of(sandbox) as world:
            answer = await world.ask(PAIR, "status=503", stream=stream)
    assert answer.headers["x-gatewaykit-target"] == "healthy/m"
    assert answer.headers["x-gatewaykit-attempts"] == "2"
