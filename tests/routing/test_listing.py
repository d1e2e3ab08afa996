"""What providers say they have, while some of them have yet to say it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gatewaykit import Model, ProviderUnavailable
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of, until

URL = "/v1/chat/completions"


class Slow(FakeProvider):
    """Lists its models when it is told to."""

    def __init__(self, name: str, models: Sequence[str]) -> None:
        super().__init__(name=name, models=models)
        self.may_list = asyncio.Event()
        self.asked = False

    async def models(self) -> Sequence[Model]:
        self.asked = True
        await self.may_list.wait()
        return await super().models()


def asking(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_list_counts_as_soon_as_it_has_come() -> None:
    """A provider that does not answer at the start keeps nobody from the models of another, nor gets their calls."""
    slow, quick = Slow("slow", ["late"]), Slow("quick", ["early"])
    gateway = make_gateway(plugin_of(providers=[slow, quick]))
    async with gateway_client(gateway) as client:
        await until(lambda: slow.asked and quick.asked)
        quick.may_list.set()
        await until(lambda: is_listed(gateway, "quick"))
        for model, target in (("early", "quick/early"), ("late", "slow/late")):
            answer = await client.post(URL, json=asking(model))
            assert (answer.status_code, answer.headers["x-gatewaykit-target"]) == (200, target)
        slow.may_list.set()
        await until(lambda: is_listed(gateway, "slow"))
        assert (await client.post(URL, json=asking("unheard-of"))).status_code == 404


async def test_the_first_provider_has_a_model_that_several_list() -> None:
    """Whoever answers first when lists are fetched: the order of the providers decides, as in every other place."""
    first, second = Slow("first", ["shared"]), Slow("second", ["shared"])
    gateway = make_gateway(plugin_of(providers=[first, second]))
    async with gateway_client(gateway) as client:
        for provider in (second, first):
            provider.may_list.set()
            await until(lambda name=provider.name: is_listed(gateway, name))
        answer = await client.post(URL, json=asking("shared"))
        assert answer.headers["x-gatewaykit-target"] == "first/shared"


async def test_that_there_are_no_models_is_not_said_before_anybody_has_said_so() -> None:
    """Whoever asks for the models of a gateway that has just started is told to come back."""
    slow = Slow("slow", ["late"])
    async with gateway_client(make_gateway(plugin_of(providers=[slow]))) as client:
        for path in ("/v1/models", "/v1/models/late"):
            early = await client.get(path)
            assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        slow.may_list.set()
        for path in ("/v1/models", "/v1/models/late"):
            assert "late" in (await client.get(path)).text


class Failing(FakeProvider):
    """Fails every call, and lists its models while it ``lists``; ``looks`` counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__(ProviderUnavailable(), name="one", models=["m"])
        self.lists = True
        self.looks = 0

    async def models(self) -> Sequence[Model]:
        self.looks += 1
        if not self.lists:
            raise ProviderUnavailable
        return await super().models()

    async def looked_at(self) -> None:
        """Returns when it was asked twice from now on: what came of the first time is known then."""
        before = self.looks
        await until(lambda: self.looks >= before + 2)


async def test_a_list_that_comes_again_ends_the_cooldown() -> None:
    """One that came all the while does not: calls may fail where lists come, and are left alone for all of it."""
    one = Failing()
    gateway = make_gateway(plugin_of(providers=[one]), breaker={"calls": 2, "cooldown": 600})
    async with gateway_client(gateway) as client:
        await until(lambda: is_listed(gateway, "one"))
        for _ in range(2):
            await client.post(URL, json=asking("m"))
        await one.looked_at()
        await client.post(URL, json=asking("m"))
        assert one.opened == 2
        one.lists = False
        await one.looked_at()
        one.lists = True
        await one.looked_at()
        await client.post(URL, json=asking("m"))
        assert one.opened == 3


def is_listed(gateway: Any, provider: str) -> bool:
    """Whether the list of this provider is known."""
    (router,) = gateway.routers.values()
    return provider not in router.listing.unknown()
