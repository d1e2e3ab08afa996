"""Plugins are found by their metadata; what cannot be right is refused with the plugin's name and the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewaykit import Authenticator, Dialect, Gateway, Observer, Provider, Transform, hookimpl
from gatewaykit.errors import ConfigError, PermissionDenied
from gatewaykit.registry import PluginInfo
from gatewaykit.testing import FakeProvider, plugin_of

Assemble = Callable[..., Gateway]
Install = Callable[..., Path]

ECHO = """
    from gatewaykit import Finished, Provider, TextDelta, hookimpl

    class Echo(Provider):
        name = "echo"

        async def stream(self, call, target):
            yield TextDelta("hello")
            yield Finished("stop")

    @hookimpl
    def gateway_providers(gateway):
        return [Echo()]
"""
SECTION = """
    from pydantic import Field
    from gatewaykit import Section, hookimpl

    class Acme(Section):
        section = "acme_cloud"
        host: str = Field("localhost", description="Where.")

    @hookimpl
    def gateway_settings():
        return [Acme]
"""


def info(gateway: Gateway, name: str) -> PluginInfo:
    (found,) = [plugin for plugin in gateway.plugins if plugin.name == name]
    return found


def faults(assemble: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        assemble()
    return [str(fault) for fault in raised.value.faults]


def hook(name: str, result: Any) -> object:
    """A plugin whose hook ``name`` returns ``result``, or is it if it can be called."""
    function = result if callable(result) and not isinstance(result, type) else lambda: result
    function.__name__ = name
    return SimpleNamespace(name="acme", **{name: hookimpl(function)})


# Loading


def test_an_installed_plugin_takes_part(assemble: Assemble, install: Install) -> None:
    """A package with an entry point is all that it takes; the report says where it came from and what it does."""
    install("acme-cloud", {"acme": "acme_plugin"}, version="2.1", acme_plugin=ECHO)
    gateway = assemble()
    assert set(gateway.providers) == {"echo"}
    assert info(gateway, "acme") == PluginInfo("acme", "acme-cloud", "2.1", "active", "", ("gateway_providers",))


def test_a_plugin_may_be_an_object_in_a_module(assemble: Assemble, install: Install) -> None:
    """The entry point may name an attribute, as metadata allows."""
    source = "from gatewaykit.testing import FakeProvider, plugin_of\nplugin = plugin_of(providers=[FakeProvider()])\n"
    install("acme", {"acme": "acme_plugin:plugin"}, acme_plugin=source)
    assert set(assemble().providers) == {"fake"}


BROKEN = {
    "import error": ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named 'a_module_that"),
    "error": ("raise RuntimeError('out of order\\nsecond line')", "RuntimeError: out of order"),
    "syntax": ("def (", "SyntaxError"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_plugin_that_is_merely_installed_and_broken_is_passed_over(
    assemble: Assemble, install: Install, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    """The gateway starts without it; the log warns and the report gives the reason in one line."""
    install("acme", {"acme": "acme_plugin"}, acme_plugin=source)
    with caplog.at_level(logging.WARNING):
        found = info(assemble(), "acme")
    assert found.status == "broken"
    assert reason in found.reason
    assert "\n" not in found.reason
    assert "acme" in caplog.text
    assert reason in caplog.text


def test_a_missing_module_and_a_missing_attribute_are_told_apart(assemble: Assemble, install: Install) -> None:
    """The reason says whether the entry point's module is missing or what it should hold."""
    install("one", {"one": "not_there"})
    install("two", {"two": "two_plugin:not_there"}, two_plugin="")
    gateway = assemble()
    assert info(gateway, "one").reason == "ModuleNotFoundError: No module named 'not_there'"
    assert "has no attribute 'not_there'" in info(gateway, "two").reason


def test_a_blocked_plugin_is_not_even_imported(assemble: Assemble, install: Install) -> None:
    """Blocking is what an operator does with a plugin that breaks on import."""
    install("acme", {"acme": "acme_plugin"}, acme_plugin="raise RuntimeError")
    assert info(assemble(blocked=("acme",)), "acme") == PluginInfo("acme", "acme", "1.0", "blocked")


def test_a_default_plugin_can_be_blocked(assemble: Assemble) -> None:
    """Nothing about the default plugins is special."""
    gateway = assemble(blocked=("health",))
    assert info(gateway, "health").status == "blocked"
    assert not gateway.owns("/livez")


def test_a_required_plugin_must_be_installed(assemble: Assemble) -> None:
    """The fault names it and says what is there."""
    (fault,) = faults(lambda: assemble(required=("acme",)))
    assert fault.startswith("plugins.required: 'acme' is not installed; installed are access-log, ")


def test_a_blocked_name_that_nobody_has_is_a_mistake(assemble: Assemble) -> None:
    """A misspelt name would leave the plugin running."""
    (fault,) = faults(lambda: assemble(blocked=("haelth",)))
    assert fault.startswith("plugins.blocked: 'haelth' is not installed")


def test_a_required_plugin_must_load(assemble: Assemble, install: Install) -> None:
    """Required and broken: no start, with name and reason."""
    install("acme", {"acme": "acme_plugin"}, acme_plugin="raise RuntimeError('out of order')")
    (fault,) = faults(lambda: assemble(required=("acme",)))
    assert fault == "plugin acme: does not load: RuntimeError: out of order"


@pytest.mark.parametrize(("name", "section"), [("acme", "acme"), ("acme-cloud", "acme_cloud")])
def test_a_configured_plugin_must_load(assemble: Assemble, install: Install, name: str, section: str) -> None:
    """Whoever wrote a section for a plugin does not want to run without it; sections have underscores for dashes."""
    install("acme", {name: "acme_plugin"}, acme_plugin="raise RuntimeError('out of order')")
    assert f"plugin {name}: does not load: RuntimeError: out of order" in faults(lambda: assemble(**{section: {}}))


def test_the_section_of_a_blocked_plugin_may_stay(assemble: Assemble, install: Install) -> None:
    """Blocking a plugin does not force the operator to delete its settings."""
    install("acme", {"acme-cloud": "acme_plugin"}, acme_plugin=SECTION)
    assert assemble(acme_cloud={"host": "example"}).settings["acme_cloud"].host == "example"  # type: ignore[attr-defined]
    assemble(blocked=("acme-cloud",), acme_cloud={"host": "example"})


def test_two_packages_cannot_share_a_plugin_name(assemble: Assemble, install: Install) -> None:
    """The fault names the plugin and both packages; neither is silently preferred."""
    install("first", {"acme": "first_plugin"}, first_plugin=ECHO)
    install("second", {"acme": "second_plugin"}, second_plugin=ECHO)
    assert faults(assemble) == ["plugin acme: is provided by both first and second"]


def test_a_package_cannot_take_a_default_plugin_s_name(assemble: Assemble, install: Install) -> None:
    """An attacker's package cannot stand in for the authenticator by its name."""
    install("evil", {"static-keys": "evil_plugin"}, evil_plugin=ECHO)
    assert faults(assemble) == ["plugin static-keys: is provided by both gatewaykit and evil"]


def test_of_a_package_that_is_there_twice_the_first_on_the_path_counts(assemble: Assemble, install: Install) -> None:
    """As with every import: an editable install in front of a stale copy is not a conflict."""
    install("acme", {"acme": "acme_plugin"}, version="2.0", acme_plugin=ECHO)
    install("acme", {"acme": "acme_plugin"}, version="1.0", first=False, acme_plugin="raise RuntimeError")
    assert info(assemble(), "acme").version == "2.0"


def test_a_broken_plugin_does_not_harm_its_neighbours(assemble: Assemble, install: Install) -> None:
    """A plugin that is refused after some of its hooks were registered leaves nothing behind."""
    bad = ECHO + "\n    @hookimpl\n    def gateway_provders(gateway):\n        return []\n"
    install("bad", {"a-bad": "bad_plugin"}, bad_plugin=bad)
    install("good", {"good": "good_plugin"}, good_plugin=ECHO)
    gateway = assemble()
    assert info(gateway, "a-bad").status == "broken"
    assert set(gateway.providers) == {"echo"}


def test_the_order_of_installation_does_not_matter(assemble: Assemble, install: Install, tmp_path: Path) -> None:
    """Plugins load by name, so that what lies first on the path does not decide who authenticates first."""

    def source(name: str) -> str:
        return f"""
            from gatewaykit import Principal, hookimpl

            class Door:
                name = "{name}"
                async def authenticate(self, incoming):
                    return Principal(self.name)

            @hookimpl
            def gateway_authenticators():
                return [Door()]
        """

    orders = []
    for turn, names in enumerate((("b-door", "a-door"), ("a-door", "b-door"))):
        for name in names:
            module = f"door_{name[0]}_{turn}"
            install(f"{name}-{turn}", {f"{name}-{turn}": module}, **{module: source(name)})
        gateway = assemble(blocked=("a-door-0", "b-door-0") if turn else ())
        orders.append([plugin.name[:6] for plugin in gateway.plugins if "door" in plugin.name and plugin.hooks])
    assert orders == [["a-door", "b-door"]] * 2


# The form of hooks


async def async_hook(gateway: object) -> list[object]:
    return []


async def async_generator_hook(gateway: object) -> Any:
    yield FakeProvider()


def test_a_misspelt_hook_is_refused() -> None:
    """The error names the hook that does not exist."""
    with pytest.raises(ConfigError, match="acme: unknown hook 'gateway_provders'"):
        Gateway({}, plugins=[hook("gateway_provders", [])], environ={})


@pytest.mark.parametrize("function", [async_hook, async_generator_hook])
def test_an_async_hook_is_refused_with_the_right_form(function: Any) -> None:
    """``async def`` is what a newcomer writes first: the error shows what to write instead."""
    with pytest.raises(ConfigError, match=r"async def.*return \[MyObject\(\)\]"):
        Gateway({}, plugins=[hook("gateway_providers", function)], environ={})


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
def test_a_wrapper_is_refused_with_the_right_form(option: str) -> None:
    """pluggy's wrappers would see lists of other plugins' objects, which is nobody's business."""

    def gateway_providers() -> Any:
        yield

    plugin = SimpleNamespace(name="acme", gateway_providers=hookimpl(**{option: True})(gateway_providers))
    with pytest.raises(ConfigError, match=r"is a wrapper.*return \[MyObject\(\)\]"):
        Gateway({}, plugins=[plugin], environ={})


def test_an_argument_that_the_hook_does_not_have_is_refused() -> None:
    """The error names the argument."""
    with pytest.raises(ConfigError, match="gatway"):
        Gateway({}, plugins=[hook("gateway_providers", lambda gatway: [])], environ={})


def test_two_plugins_that_are_handed_in_cannot_share_a_name() -> None:
    """The second is refused, and the error names it."""
    with pytest.raises(ConfigError, match="acme: another plugin has this name"):
        Gateway({}, plugins=[hook("gateway_providers", []), hook("gateway_observers", [])], environ={})


# What hooks return


class Nameless(Provider):
    name = ""

    async def stream(self, call: Any, target: Any) -> Any:
        yield


class Shapeless:
    name = "shapeless"


class Idle:
    name = "idle"


class Late(Provider):
    name = "late"
    before = "other"  # type: ignore[assignment]

    async def stream(self, call: Any, target: Any) -> Any:
        yield


class Lenient(Transform):
    name = "lenient"
    on_error = "opened"


class Heavy(Transform):
    name = "heavy"
    tier = "last"


class Hurried(Transform):
    name = "hurried"
    deadline = 0


class Pathless(Dialect):
    name = "pathless"
    routes = ("/v1/acme",)  # type: ignore[assignment]


class Guard(Transform):
    name = "guard"

    async def on_request(self, call: Any) -> None:  # type: ignore[override]
        raise PermissionDenied


class Slow(Observer):
    name = "slow"

    async def record(self, record: Any) -> None:  # type: ignore[override]
        pass


class Fetching(Provider):
    name = "fetching"

    async def stream(self, call: Any, target: Any) -> Any:  # type: ignore[override]
        return []


class Yielding(Authenticator):
    name = "yielding"

    async def authenticate(self, incoming: Any) -> Any:
        yield


class Living(FakeProvider):
    async def lifespan(self) -> Any:
        yield


MISSHAPEN = {
    "class": ("gateway_providers", [FakeProvider], "gateway_providers returned the class FakeProvider; return an inst"),
    "unnamed": ("gateway_providers", [Nameless()], "gateway_providers returned a Nameless object without a name"),
    "none in list": ("gateway_providers", [None], "gateway_providers returned a NoneType object without a name"),
    "shapeless": ("gateway_providers", [Shapeless()], "without stream, complete, embed, models, aclose; subclass"),
    "not a list": ("gateway_providers", FakeProvider(), "'FakeProvider' object is not iterable"),
    "idle": ("gateway_transforms", [Idle()], "a Idle object with none of on_request, on_attempt, on_event, on_reply"),
    "raises": ("gateway_providers", lambda: 1 / 0, "gateway_providers failed: ZeroDivisionError: division by zero"),
    "before": ("gateway_providers", [Late()], "whose 'before' is not a list of names"),
    "on_error": ("gateway_transforms", [Lenient()], "whose 'on_error' is neither 'open' nor 'closed'"),
    "tier": ("gateway_transforms", [Heavy()], "whose 'tier' is not a number"),
    "deadline": ("gateway_transforms", [Hurried()], "whose 'deadline' is not a number of seconds"),
    "routes": ("gateway_dialects", [Pathless()], "whose 'routes' are not pairs of method and path"),
    "async guard": ("gateway_transforms", [Guard()], "whose 'on_request' is an 'async def'; nobody awaits it"),
    "async observer": ("gateway_observers", [Slow()], "whose 'record' is an 'async def'; nobody awaits it"),
    "async stream": ("gateway_providers", [Fetching()], "whose 'stream' is an 'async def' without yield"),
    "async generator": ("gateway_authenticators", [Yielding()], "whose 'authenticate' is an 'async def' with 'yield'"),
    "undecorated": ("gateway_providers", [Living()], "whose 'lifespan' is an 'async def' with 'yield'"),
    "settings": ("gateway_settings", [42], "gateway_settings returned 42; return subclasses of Section"),
    "settings object": ("gateway_settings", [dict], "return subclasses of Section"),
    "routes objects": ("gateway_routes", ["/hello"], "gateway_routes returned '/hello'; return Starlette routes"),
}


@pytest.mark.parametrize(("name", "result", "problem"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_what_a_hook_returns_must_have_its_shape(assemble: Assemble, name: str, result: Any, problem: str) -> None:
    """Each mistake is a fault that names plugin, hook and what is wrong, and nothing else goes wrong for it."""
    (fault,) = faults(lambda: assemble(hook(name, result)))
    assert fault.startswith(f"plugin acme: {name}")
    assert problem in fault


def test_a_hook_may_return_none_or_yield(assemble: Assemble) -> None:
    """Nothing to give is ``None``, an empty list, or a generator that ends."""

    def generator() -> Any:
        yield FakeProvider()

    gateway = assemble(
        hook("gateway_observers", lambda: None),
        SimpleNamespace(name="two", gateway_providers=hook("gateway_providers", generator).gateway_providers),  # type: ignore[attr-defined]
    )
    assert set(gateway.providers) == {"fake"}


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("providers", lambda: FakeProvider(name="twin")),
        ("observers", lambda: type("Twin", (Observer,), {"name": "twin", "record": print})()),
        ("authenticators", lambda: type("Twin", (Authenticator,), {"name": "twin", "authenticate": print})()),
    ],
)
def test_a_name_can_be_given_once_only(assemble: Assemble, kind: str, make: Callable[[], object]) -> None:
    """The fault names the object and both plugins."""
    plugins = [plugin_of(name=name, **{kind: [make()]}) for name in ("first", "second")]
    (fault,) = faults(lambda: assemble(*plugins))
    assert fault == f"plugin second: gateway_{kind}: the name 'twin' is already taken by plugin first"


def test_two_dialects_cannot_share_a_route(assemble: Assemble) -> None:
    """Whose error would the client see? The fault names the route and both dialects."""
    (fault,) = faults(lambda: assemble(plugin_of(name="acme", dialects=[Second()])))
    assert fault == "dialect second: POST /v1/chat/completions already belongs to the dialect openai_chat"


class Second(Dialect):
    name = "second"
    routes = (("POST", "/v1/chat/completions"), ("POST", "/v1/second"))


def test_a_gateway_without_a_dialect_does_not_start(assemble: Assemble) -> None:
    """It could answer nothing, not even an error."""
    (fault,) = faults(lambda: assemble(blocked=("openai-dialects",)))
    assert "no plugin brings a dialect" in fault


def test_a_cycle_of_order_is_a_fault_that_names_its_members(assemble: Assemble) -> None:
    """Two objects that want to be first are told so before any request is."""
    one, two = FakeProvider(name="one"), FakeProvider(name="two")
    one.before, two.before = ("two",), ("one",)  # type: ignore[attr-defined]
    (fault,) = faults(lambda: assemble(plugin_of(providers=[one, two])))
    assert "cycle" in fault
    assert "one" in fault
    assert "two" in fault


def test_all_faults_are_told_at_once(assemble: Assemble) -> None:
    """An operator mends a configuration once, not fault by fault."""
    plugins = [hook("gateway_providers", [None]), plugin_of(name="two", dialects=[Pathless()])]
    assert len(faults(lambda: assemble(*plugins, required=("absent",)))) == 3
