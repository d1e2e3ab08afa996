"""Every error reaches a user of the official SDK as the SDK's own exception, with status, code and field."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gatewaykit.testing import until

from .raw import chat, connected, request
from .talking import Talker, blocking, talking, text_of, user
from .world import GIGACHAT, GPT, KEY, LIMITED_KEY, PROMPT, World, inhabited, provider_of

FAULTS = {GIGACHAT: "[[fault: {}]]", GPT: "[[upstream: {}]]"}


def asking(model: str, fault: str, words: int = 20) -> list[dict[str, Any]]:
    """A prompt that makes the model's server fail."""
    return user(f"say {words} words {PROMPT} {FAULTS[model].format(fault)}")


async def failure(talker: Talker, *, stream: bool = False, **arguments: Any) -> openai.APIStatusError:
    """The error of a request that must not begin to be answered."""
    chunks: list[Any] = []
    with pytest.raises(openai.APIStatusError) as caught:
        await (talker.chunks(chunks, **arguments) if stream else talker.create(**arguments))
    assert not chunks
    assert caught.value.response.headers["x-request-id"]
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    return caught.value


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# the client's doing


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": PROMPT}]}, "messages[0].role"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"extra_body": {"stream": "yes"}}, "stream"),
        ({"model": ""}, "model"),
    ],
)
async def test_400_names_the_field(talker: Talker, fields: dict[str, Any], param: str) -> None:
    """A request with a wrong field is a BadRequestError that names it."""
    error = await failure(talker, **{"model": GPT, "messages": user(PROMPT), **fields})
    assert type(error) is openai.BadRequestError
    assert error.param == param
    assert error.type == "invalid_request_error"


@both_ways
async def test_400_of_the_provider(talker: Talker, model: str, stream: bool) -> None:
    """A provider that does not like the request gives a BadRequestError too."""
    fault = "status=400;message=bad request" if model == GIGACHAT else "400"
    error = await failure(talker, stream=stream, model=model, messages=asking(model, fault))
    assert type(error) is openai.BadRequestError


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("key", ["gk_wrong_0123456789abcdef", KEY + "x", KEY[:-1], KEY.upper()])
async def test_401(world: World, kind: str, key: str) -> None:
    """A wrong key, however near to a right one, is an AuthenticationError."""
    async with talking(kind, world.base_url, key) as stranger:
        error = await failure(stranger, model=GPT, messages=user(PROMPT))
        assert type(error) is openai.AuthenticationError
        assert error.code == "invalid_api_key"
        assert error.response.headers["www-authenticate"].startswith("Bearer")
        with pytest.raises(openai.AuthenticationError):
            await stranger.models()


@both_ways
@pytest.mark.parametrize("asked", [GPT, f"openai/{GPT}", GIGACHAT, f"gigachat/{GIGACHAT}", "either", "no-such-model"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_403(world: World, kind: str, asked: str, stream: bool) -> None:
    """A key with a list of models gets a PermissionDeniedError for any other name, existing or not."""
    async with talking(kind, world.base_url, LIMITED_KEY) as limited:
        error = await failure(limited, stream=stream, model=asked, messages=user(PROMPT))
        assert type(error) is openai.PermissionDeniedError
        assert (error.code, error.param) == ("permission_denied", "model")
        assert {listed.id for listed in await limited.models()} == {"GigaChat-2", "gpt-small"}
        answer = await limited.create(model="gpt-small", messages=user("say 2 words"))
        assert answer.choices[0].message.content == "word1 word2"


@both_ways
@pytest.mark.parametrize("asked", ["no-such-model", "openai/no-such-model", "gigachat/no-such-model"])
async def test_404_model(talker: Talker, asked: str, stream: bool) -> None:
    """An unknown model, also one that only the provider knows to be unknown, is a NotFoundError."""
    error = await failure(talker, stream=stream, model=asked, messages=user(PROMPT))
    assert type(error) is openai.NotFoundError
    assert (error.code, error.param) == ("model_not_found", "model")


async def test_404_in_the_list(talker: Talker) -> None:
    """Looking up a model that nobody has is a NotFoundError."""
    with pytest.raises(openai.NotFoundError) as caught:
        await talker.model("no/such model")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/nothing/here", "/v1/chat/completion", "/v1", "/%2e%2e/etc/passwd"])
def test_404_path(world: World, path: str) -> None:
    """A path that nobody serves is a NotFoundError, with or without a key."""
    for key in (KEY, "wrong"):
        with (
            blocking(world.url, key) as client,
            pytest.raises(openai.NotFoundError) as caught,
        ):
            client.post(path, cast_to=object, body={})
        assert caught.value.code == "not_found"


async def test_413(talker: Talker) -> None:
    """A body beyond the limit is an APIStatusError with status 413."""
    error = await failure(talker, model=GPT, messages=user("x" * (11 * 1024 * 1024)))
    assert error.status_code == 413
    assert error.code == "body_too_large"


# the provider's doing


@both_ways
async def test_429(talker: Talker, model: str, stream: bool) -> None:
    """A provider at its limit is a RateLimitError, and its Retry-After is passed on."""
    fault = "status=429;retry-after=7" if model == GIGACHAT else "429"
    error = await failure(talker, stream=stream, model=model, messages=asking(model, fault))
    assert type(error) is openai.RateLimitError
    assert error.code == "rate_limit_exceeded"
    assert error.response.headers["retry-after"] == "7"


STATUSES = [("500", 503), ("502", 503), ("503", 503), ("504", 503), ("507", 503), ("418", 502), ("302", 502)]


@both_ways
@pytest.mark.parametrize(("said", "told"), STATUSES)
async def test_5xx(talker: Talker, model: str, stream: bool, said: str, told: int) -> None:
    """A provider's own trouble is an InternalServerError of 502 or 503 without a word of its text."""
    fault = f"status={said};message=see http://10.11.12.13/" if model == GIGACHAT else said
    error = await failure(talker, stream=stream, model=model, messages=asking(model, fault))
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == told
    assert error.code in {"provider_error", "provider_unavailable", "provider_bad_answer"}


BEFORE = [
    (GIGACHAT, "drop=before", 503, 503),
    (GIGACHAT, "html=502", 503, 503),
    (GIGACHAT, "html=200", 502, 502),
    (GIGACHAT, "empty=200", 502, 502),
    (GIGACHAT, "empty=503", 503, 503),
    (GIGACHAT, "garbage", 502, 502),
    (GIGACHAT, "half-line", 502, 503),
    (GIGACHAT, "drop=after:0", 503, 503),
    (GIGACHAT, "finish=error", 502, 502),
    (GPT, "close", 503, 503),
    (GPT, "reset", 503, 503),
    (GPT, "html", 503, 503),
    (GPT, "not-http", 502, 502),
    (GPT, "empty", 502, 503),
    (GPT, "garbage", 502, 503),
]


@both_ways
@pytest.mark.parametrize(("asked", "fault", "whole", "streamed"), BEFORE)
async def test_broken_before_the_first_word(
    talker: Talker, asked: str, fault: str, whole: int, streamed: int, stream: bool
) -> None:
    """A provider that breaks before its first word is an InternalServerError, streamed or not: nothing has begun."""
    error = await failure(talker, stream=stream, model=asked, messages=asking(asked, fault))
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == (streamed if stream else whole)


MIDWAY = [
    (GIGACHAT, "slow=0.01;drop=after:3"),
    (GIGACHAT, "slow=0.01;garbage=4"),
    (GIGACHAT, "slow=0.01;half-line=4"),
    (GPT, "close-midway"),
    (GPT, "garbage-midway"),
    (GPT, "error-midway"),
    (GPT, "half-line"),
    (GPT, "ends-early"),
]


@pytest.mark.parametrize(("asked", "fault"), MIDWAY)
async def test_broken_in_mid_stream(talker: Talker, asked: str, fault: str) -> None:
    """A stream that breaks raises APIError while it is read, behind the text that had come."""
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await talker.chunks(chunks, model=asked, messages=asking(asked, fault, words=1000))
    assert text_of(chunks).startswith("word1 word2 word3 word4")
    assert not [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert type(caught.value) is openai.APIError
    assert caught.value.code in {"provider_unavailable", "provider_bad_answer"}


@pytest.mark.parametrize("fault", ["reset-midway", "bad-chunk"])
async def test_a_reset_takes_unread_text_along(talker: Talker, fault: str) -> None:
    """A connection that is reset, or whose framing breaks, is an APIError, and has a status if no text was read yet.

    Broken framing that is read together with the head is an answer that cannot be read; later, it ends the connection.
    """
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await talker.chunks(chunks, model=GPT, messages=asking(GPT, fault, words=1000))
    early = {"provider_bad_answer"} if fault == "bad-chunk" else set()
    assert caught.value.code in {"provider_unavailable", *early}
    assert isinstance(caught.value, openai.InternalServerError) == (not chunks)


HALVES = [(GIGACHAT, "drop=after:3"), (GPT, "close-midway"), (GPT, "reset-midway"), (GPT, "bad-chunk")]


@pytest.mark.parametrize(("asked", "fault"), HALVES)
async def test_half_an_answer_in_one_piece(talker: Talker, asked: str, fault: str) -> None:
    """Half a document is an InternalServerError, never half an answer."""
    error = await failure(talker, model=asked, messages=asking(asked, fault))
    assert isinstance(error, openai.InternalServerError)


WHOLE = [(GIGACHAT, "no-done"), (GIGACHAT, "split=3"), (GIGACHAT, "slow=0.005"), (GPT, "no-done"), (GPT, "in-crumbs")]


@pytest.mark.parametrize(("asked", "fault"), WHOLE)
async def test_oddities_that_are_no_errors(talker: Talker, asked: str, fault: str) -> None:
    """A stream without its end mark, in crumbs or slow, is whole all the same."""
    chunks: list[Any] = []
    await talker.chunks(chunks, model=asked, messages=asking(asked, fault))
    assert text_of(chunks) == " ".join(f"word{number}" for number in range(1, 21))
    assert chunks[-1].choices[0].finish_reason == "stop"


# the operator's doing


@pytest.fixture(scope="module")
def locked_out() -> Iterator[World]:
    """A gateway whose credential for GigaChat is an old token, and whose OpenAI upstream does not know its key."""
    with inhabited() as right:
        stale = {"credentials": None, "access_token": "canary-stale-token-0123456789"}
        unknown = {"base_url": f"{right.upstream.url}/v1", "api_key": "sk-canary-unknown-0123456789", "models": (GPT,)}
        with inhabited(gigachat=stale, openai={"upstreams": {"openai": unknown}}, listed=()) as made:
            yield made


@both_ways
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_credentials_of_the_gateway(locked_out: World, kind: str, model: str, stream: bool) -> None:
    """A provider that refuses the gateway's own credential is a 502 for the client, never a 401."""
    async with talking(kind, locked_out.base_url, KEY) as talker:
        error = await failure(talker, stream=stream, model=f"{provider_of(model)}/{model}", messages=user(PROMPT))
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code) == (502, "upstream_auth_failed")


@both_ways
async def test_a_token_that_is_revoked_early(talker: Talker, stream: bool, world: World) -> None:
    """A token that GigaChat revokes before its time is renewed, and the client notices nothing."""
    world.sandbox.faults.push("revoke-token", path="/chat/completions")
    issued = world.sandbox.stats.tokens_issued
    chunks: list[Any] = []
    if stream:
        await talker.chunks(chunks, model=GIGACHAT, messages=user("say 3 words"))
    else:
        await talker.create(model=GIGACHAT, messages=user("say 3 words"))
    assert world.sandbox.stats.tokens_issued == issued + 1


@both_ways
async def test_429_by_parallel_requests(stream: bool) -> None:
    """One request more than GigaChat serves at a time is a RateLimitError; afterwards there is room again."""
    with inhabited(parallel=1) as narrow:
        async with talking("async", narrow.base_url, KEY) as talker:
            holding = asyncio.create_task(talker.chunks([], model=GIGACHAT, messages=asking(GIGACHAT, "stall=2")))
            await until(lambda: narrow.sandbox.stats.live_streams == 1)
            error = await failure(talker, stream=stream, model=GIGACHAT, messages=user(PROMPT))
            assert type(error) is openai.RateLimitError
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            await until(lambda: narrow.sandbox.stats.parallel == 0)
            answer = await talker.create(model=GIGACHAT, messages=user("say 1 word"))
            assert answer.choices[0].message.content == "word1"


# limits of time


@pytest.fixture(scope="module")
def impatient() -> Iterator[World]:
    """A gateway that waits for nothing."""
    with inhabited(timeouts={"first_event": 0.4, "between_events": 0.4, "keepalive_comment": 0.1}) as made:
        yield made


SILENT = [(GIGACHAT, "delay=30"), (GIGACHAT, "stall=0"), (GPT, "silent"), (GPT, "silent-after-head")]


@both_ways
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("asked", "fault"), SILENT)
async def test_504(impatient: World, kind: str, asked: str, fault: str, stream: bool) -> None:
    """A provider that does not begin in time is an InternalServerError with status 504."""
    async with talking(kind, impatient.base_url, KEY) as talker:
        error = await failure(talker, stream=stream, model=asked, messages=asking(asked, fault))
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code) == (504, "provider_timeout")


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("asked", "fault"), [(GIGACHAT, "stall=3"), (GPT, "stall-midway")])
async def test_silence_in_mid_stream(impatient: World, kind: str, asked: str, fault: str) -> None:
    """A provider that falls silent in mid-stream is an APIError behind the text that had come."""
    async with talking(kind, impatient.base_url, KEY) as talker:
        chunks: list[Any] = []
        with pytest.raises(openai.APIError) as caught:
            await talker.chunks(chunks, model=asked, messages=asking(asked, fault))
        assert text_of(chunks).startswith("word1 word2 word3 word4")
        assert caught.value.code == "provider_timeout"


@pytest.fixture(scope="module")
def bounded() -> Iterator[World]:
    """A gateway that ends every call after a while."""
    with inhabited(timeouts={"whole_call": 0.8, "request_body": 0.5}) as made:
        yield made


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_trickle_has_an_end(bounded: World, kind: str) -> None:
    """A stream that drips on and on ends with an APIError when the whole call has taken too long."""
    async with talking(kind, bounded.base_url, KEY) as talker:
        chunks: list[Any] = []
        with pytest.raises(openai.APIError) as caught:
            await talker.chunks(chunks, model=GIGACHAT, messages=asking(GIGACHAT, "slow=0.05", words=1000))
        assert text_of(chunks).startswith("word1 word2 word3 word4")
        assert caught.value.code == "provider_timeout"


@both_ways
@pytest.mark.parametrize(("asked", "fault"), SILENT)
async def test_a_silence_has_an_end(bounded: World, asked: str, fault: str, stream: bool) -> None:
    """The limit of the whole call holds before the first event too."""
    async with talking("async", bounded.base_url, KEY) as talker:
        error = await failure(talker, stream=stream, model=asked, messages=asking(asked, fault))
        assert (error.status_code, error.code) == (504, "provider_timeout")


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_a_body_that_does_not_come(bounded: World, part: float) -> None:
    """A client that sends half its body and waits gets a 408 in the end, and its connection is closed."""
    whole = request(body=chat())
    head = whole.index(b"\r\n\r\n") + 4
    with connected(bounded) as connection:
        connection.send(whole[: head + int(part * (len(whole) - head))])
        answer = connection.answer()
        assert connection.receive() == b""
    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"
