"""What providers of plugins say of their use, whatever it is: each call leaves its record, with tokens that count."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit import Finished, TextDelta, Usage
from gatewaykit.builtin.ledger.rows import MOST_TOKENS
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of

from .conftest import answered, opened, rows, storage_at, write

Answers: TypeAlias = list[tuple[Usage, StoredCall, Any]]
"""What the provider said, the record, and what the client was told, of each call."""

FIGURES = (
    st.integers(0, 10**30)
    | st.integers()
    | st.floats()
    | st.integers(0, 1000).map(float)
    | st.sampled_from([None, True, "5", "", b"5", [1], {}, 5j, object()])
)
USAGES = st.builds(Usage, FIGURES, FIGURES, FIGURES, FIGURES, st.booleans() | st.sampled_from([None, "no", 0]))
CHAT = {"model": "fake/m-1", "messages": [{"role": "user", "content": "x" * 400}]}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


async def answers(folder: Path, usages: list[Usage], *, name: str = "fake") -> Answers:
    """A call in one piece and a stream for each of ``usages``, through a gateway of its own in ``folder``."""
    fake, url = FakeProvider(name=name), f"sqlite:///{folder}/usages.db"
    gateway = make_gateway(plugin_of(providers=[fake]), database={"url": url}, ledger={"outbox": f"{folder}/outbox"})
    calls = [(usage, {**body, "model": f"{name}/m-1"}) for usage in usages for body in (CHAT, STREAM)]
    told: list[Any] = []
    async with gateway_client(gateway) as client:
        for number, (usage, body) in enumerate(calls):
            fake.script = [TextDelta("Hello, Alice"), Finished(), usage]
            answer = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": f"call-{number}"})
            assert answer.status_code == 200, answer.text
            told.append(_told(answer.text))
    with storage_at(url).opened() as storage:
        kept = {row.request_id: row for row in rows(storage)}
    assert len(kept) == len(calls)
    return [(usage, kept[f"call-{number}"], told[number]) for number, (usage, _) in enumerate(calls)]


def _told(text: str) -> Any:
    """The one usage in an answer."""
    frames = text.split("\n\n") if text.startswith("data: ") else [text]
    (told,) = [json.loads(frame.removeprefix("data: "))["usage"] for frame in frames if '"usage":{' in frame]
    return told


@given(st.lists(USAGES, min_size=8, max_size=24))
@settings(max_examples=12)
def test_every_call_has_a_record_with_tokens_that_count(usages: list[Usage]) -> None:
    """Numbers of tokens are kept as they are; where a figure is none, all are estimated, for the client as well."""
    with tempfile.TemporaryDirectory() as folder:
        for usage, row, told in asyncio.run(answers(Path(folder), usages)):
            figures = [usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens]
            kept = [row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens]
            if all(map(_is_count, figures)) and isinstance(usage.estimated, bool):
                assert kept == [min(int(figure), MOST_TOKENS) for figure in figures]
                assert row.estimated == usage.estimated
            else:
                assert (row.input_tokens or 0) > 100
                assert kept[1:] == [3, 0, 0]
                assert row.estimated
            assert [min(told[name], MOST_TOKENS) for name in ("prompt_tokens", "completion_tokens")] == kept[:2]


def _is_count(figure: Any) -> bool:
    whole = type(figure) is int or (type(figure) is float and figure.is_integer())
    return whole and figure >= 0


async def test_the_log_says_once_of_each_provider_that_its_usage_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not for every call."""
    none: Any = None
    for folder, name in ((tmp_path / "a", "odd"), (tmp_path / "b", "odder")):
        folder.mkdir()
        await answers(folder, [Usage(none, none), Usage(-5, -7)], name=name)
    for name in ("odd", "odder"):
        assert caplog.text.count(f"provider {name} gives a usage that is no number of tokens") == 1


def test_a_record_whose_usage_cannot_be_written_is_kept_without(storage: Storage, folder: Path) -> None:
    """Who asked what, and when, is not lost for it."""
    odd: Any = object()
    with opened(storage, folder) as ledger:
        write(ledger, answered("odd", usage=Usage(odd, 1)), answered("sound", began=1_790_000_009.0))
        assert [(row.request_id, row.input_tokens) for row in rows(storage)] == [("odd", None), ("sound", 10)]
