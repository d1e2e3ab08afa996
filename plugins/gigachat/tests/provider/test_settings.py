"""The table ``[gigachat]``: what it accepts, what it refuses, and the names that users know already."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import asdict
from pydantic import ValidationError

from gatewaykit.settings import ServerSettings, load_settings
from gatewaykit_gigachat import plugin
from gatewaykit_gigachat.provider import GigaChat
from gatewaykit_gigachat.settings import PUBLIC_AUTH_URL, PUBLIC_URL, GigaChatSettings

SECRETS = {"credentials": "canary-key", "access_token": "canary-token", "session_secret": "canary-canary-canary"}


def test_the_defaults_are_the_public_service() -> None:
    """With nothing set the public hosts are meant, verification is on, and there is no credential."""
    settings = GigaChatSettings()
    assert (settings.base_url, settings.auth_url) == (PUBLIC_URL, PUBLIC_AUTH_URL)
    assert settings.scope == "GIGACHAT_API_PERS"
    assert settings.verify_tls is True
    assert settings.kind is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"access_token": "t", "credentials": "k", "user": "u", "password": "p"}, "access_token"),
        ({"credentials": "k", "user": "u", "password": "p"}, "credentials"),
        ({"user": "u", "password": "p", "base_url": "https://own.example/v1"}, "password"),
    ],
)
def test_of_several_credentials_the_first_kind_counts(fields: dict[str, str], kind: str) -> None:
    """The order is that of GigaChat's own library: token, key, user, certificate."""
    assert GigaChatSettings(**fields).kind == kind


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"user": "u", "password": "p"}, "set base_url to yours"),
        ({"user": "u", "password": "p", "base_url": "https://API.giga.chat/v1/"}, "set base_url to yours"),
        ({"user": "u"}, "need each other"),
        ({"password": "p"}, "need each other"),
        ({"user": "a:b", "password": "p"}, "user"),
        ({"base_url": "ftp://host/v1"}, "must be an address"),
        ({"base_url": "host/v1"}, "must be an address"),
        ({"base_url": "https://host:99999/v1"}, "must be an address"),
        ({"base_url": "https://host /v1"}, "must be an address"),
        ({"base_url": "https://user:secret@host/v1"}, "no user name"),
        ({"auth_url": "https://host/oauth?x=1"}, "query"),
        ({"credentials": "two words"}, "one word"),
        ({"credentials": "ключ"}, "one word"),
        ({"credentials": "a\r\nX-Evil: 1"}, "one word"),
        ({"access_token": " "}, "is empty"),
        ({"scope": "A B"}, "scope"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout": 0}, "timeout"),
        ({"retry_on_status_codes": (200,)}, "retry_on_status_codes"),
        ({"session_secret": "short"}, "session_secret"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], told: str) -> None:
    """Each fault is a message that names the setting or the cure, and repeats no value."""
    with pytest.raises(ValidationError, match=told) as caught:
        GigaChatSettings(**fields)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize("written", ["Basic a2V5", " a2V5\n", "basic  a2V5"])
def test_a_key_may_be_pasted_as_it_is_shown(written: str) -> None:
    """Space and the scheme around a key are no part of it."""
    key = GigaChatSettings(credentials=written).credentials
    assert key is not None
    assert key.get_secret_value() == "a2V5"


def test_the_names_that_users_know_fill_the_fields() -> None:
    """The environment of GigaChat's own library configures the provider without any file."""
    environ = {
        "GIGACHAT_BASE_URL": "https://own.example/api/v1/",
        "GIGACHAT_AUTH_URL": "https://auth.example/oauth",
        "GIGACHAT_CREDENTIALS": "a2V5",
        "GIGACHAT_SCOPE": "GIGACHAT_API_CORP",
        "GIGACHAT_ACCESS_TOKEN": "token",
        "GIGACHAT_USER": "me",
        "GIGACHAT_PASSWORD": "p",
        "GIGACHAT_VERIFY_SSL_CERTS": "False",
        "GIGACHAT_TIMEOUT": "45",
        "GIGACHAT_MAX_CONNECTIONS": "7",
        "GIGACHAT_MAX_RETRIES": "4",
        "GIGACHAT_RETRY_BACKOFF_FACTOR": "0.25",
        "GIGACHAT_RETRY_ON_STATUS_CODES": "[429, 503]",
        "GIGACHAT_TOKEN_EXPIRY_BUFFER_MS": "90000",
        "GIGACHAT_PROFANITY_CHECK": "true",
        "GIGACHAT_FLAGS": '["preprocess"]',
        "GIGACHAT_CA_BUNDLE_FILE": "",
        "GIGACHAT_MODEL": "GigaChat-2",
    }
    settings = load_settings({"gigachat": [GigaChatSettings]}, file=None, environ=environ).get(GigaChatSettings)
    shown = settings.model_dump(exclude_unset=True)
    assert shown.pop("credentials").get_secret_value() == "a2V5"
    assert shown.pop("access_token").get_secret_value() == "token"
    assert shown.pop("password").get_secret_value() == "p"
    assert shown == {
        "base_url": "https://own.example/api/v1",
        "auth_url": "https://auth.example/oauth",
        "scope": "GIGACHAT_API_CORP",
        "user": "me",
        "verify_tls": False,
        "timeout": 45,
        "max_connections": 7,
        "max_retries": 4,
        "retry_backoff_factor": 0.25,
        "retry_on_status_codes": (429, 503),
        "token_expiry_buffer_ms": 90000,
        "profanity_check": True,
        "flags": ("preprocess",),
    }


def test_every_field_says_what_it_is() -> None:
    """Each setting has a description, and each known name leads to a setting."""
    assert all(info.description for info in GigaChatSettings.model_fields.values())
    assert set(GigaChatSettings.environment.values()) <= set(GigaChatSettings.model_fields)


def test_the_choices_reach_the_translation() -> None:
    """Every option of the translation is a setting of the same name, and is handed on."""
    chosen = {
        "cached_tokens_included": "yes",
        "send_state_id": True,
        "profanity_check": False,
        "flags": ("a",),
        "unsupported": "refuse",
        "json_object": "refuse",
        "json_schema": "function",
        "required_tool": "insist",
        "frequency_penalty": "repetition_penalty",
        "think_tags": True,
    }
    assert asdict(GigaChatSettings(**chosen).convert_options) == chosen


def test_no_secret_in_any_repr() -> None:
    """Neither settings nor provider show a secret."""
    settings = GigaChatSettings(**SECRETS)
    provider = GigaChat(settings)
    connections = [connection for connection, _ in vars(provider)["_members"].values()]
    things = [thing for connection in connections for thing in vars(connection).values()]
    for thing in (settings, provider, *vars(provider).values(), *things):
        assert "canary" not in f"{thing!r} {thing!s}"


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("http://gigachat.example/v1", True),
        ("http://127.0.0.1:8090/v1", False),
        ("http://[::1]/v1", False),
        ("http://localhost/v1", False),
        ("https://gigachat.example/v1", False),
    ],
)
def test_an_address_without_tls_is_warned_of(logged: list[str], address: str, warned: bool) -> None:
    """Plain HTTP to another machine is logged as a warning when the provider is made."""
    GigaChat(GigaChatSettings(access_token="t", base_url=address))
    assert any("no TLS" in line for line in logged) is warned


def test_the_plugin_gives_a_provider_only_when_it_is_configured() -> None:
    """Without a credential the provider is absent; with one it is there, under its name."""

    def providers(settings: GigaChatSettings) -> list[Any]:
        sections = {GigaChatSettings: settings, ServerSettings: ServerSettings()}
        gateway: Any = SimpleNamespace(
            settings=SimpleNamespace(get=sections.__getitem__), logger=logging.getLogger(), redis=None, storage=None
        )
        return list(plugin.gateway_providers(gateway))

    assert list(plugin.gateway_settings()) == [GigaChatSettings]
    assert providers(GigaChatSettings()) == []
    (provider,) = providers(GigaChatSettings(credentials="a2V5"))
    assert provider.name == "gigachat"
