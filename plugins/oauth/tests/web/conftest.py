"""Gateways with pages, on a socket: one for a module, with people, keys and usage in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from gatewaykit import Gateway
from gatewaykit.testing import running
from gatewaykit.testing.gateways import bound
from gatewaykit_oauth.server.settings import OAuthSettings

from .browser import Browser
from .chromium import launched
from .seeding import add_keys, add_people, add_program, add_usage, seeded_gateway


@dataclass(frozen=True)
class Place:
    """A gateway at work, the ids of its keys by name, and those of a program and of what Boris allowed it."""

    gateway: Gateway
    address: str
    keys: dict[str, str]
    client: str = ""
    grant: str = ""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    listener = bound()
    host, port = listener.getsockname()
    gateway = seeded_gateway(tmp_path_factory.mktemp("pages"), oauth={"issuer": f"http://{host}:{port}"})
    with running(gateway, listener) as address:
        assert gateway.storage is not None
        with gateway.storage.transaction() as session:
            add_people(session)
            keys = add_keys(session)
            add_usage(session, keys)
            client, grant = add_program(session, gateway.settings.get(OAuthSettings))
        yield Place(gateway, address, keys, client, grant)


@pytest.fixture
def browse(place: Place) -> Iterator[Callable[..., Browser]]:
    """A new browser; with a name, of somebody who is signed in."""
    with ExitStack() as stack:

        def opened(name: str | None = None, language: str = "en", **headers: str) -> Browser:
            browser = stack.enter_context(Browser(place.address, language, **headers))
            if name is not None:
                page = browser.sign_in(name)
                assert page.path == "/admin/", page.words
            return browser

        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    with launched() as browser:
        yield browser
