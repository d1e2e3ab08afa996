"""Credentials, keys and prompts stay where they belong. Every other test here is held to it when its world ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .openai_upstream import CREDENTIAL
from .raw import answered, chat, request
from .talking import Talker, user
from .world import GIGACHAT, KEY, LIMITED_KEY, PROMPT, World

CREDENTIALS = [KEY, LIMITED_KEY, CREDENTIAL, "sandbox-secret"]
FORBIDDEN = {
    "access": [*CREDENTIALS, PROMPT],
    "log": [*CREDENTIALS, PROMPT],
    "refusal": [*CREDENTIALS, PROMPT, "10.11.12.13", "Traceback"],
    "answer": CREDENTIALS,
}


@pytest.fixture
def shown(request: pytest.FixtureRequest, world: World) -> Iterator[str]:
    """A place to show something in, which is cleaned afterwards."""
    sent, logged, said = len(world.gateway.sent), len(world.log), len(world.access)
    yield request.param
    del world.gateway.sent[sent:]
    del world.log[logged:]
    del world.access[said:]


@pytest.mark.parametrize(
    ("shown", "secret"), [(place, word) for place, words in FORBIDDEN.items() for word in words], indirect=["shown"]
)
def test_the_search_finds(world: World, shown: str, secret: str) -> None:
    """What the worlds are searched for would be found in any place where it must not be."""
    assert not world.leaks()
    text = f"it was {secret}!"
    if shown == "access":
        world.access.append(text)
    elif shown == "log":
        world.log.append(text)
    else:
        world.gateway.sent.append((400 if shown == "refusal" else 200, text.encode()))
    assert world.leaks()


async def test_what_is_on_record(talker: Talker, world: World) -> None:
    """A request leaves one line with its id, key's name, model and usage; not its key, prompt or answer."""
    raw = await talker.raw(model=GIGACHAT, messages=user(f"say 3 words {PROMPT}"))
    line = world.record(raw.headers["x-request-id"])
    assert line["key_id"] == "static:main"
    assert (line["model"], line["target"], line["status"]) == (GIGACHAT, f"gigachat/{GIGACHAT}", 200)
    assert line["input_tokens"] > 0
    assert not [value for value in line.values() if isinstance(value, str) and ("word1" in value or PROMPT in value)]


def test_a_key_that_is_unknown_is_not_logged(world: World) -> None:
    """Not even a wrong key is logged, for it may be right elsewhere."""
    wrong = "gk_canary_unknown_0123456789"
    answer = answered(world, request(body=chat(), key=wrong))
    assert answer.status == 401
    assert world.record(answer.headers["x-request-id"])["key_id"] is None
    assert wrong not in "".join(world.access) + "".join(world.log) + answer.body.decode()
