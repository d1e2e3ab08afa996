"""The official SDK works against the sandbox over a real socket."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gigachat import GigaChat
from gigachat.exceptions import (
    AuthenticationError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
)
from gigachat.models import Chat, Function, FunctionParameters, Messages, MessagesRole
from pydantic import BaseModel

from gatewaykit_gigachat.sandbox import B2B, CORP, PERS, RunningSandbox

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a place",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["place"],
    },
}

Connect = Callable[..., GigaChat]


class Verdict(BaseModel):
    answer: str
    score: int


@pytest.fixture(autouse=True)
def no_gigachat_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads its settings from the environment too."""
    import os

    for name in [name for name in os.environ if name.startswith("GIGACHAT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def connect(running: RunningSandbox, api: Any) -> Iterator[Connect]:
    """Makes synchronous SDK clients, closed at the end."""
    opened: list[GigaChat] = []

    def make(**settings: Any) -> GigaChat:
        defaults = {"base_url": running.base_url, "auth_url": running.auth_url, "model": "GigaChat-2-Max"}
        if not settings.keys() & {"user", "access_token"}:
            scope = settings.setdefault("scope", B2B)
            settings.setdefault("credentials", running.key(scope))
        opened.append(GigaChat(**{**defaults, **settings}))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.mark.parametrize("base", ["base_url", "new_base_url"])
def test_chat(running, connect, base):
    """A chat by the authorization key answers on both families of paths."""
    answer = connect(base_url=getattr(running, base)).chat("say 3 words")
    assert answer.choices[0].message.content == "word1 word2 word3"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "GigaChat-2-Max:2.0.30.01"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.x_headers["x-request-id"]


def test_one_token_for_many_calls(running, connect):
    """The SDK takes ``expires_at`` for milliseconds, and so fetches one token for several calls."""
    client = connect(scope=PERS)
    before = running.stats.tokens_issued
    for _ in range(3):
        client.chat("hello")
    assert running.stats.tokens_issued == before + 1


def test_user_and_password(connect):
    """User and password open the API."""
    client = connect(user="sandbox", password="sandbox-password")
    assert client.chat("repeat: да").choices[0].message.content == "да"


def test_ready_token(connect):
    """A token fetched elsewhere opens the API."""
    token = connect().get_token().access_token
    assert connect(access_token=token).chat("repeat: ok").choices[0].message.content == "ok"


def test_stream(connect):
    """A stream's pieces make up the whole text; usage comes with the last."""
    chunks = list(connect().stream("say 10 words"))
    text = "".join(chunk.choices[0].delta.content for chunk in chunks)
    assert text == " ".join(f"word{number}" for number in range(1, 11))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert [chunk.usage is None for chunk in chunks] == [True] * 4 + [False]


def test_functions(connect):
    """A function is called with an object of arguments, and its result is answered in text."""
    client = connect()
    asked = Messages(role=MessagesRole.USER, content="please use get_weather now")
    functions = [Function.model_validate(WEATHER)]
    first = client.chat(Chat(messages=[asked], functions=functions, function_call="auto"))
    called = first.choices[0].message
    assert first.choices[0].finish_reason == "function_call"
    assert (called.function_call.name, called.function_call.arguments) == ("get_weather", {"place": "place"})
    assert called.functions_state_id
    result = Messages(role=MessagesRole.FUNCTION, name="get_weather", content='{"sky": "clear"}')
    second = client.chat(Chat(messages=[asked, called, result], functions=functions))
    assert second.choices[0].message.content == 'The function get_weather returned: {"sky": "clear"}'


def test_function_in_stream(connect):
    """In a stream the whole call comes in one delta."""
    chat = Chat(
        messages=[Messages(role=MessagesRole.USER, content="get_weather")],
        functions=[Function(name="get_weather", parameters=FunctionParameters(properties={}))],
    )
    chunks = list(connect().stream(chat))
    calls = [chunk.choices[0].delta.function_call for chunk in chunks]
    assert [call.name for call in calls if call is not None] == ["get_weather"]
    assert chunks[-1].choices[0].finish_reason == "function_call"


def test_parse(connect):
    """``chat_parse`` gets an instance of its model."""
    _, verdict = connect().chat_parse("judge", response_format=Verdict)
    assert verdict == Verdict(answer="answer", score=1)


def test_models(connect):
    """Models can be listed and looked up; an unknown one is not found."""
    client = connect()
    assert "GigaChat-2-Max" in [model.id_ for model in client.get_models().data]
    assert client.get_model("GigaChat").id_ == "GigaChat"
    with pytest.raises(NotFoundError, match="No such model"):
        client.get_model("NonExistentModel")
    with pytest.raises(NotFoundError, match="No such model"):
        client.chat({"model": "NonExistentModel", "messages": [{"role": "user", "content": "hello"}]})


def test_embeddings(connect):
    """Vectors are of the model's length, of norm 1, and the same for the same text."""
    answer = connect().embeddings(["one", "two", "one"])
    vectors = [item.embedding for item in answer.data]
    assert [len(vector) for vector in vectors] == [1024] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[1]) == pytest.approx(1)
    assert [item.usage.prompt_tokens for item in answer.data] == [1, 1, 1]


def test_files(running, connect):
    """A file can be uploaded, listed, looked up, used, read and deleted."""
    client = connect()
    stored = client.upload_file(("dot.png", PNG, "image/png"))
    assert (stored.bytes_, stored.filename, stored.purpose) == (len(PNG), "dot.png", "general")
    assert stored.id_ in [file.id_ for file in client.get_files().data]
    assert client.get_file(stored.id_).access_policy == "private"
    asked = Messages(role=MessagesRole.USER, content="what is it?", attachments=[stored.id_])
    assert "dot.png (image/png" in client.chat(Chat(messages=[asked])).choices[0].message.content
    assert base64.b64decode(client.get_image(stored.id_).content) == PNG
    assert client.delete_file(stored.id_).deleted
    with pytest.raises(NotFoundError):
        client.get_file(stored.id_)


def test_tokens_count_and_balance(connect):
    """Tokens are counted in order; prepaid clients see a balance that shrinks, others get 403."""
    client = connect()
    counts = client.tokens_count(["First text", "мир"], model="GigaChat")
    assert [(item.tokens, item.characters) for item in counts] == [(3, 10), (1, 3)]

    def left() -> float:
        return next(entry.value for entry in client.get_balance().balance if entry.usage == "GigaChat-2-Max")

    before = left()
    spent = client.chat("how much is left?").usage.total_tokens
    assert left() == before - spent
    with pytest.raises(ForbiddenError, match="Permission denied"):
        connect(scope=CORP).get_balance()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status=400", BadRequestError),
        ("status=422", UnprocessableEntityError),
        ("status=429; retry-after=7", RateLimitError),
        ("html=502", ServerError),
    ],
)
def test_faults_are_typed_errors(running, connect, fault, error):
    """Planned faults reach the SDK as its own exceptions."""
    client = connect()
    client.get_token()
    running.faults.push(fault, path="/chat/completions")
    with pytest.raises(error) as caught:
        client.chat("hello")
    if error is RateLimitError:
        assert caught.value.retry_after == 7


def test_revoked_token_is_fetched_anew(running, connect):
    """After ``Token has expired`` the SDK fetches a new token and goes on; a lone token cannot."""
    client = connect()
    first = client.get_token().access_token
    running.faults.push("revoke-token")
    assert client.chat("repeat: again").choices[0].message.content == "again"
    assert client.token != first
    with pytest.raises(AuthenticationError, match="Token has expired"):
        connect(access_token=first).chat("hello")


async def test_async(running, api):
    """The asynchronous client does the same: chat, stream, models, embeddings, files, counting, balance."""
    settings = {"base_url": running.base_url, "auth_url": running.auth_url, "model": "GigaChat-2-Max"}
    async with GigaChat(credentials=running.key(B2B), scope=B2B, **settings) as client:
        assert (await client.achat("repeat: да")).choices[0].message.content == "да"
        parts = [chunk.choices[0].delta.content async for chunk in client.astream("say 7 words")]
        assert "".join(parts) == "word1 word2 word3 word4 word5 word6 word7"
        assert (await client.aget_models()).data
        with pytest.raises(NotFoundError):
            await client.aget_model("NonExistentModel")
        assert len((await client.aembeddings(["text"])).data[0].embedding) == 1024
        stored = await client.aupload_file(("note.txt", b"text", "text/plain"))
        assert (await client.adelete_file(stored.id_)).deleted
        assert (await client.atokens_count(["text"], model="GigaChat"))[0].tokens == 2
        assert (await client.aget_balance()).balance
    async with GigaChat(user="sandbox", password="sandbox-password", **settings) as client:
        assert (await client.achat("repeat: да")).choices[0].message.content == "да"
