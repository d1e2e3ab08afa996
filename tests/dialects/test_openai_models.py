"""The list of models, as the official SDK reads it."""

from __future__ import annotations

import json
from collections.abc import Callable

import openai
import pytest

from gatewaykit.dialects import OpenAIModels
from gatewaykit.errors import ModelNotFound, ProviderUnavailable
from gatewaykit.types import Call, Finished, Incoming, Model, ModelList, ModelsRequest, Reply

CallOf = Callable[..., Call]
Client = Callable[..., openai.OpenAI]

MODELS = (Model("GigaChat-2", "sber", 1_700_000_000), Model("vendor/model:free"))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models", ""),
        ("/v1/models/", ""),
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/vendor/model:free", "vendor/model:free"),
        ("/v1/models//v1/models", "/v1/models"),
    ],
)
def test_the_path_names_the_model(path: str, model: str, incoming: Callable[..., Incoming]) -> None:
    """All models are asked for by the bare path, one by what follows, slashes included."""
    assert OpenAIModels().decode(incoming("GET", path), b"") == ModelsRequest(model)


def test_the_sdk_lists_models(models_call: CallOf, sdk: Client) -> None:
    """The official client reads every model of the list with all its fields."""
    with sdk(OpenAIModels().encode_reply(models_call(), Reply(models=MODELS))) as client:
        listed = list(client.models.list())
    assert [(model.id, model.owned_by, model.created, model.object) for model in listed] == [
        ("GigaChat-2", "sber", 1_700_000_000, "model"),
        ("vendor/model:free", "", 0, "model"),
    ]


def test_the_sdk_retrieves_a_model(models_call: CallOf, sdk: Client) -> None:
    """The official client reads one model, whether the reply has that one or all."""
    for models in (MODELS, MODELS[1:]):
        body = OpenAIModels().encode_reply(models_call("vendor/model:free"), Reply(models=models))
        with sdk(body) as client:
            assert client.models.retrieve("vendor/model:free").id == "vendor/model:free"


def test_an_unknown_model_is_not_found(models_call: CallOf) -> None:
    """A model that the reply does not have is refused, and an empty list is a list."""
    with pytest.raises(ModelNotFound):
        OpenAIModels().encode_reply(models_call("none"), Reply(models=MODELS))
    assert json.loads(OpenAIModels().encode_reply(models_call(), Reply(models=()))) == {"object": "list", "data": []}


def test_raw_answers_pass(models_call: CallOf) -> None:
    """A provider's own list in this format is passed on as it is."""
    assert OpenAIModels().encode_reply(models_call(), Reply(raw=b'{"data":  []}')) == b'{"data":  []}'


def test_the_event_is_the_same_list(models_call: CallOf) -> None:
    """The encoder writes the list in one piece, nothing for other events, and errors as the dialect does."""
    dialect, call = OpenAIModels(), models_call()
    encoder = dialect.encoder(call)
    assert encoder.encode(ModelList(MODELS)) == dialect.encode_reply(call, Reply(models=MODELS))
    assert encoder.encode(Finished()) + encoder.finish() == b""
    error = ProviderUnavailable()
    assert encoder.fail(error) == dialect.encode_error(error, "id")
