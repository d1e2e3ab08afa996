"""Bytes that pass unread reach only the model that the client's key may use, and reach it unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .raw import answered, request
from .world import KEY, LIMITED_KEY, World, unharmed

ALLOWED, FORBIDDEN = "gpt-small", "gpt-sandbox"
ESCAPED = '{"role":"user","content":"\\u0073ay 2 words \\/ \\ud83c\\udf84"}'
MESSAGES = '"messages":[{"role":"user","content":"say 2 words"}]'


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """No test leaves a task or a call behind."""
    with unharmed(world):
        yield


UNCHANGED = {
    "space": '{ "model" :\n\t"gpt-sandbox" , ' + MESSAGES + " }\r\n",
    "order": "{" + MESSAGES + ',"zz":1,"temperature":1.0e-1,"aa":[],"model":"gpt-sandbox"}',
    "unknown fields": '{"model":"gpt-sandbox",' + MESSAGES + ',"x_vendor":{"deep":[1,2.50,"é\\u00e9"]},"null":null}',
    "escapes": '{"model":"gpt\\u002dsandbox","messages":[' + ESCAPED + "]}",
    "its own name": '{"model":"gpt-sandbox",'
    + MESSAGES
    + ',"metadata":{"model":"x","\\u006dodel":"y"},"user":"\\"model\\""}',
    "prefix": '{"model":"openai/gpt-sandbox",' + MESSAGES + "}",
}


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_stay_as_they_are(world: World, name: str, stream: bool) -> None:
    """The upstream gets the client's bytes; only a model's name that is the gateway's own is replaced in its place."""
    body = UNCHANGED[name] if not stream else UNCHANGED[name].replace('"messages"', '"stream":true,"messages"', 1)
    answer = answered(world, request(body=body.encode()))
    assert answer.status == 200
    expected = body.replace("openai/gpt-sandbox", "gpt-sandbox").encode()
    received = world.upstream.requests[-1].body
    assert hashlib.sha256(received).digest() == hashlib.sha256(expected).digest(), received


def test_answers_stay_as_they_are(world: World) -> None:
    """What the upstream says beyond the format reaches the client."""
    answer = answered(world, request(body=("{" + MESSAGES + ',"model":"gpt-sandbox"}').encode()))
    assert json.loads(answer.body)["x_unknown"] == "passes through"


SMUGGLED = [
    '{{"model":"{good}","model":"{bad}",{rest}}}',
    '{{"model":"{bad}","model":"{good}",{rest}}}',
    '{{"model":"{bad}",{rest},"model":"{good}"}}',
    '{{"mod\\u0065l":"{bad}","model":"{good}",{rest}}}',
    '{{"model":"{good}",{rest},"mod\\u0065l":"{bad}"}}',
    '{{"\\u006D\\u006F\\u0064\\u0065\\u006C":"{bad}","model":"{good}",{rest}}}',
    '{{"mod\\u0065l":"{bad}","mod\\u0065l":"{good}",{rest}}}',
    '{{"Model":"{bad}","model":"{good}",{rest}}}',
    '{{"model":"{good}",{rest},"MODEL":"{bad}"}}',
    '{{"model":"{good}",{rest},"M\\u006fdel":"{bad}"}}',
    '{{"model":"{good}",{rest},"x":{{"model":"a"}},"model":"{bad}"}}',
    '{{"model":"{good}",{rest},"x":"\\"model\\":\\"{good}\\"","model":"{bad}"}}',
    '{{"model":"{good}",{rest}}}{{"model":"{bad}",{rest}}}',
    '{{"model":["{bad}"],"model":"{good}",{rest}}}',
    '{{"model":null,"model":"{good}",{rest},"model":"{bad}"}}',
    '{{"model" : "{good}",{rest},\n"model"\t:\r\n"{bad}"}}',
    '{{"model":"{good}\\u0000{bad}",{rest}}}',
    '{{"model":"../{bad}",{rest}}}',
    '{{"model":"openai/{bad}",{rest}}}',
]


@pytest.mark.parametrize("template", SMUGGLED)
@pytest.mark.parametrize("stream", ["", '"stream":true,'])
def test_no_model_is_smuggled_past_the_list(world: World, template: str, stream: str) -> None:
    """A second model in the body, in whichever spelling, does not bring a limited key to what it may not use."""
    before = len(world.upstream.requests)
    body = template.format(good=ALLOWED, bad=FORBIDDEN, rest=stream + MESSAGES)
    answer = answered(world, request(body=body.encode(), key=LIMITED_KEY))
    assert answer.status in {400, 403}
    assert answer.error["code"] in {"invalid_request", "permission_denied"}
    assert len(world.upstream.requests) == before


spelled = st.tuples(
    *(st.sampled_from([each, each.upper(), f"\\u{ord(each):04x}", f"\\u{ord(each):04X}"]) for each in "model")
).map("".join)
keys = st.sampled_from(["model", "model", "x"]) | spelled
values = st.sampled_from(
    [f'"{ALLOWED}"', f'"{FORBIDDEN}"', '"gpt\\u002dsandbox"', "null", f'{{"model":"{FORBIDDEN}"}}']
)
members = st.lists(st.tuples(keys, values).map(lambda pair: f'"{pair[0]}":{pair[1]}'), min_size=1, max_size=4)
bodies = members.flatmap(lambda some: st.permutations([*some, MESSAGES])).map(lambda all_: "{" + ",".join(all_) + "}")


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    """A connection for many requests."""
    with httpx.Client(base_url=world.url, timeout=30, trust_env=False) as made:
        yield made


@settings(max_examples=150, deadline=None)
@given(body=bodies)
def test_what_passes_names_one_model(client: httpx.Client, world: World, body: str) -> None:
    """A body that passes has one member ``model``, by anybody's reading, and an allowed one."""
    for key in (LIMITED_KEY, KEY):
        before = len(world.upstream.requests)
        response = client.post("/v1/chat/completions", content=body, headers={"authorization": f"Bearer {key}"})
        assert response.status_code in {200, 400, 403}, response.text
        for passed in world.upstream.requests[before:]:
            pairs: list[tuple[str, Any]] = json.loads(passed.body, object_pairs_hook=list)
            named = [value for name, value in pairs if name.lower() == "model"]
            assert len(named) == 1, passed.body
            assert named[0] == ALLOWED or key == KEY
