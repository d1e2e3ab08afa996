"""The table ``[openai]`` and what the plugin makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trustme
from pydantic import ValidationError

from gatewaykit.errors import ConfigError
from gatewaykit.settings import load_settings
from gatewaykit_openai import plugin
from gatewaykit_openai.endpoint import Endpoint
from gatewaykit_openai.settings import OPENAI_BASE_URL, OpenAISettings, Upstream
from gatewaykit_openai.vendors import VENDORS

KEY = "sk-canary-5f0c9d2e7b1a48c6"


def settings(**upstreams) -> OpenAISettings:
    return OpenAISettings(upstreams=upstreams)


def test_key_in_the_environment_is_enough():
    """``OPENAI_API_KEY`` alone gives the provider ``openai`` at OpenAI's own address."""
    loaded = load_settings({"openai": [OpenAISettings]}, file=None, environ={"OPENAI_API_KEY": KEY}).get(OpenAISettings)
    assert list(loaded.upstreams) == ["openai"]
    upstream = loaded.upstreams["openai"]
    endpoint = Endpoint.of("openai", upstream)
    assert endpoint.base_url == OPENAI_BASE_URL
    assert endpoint.headers == {"Authorization": f"Bearer {KEY}"}
    assert endpoint.length_field == "max_completion_tokens"


def test_address_in_the_environment():
    """``OPENAI_BASE_URL`` moves the provider ``openai`` to another address, and needs no key."""
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}
    upstream = load_settings({"openai": [OpenAISettings]}, file=None, environ=environ).get(OpenAISettings).upstreams
    endpoint = Endpoint.of("openai", upstream["openai"])
    assert endpoint.base_url == environ["OPENAI_BASE_URL"]
    assert endpoint.headers == {}
    assert endpoint.length_field == "max_tokens"


def test_a_bundle_without_certificates_is_named(tmp_path):
    """A ``ca_bundle_file`` that holds no certificates is a fault of that setting, found before anything starts."""
    bundle = tmp_path / "authorities.pem"
    bundle.write_text("no certificates")
    config = {"openai": {"upstreams": {"own": {"base_url": "https://h/v1", "ca_bundle_file": str(bundle)}}}}
    with pytest.raises(ConfigError, match=r"openai\.upstreams\.own\.ca_bundle_file: the file holds no certificates"):
        load_settings({"openai": [OpenAISettings]}, file=None, environ={}, overrides=config)


def test_no_configuration_no_provider():
    """Installed and not configured, the plugin offers nothing."""
    gateway = SimpleNamespace(settings=SimpleNamespace(get=lambda section: section()))
    assert list(plugin.gateway_providers(gateway)) == []
    assert list(plugin.gateway_settings()) == [OpenAISettings]


async def test_each_upstream_is_a_provider():
    """Every configured upstream becomes a provider of its name that passes OpenAI's bytes."""
    made = settings(openai={"api_key": KEY}, vllm={"base_url": "http://127.0.0.1:8000/v1/"})
    gateway = SimpleNamespace(settings=SimpleNamespace(get=lambda section: made))
    providers = list(plugin.gateway_providers(gateway))
    assert [provider.name for provider in providers] == ["openai", "vllm"]
    assert all(provider.native_dialects == {"openai_chat", "openai_embeddings"} for provider in providers)
    assert made.upstreams["vllm"].base_url == "http://127.0.0.1:8000/v1"
    assert Endpoint.of("vllm", made.upstreams["vllm"]).length_field == "max_tokens"


@pytest.mark.parametrize(
    "upstream",
    [
        {},
        {"api_key": KEY},
        {"base_url": "ftp://host/v1"},
        {"base_url": "host/v1"},
        {"base_url": "https://"},
        {"base_url": "https://user:secret@host/v1"},
        {"base_url": "https://host/v1?key=x"},
        {"base_url": "https://host/v1#x"},
        {"base_url": "https://host/v 1"},
        {"base_url": "https://host:port/v1"},
        {"base_url": "https://h/v1", "api_key": ""},
        {"base_url": "https://h/v1", "api_key": "a\r\nX: y"},
        {"base_url": "https://h/v1", "api_key": "ключ"},
        {"base_url": "https://h/v1", "headers": {"X Y": "1"}},
        {"base_url": "https://h/v1", "headers": {"Host": "other"}},
        {"base_url": "https://h/v1", "headers": {"X": "a\nb"}},
        {"base_url": "https://h/v1", "api_key": KEY, "headers": {"authorization": "Api-Key x"}},
        {"base_url": "https://h/v1", "connect_timeout": 0},
        {"base_url": "https://h/v1", "ca_bundle_file": "/no/such/file"},
        {"base_url": "https://h/v1", "unknown": 1},
    ],
)
def test_faults_are_found(upstream):
    """What cannot work, or would send a key to a wrong place, is refused, and the message shows no key."""
    with pytest.raises(ValidationError) as caught:
        settings(other=upstream)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Big", "a/b", "a b", "-a", "x" * 65])
def test_names(name):
    """A provider's name is short and plain."""
    with pytest.raises(ValidationError):
        settings(**{name: {"base_url": "https://h/v1"}})


def test_other_authorization_schemes():
    """An upstream with another scheme than Bearer gets its own Authorization header."""
    made = Upstream(base_url="https://h/v1", headers={"Authorization": f"Api-Key {KEY}"})
    endpoint = Endpoint.of("other", made)
    assert endpoint.headers == {"Authorization": f"Api-Key {KEY}"}
    assert endpoint.secrets == (f"Api-Key {KEY}",)
    assert KEY not in repr(endpoint)


def test_secrets_do_not_show():
    """No secret is in the text of the settings."""
    made = settings(openai={"api_key": KEY, "organization": KEY, "project": KEY, "headers": {"X": KEY}})
    assert KEY not in f"{made} {made!r} {made.model_dump_json()}"


def test_bundle_is_trusted_besides_the_system(tmp_path):
    """``ca_bundle_file`` adds authorities for this upstream and keeps verification on."""
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    context = Upstream(base_url="https://h/v1", ca_bundle_file=bundle).ssl_context()
    assert context is not None
    assert context.check_hostname
    assert any("trustme" in str(authority["subject"]) for authority in context.get_ca_certs())
    assert Upstream(base_url="https://h/v1").ssl_context() is None


def test_every_field_is_described():
    """Each setting has a description for the reference."""
    for model in (OpenAISettings, Upstream):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("name", VENDORS)
def test_every_vendor_is_a_row_that_works(name):
    """With its key, and an address or project where each customer has an own one, a vendor needs no other setting."""
    vendor = VENDORS[name]
    own = {"base_url": "https://own.example/openai/v1"} if vendor.base_url is None else {}
    own |= {"project": "folder"} if vendor.needs_project else {}
    made = settings(**{name: {"api_key": KEY, **own}})
    endpoint = Endpoint.of(name, made.upstreams[name])
    assert endpoint.base_url == (vendor.base_url or own["base_url"])
    assert [header for header, value in endpoint.headers.items() if KEY in value] == [vendor.key_header]
    assert KEY in endpoint.secrets
    again = settings(other={"vendor": name, "api_key": KEY, **own})
    assert Endpoint.of("other", again.upstreams["other"]) == endpoint


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.key_variable])
def test_the_key_of_a_vendor_in_the_environment(name):
    """The variable that a vendor's users have is read; where more is needed, its absence is told and no key shown."""
    environ = {VENDORS[name].key_variable: KEY}
    more = {"azure": {"AZURE_OPENAI_BASE_URL": "https://own.example/v1"}, "yandex": {"YANDEX_CLOUD_FOLDER": "f"}}
    if name in more:
        with pytest.raises(ConfigError) as caught:
            load_settings({"openai": [OpenAISettings]}, file=None, environ=environ)
        assert KEY not in str(caught.value)
    loaded = load_settings({"openai": [OpenAISettings]}, file=None, environ=environ | more.get(name, {}))
    assert list(loaded.get(OpenAISettings).upstreams) == [name]


def test_headers_of_those_who_differ():
    """Azure has a header of its own, Yandex a scheme of its own and the folder in the names of its models."""
    made = settings(
        azure={"base_url": "https://own.example/openai/v1", "api_key": KEY},
        yandex={"api_key": KEY, "project": "b1g"},
    )
    azure = Endpoint.of("azure", made.upstreams["azure"])
    yandex = Endpoint.of("yandex", made.upstreams["yandex"])
    assert azure.headers == {"api-key": KEY}
    assert azure.length_field == "max_completion_tokens"
    assert yandex.headers == {"OpenAI-Project": "b1g", "Authorization": f"Api-Key {KEY}"}
    assert yandex.chat_name("yandexgpt/latest") == "gpt://b1g/yandexgpt/latest"
    assert yandex.embedding_name("text-search-doc/latest") == "emb://b1g/text-search-doc/latest"
    assert yandex.chat_name("gpt://other/model") == "gpt://other/model"


def test_an_unknown_vendor_is_a_fault():
    """The message lists those that are known."""
    with pytest.raises(ValidationError, match="must be one of openai, azure"):
        settings(other={"vendor": "nobody", "base_url": "https://h/v1"})
