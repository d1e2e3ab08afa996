"""schemathesis reads the server's OpenAPI document and finds no request that it answers with an error of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from .oauth_served import served
from .oauth_world import CALLBACK, EVERYTHING


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """The operations of a gateway at work, its address, and a client that may do everything."""
    folder = tmp_path_factory.mktemp("fuzzing")
    with served(f"sqlite:///{folder}/gatewaykit.db", oauth={"registration": True}) as there:
        made = there.client("fuzz", confidential=True, redirect_uris=[CALLBACK], grants=list(EVERYTHING))
        document = httpx.get(f"{there.address}/oauth/openapi.json", trust_env=False).json()
        schema = schemathesis.openapi.from_dict(document)
        yield schema, there.address, {"client_id": made["id"], "client_secret": made["secret"]}


def test_no_request_breaks_the_server(fuzzed: tuple[Any, str, dict[str, str]]) -> None:
    """For each operation, with and without the credentials of a client, answers are below 500 and as documented."""
    schema, address, client = fuzzed
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 10
    for operation in operations:
        search(operation, address, client)


def search(operation: Any, address: str, client: dict[str, str]) -> None:
    """Many requests to one operation."""
    from hypothesis import given
    from hypothesis import strategies as st

    documented = set(operation.definition.raw["responses"])

    @given(case=operation.as_strategy(), own=st.booleans())
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, own: bool) -> None:
        if own and isinstance(case.body, dict) and operation.path != "/oauth/register":
            case.body = {**case.body, **client}
        answer = case.call(base_url=address, allow_redirects=False)
        assert answer.status_code < 500, (case, answer.text)
        assert str(answer.status_code) in documented, (case, answer.status_code, answer.text)

    ask()
