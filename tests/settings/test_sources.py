"""Where values may come from: file, environment, secret files, systemd credentials, command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from gatewaykit.settings import CORE_SECTIONS, Section, ServerSettings, Settings, Table, describe, find_config

Load = Callable[..., Settings]
Faults = Callable[..., list[str]]

UPSTREAM = '[acme.upstreams.{}]\nbase_url = "http://a"\n'


class Twig(Table):
    size: int = 0
    down: dict[str, Twig] = Field(default_factory=dict)


class TreeSection(Section):
    section = "tree"
    root: Twig = Twig()


def acme(settings: Settings) -> Any:
    return settings["acme"]


def test_without_any_source_the_defaults_are_in_force(load: Load) -> None:
    """No file and no variable: the gateway listens on the local address only, and asks for keys."""
    settings = load()
    assert (settings.server.host, settings.server.port, settings.server.allow_anonymous) == ("127.0.0.1", 8080, False)
    assert (settings.timeouts.hook, settings.log.level, settings.plugins.blocked) == (1.0, "info", ())
    assert set(settings.origins.values()) == {"default"}


def test_every_value_of_the_file_reaches_its_field(load: Load) -> None:
    """Scalars, lists, tables with free keys and tables of tables."""
    section = acme(
        load(
            'acme.token = "t"\nacme.weights = [1, 2]\nacme.labels = {a = "b"}\n'
            + UPSTREAM.format('"x.y"')
            + 'headers.h = "v"\n[[acme.clients]]\nname = "n"\nkey = "k"\n'
        )
    )
    assert section.token.get_secret_value() == "t"
    assert section.weights == (1, 2)
    assert section.labels == {"a": "b"}
    assert section.upstreams["x.y"].headers["h"].get_secret_value() == "v"
    assert section.clients[0].key.get_secret_value() == "k"


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(load: Load) -> None:
    """What an editor of another system writes is the same file."""
    assert load('\ufeff[acme]\r\nnote = "n"\r\n').origins["acme.note"].endswith("gatewaykit.toml:2")


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("GATEWAYKIT_ACME__RETRIES", "5", "retries", 5),
        ("gatewaykit_acme__retries", " 5 ", "retries", 5),
        ("GATEWAYKIT_ACME__DEBUG", "Yes", "debug", True),
        ("GATEWAYKIT_ACME__DEBUG", "0", "debug", False),
        ("GATEWAYKIT_ACME__LIMIT", "", "limit", None),
        ("GATEWAYKIT_ACME__NOTE", "", "note", ""),
        ("GATEWAYKIT_ACME__NOTE", "7", "note", "7"),
        ("GATEWAYKIT_ACME__NOTE", "${HOME}", "note", "${HOME}"),
        ("GATEWAYKIT_ACME__SIZE", "7", "size", 7),
        ("GATEWAYKIT_ACME__SIZE", "big", "size", "big"),
        ("GATEWAYKIT_ACME__WEIGHTS", "1, 2,", "weights", (1, 2)),
        ("GATEWAYKIT_ACME__WEIGHTS", "[1, 2]", "weights", (1, 2)),
        ("GATEWAYKIT_ACME__WEIGHTS", "", "weights", ()),
        ("GATEWAYKIT_ACME__LABELS", '{"A": "1"}', "labels", {"A": "1"}),
        ("GATEWAYKIT_ACME__LABELS__A", "1", "labels", {"a": "1"}),
        ("GATEWAYKIT_ACME__LABELS__X_FILE", "/x", "labels", {"x_file": "/x"}),
        ("GATEWAYKIT_ACME__CA_FILE", "/no/such", "ca_file", "/no/such"),
        ("ACME_CA_FILE", "/no/such", "ca_file", "/no/such"),
        ("ACME_DEBUG", "true", "debug", True),
        ("ACME_DEBUG", "", "debug", False),
    ],
)
def test_a_variable_is_read_as_its_field_expects(load: Load, name: str, text: str, field: str, value: object) -> None:
    """Numbers, truth values, lists and tables are written as people write them."""
    assert getattr(acme(load(environ={name: text})), field) == value


def test_a_variable_creates_or_completes_an_entry_of_a_table(load: Load) -> None:
    """An entry may come from variables alone; the file's spelling of its key counts if it has one."""
    environ = {
        "GATEWAYKIT_ACME__UPSTREAMS__NEW__BASE_URL": "https://new",
        "GATEWAYKIT_ACME__UPSTREAMS__MY_OLD__API_KEY": "k",
        "GATEWAYKIT_ACME__UPSTREAMS__MY_OLD__MODELS": "m,n",
    }
    settings = load(UPSTREAM.format("My-Old"), environ)
    upstreams = acme(settings).upstreams
    assert list(upstreams) == ["My-Old", "new"]
    assert (upstreams["My-Old"].base_url, upstreams["My-Old"].models) == ("http://a", ("m", "n"))
    assert upstreams["My-Old"].api_key.get_secret_value() == "k"
    assert settings.origins["acme.upstreams.My-Old.models"] == "environment GATEWAYKIT_ACME__UPSTREAMS__MY_OLD__MODELS"


def test_a_deeper_variable_completes_the_json_of_a_shallower_one(load: Load) -> None:
    """A table given as JSON and one of its keys given apart are joined."""
    environ = {
        "GATEWAYKIT_ACME__UPSTREAMS": json.dumps({"main": {"base_url": "http://j", "timeout": 5}}),
        "GATEWAYKIT_ACME__UPSTREAMS__MAIN__TIMEOUT": "7",
    }
    assert acme(load(environ=environ)).upstreams["main"].timeout == 7.0


def test_lists_are_replaced_whole_and_tables_joined(load: Load) -> None:
    """A stronger source replaces a list, and adds to a table."""
    environ = {"GATEWAYKIT_ACME__WEIGHTS": "3", "GATEWAYKIT_ACME__LABELS__B": "2"}
    section = acme(load('[acme]\nweights = [1, 2]\nlabels = {a = "1"}', environ))
    assert (section.weights, section.labels) == ((3,), {"a": "1", "b": "2"})


SOURCES = ("file", "credential", "other file", "own file", "other", "own", "command line")


@pytest.fixture(scope="session")
def secret_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "gatewaykit.acme.token").write_text("from-credential\n")
    (folder / "other").write_text("from-other-file")
    (folder / "own").write_text("from-own-file\r\n")
    return folder


@given(used=st.sets(st.sampled_from(SOURCES)))
def test_of_all_sources_of_a_value_the_strongest_counts(load: Load, secret_folder: Path, used: set[str]) -> None:
    """Command line, GATEWAYKIT_ name, declared name, secret files, file, default; and the origin tells which it was."""
    environ = {
        "credential": ("CREDENTIALS_DIRECTORY", str(secret_folder)),
        "other file": ("ACME_TOKEN_FILE", str(secret_folder / "other")),
        "own file": ("GATEWAYKIT_ACME__TOKEN_FILE", str(secret_folder / "own")),
        "other": ("ACME_TOKEN", "from-other"),
        "own": ("GATEWAYKIT_ACME__TOKEN", "from-own"),
    }
    settings = load(
        '[acme]\ntoken = "from-file"' if "file" in used else "",
        dict(environ[source] for source in used & set(environ)),
        overrides={"acme.token": "from-command-line" if "command line" in used else None},
    )
    strongest = max(used, key=SOURCES.index, default=None)
    token = acme(settings).token
    assert (token and token.get_secret_value()) == (strongest and "from-" + strongest.replace(" ", "-"))
    origins = {
        "file": ".toml:2",
        "credential": f"secret file {secret_folder}/gatewaykit.acme.token",
        "other file": f"secret file {secret_folder}/other",
        "own file": f"secret file {secret_folder}/own",
        "other": "environment ACME_TOKEN",
        "own": "environment GATEWAYKIT_ACME__TOKEN",
        "command line": "command line",
        None: "default",
    }
    assert settings.origins["acme.token"].endswith(origins[strongest])


def test_any_field_may_be_given_by_a_file(load: Load, tmp_path: Path) -> None:
    """Numbers, lists and entries of tables of secrets too."""
    (tmp_path / "number").write_text("7\n")
    (tmp_path / "list").write_text("1\n2\n")
    (tmp_path / "header").write_text("secret value")
    environ = {
        "GATEWAYKIT_ACME__RETRIES_FILE": str(tmp_path / "number"),
        "GATEWAYKIT_ACME__WEIGHTS_FILE": str(tmp_path / "list"),
        "GATEWAYKIT_ACME__UPSTREAMS__MAIN__BASE_URL": "http://a",
        "GATEWAYKIT_ACME__UPSTREAMS__MAIN__HEADERS__H_FILE": str(tmp_path / "header"),
    }
    section = acme(load(environ=environ))
    assert (section.retries, section.weights) == (7, (1, 2))
    assert section.upstreams["main"].headers["h"].get_secret_value() == "secret value"


def test_credentials_of_systemd_reach_nested_fields(load: Load, tmp_path: Path) -> None:
    """The file's name is the dotted path; files of others in the directory are passed over."""
    (tmp_path / "gatewaykit.acme.upstreams.main.api_key").write_text("k")
    (tmp_path / "postgres.password").write_text("other")
    section = acme(load(UPSTREAM.format("main"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    assert section.upstreams["main"].api_key.get_secret_value() == "k"


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ('note = "a ${WORD} b ${WORD}"', "note", "a w b w"),
        ('note = "$${WORD} $ {} ${WORD}"', "note", "${WORD} $ {} w"),
        ('note = "${EMPTY}"', "note", ""),
        ('note = "${NESTED}"', "note", "${WORD}"),
        ('retries = "${NUMBER}"', "retries", 3),
        ('labels = {"${WORD}" = "${WORD}"}', "labels", {"${WORD}": "w"}),
        ('weights = ["${NUMBER}", 1]', "weights", (3, 1)),
    ],
)
def test_the_file_may_refer_to_variables(load: Load, written: str, field: str, value: object) -> None:
    """In any string value, whole or inside, once; `$${` stands for itself, and keys are left alone."""
    environ = {"WORD": "w", "EMPTY": "", "NESTED": "${WORD}", "NUMBER": "3"}
    assert getattr(acme(load(f"[acme]\n{written}", environ)), field) == value


def test_the_command_line_may_give_paths_and_secrets(load: Load) -> None:
    """Options come as Python objects; a secret one is shown nowhere, whatever the field."""
    options = {"acme.ca_file": Path("/a"), "acme.token": SecretStr("s"), "acme.note": SecretStr("t")}
    settings = load(overrides=options)
    section = acme(settings)
    assert (section.ca_file, section.token.get_secret_value(), section.note) == ("/a", "s", "t")
    assert {row.value for row in describe(settings) if row.path in {"acme.token", "acme.note"}} == {"********"}


def test_dates_of_the_file_reach_fields_that_want_them(load: Load) -> None:
    """TOML knows dates, and so may a plugin's model."""

    class Dated(Section):
        section = "dated"
        day: date
        moment: datetime

    dated: Any = load("[dated]\nday = 2026-01-31\nmoment = 2026-01-31 10:00:00Z", sections={"p": [Dated]})["dated"]
    assert (dated.day, dated.moment) == (date(2026, 1, 31), datetime(2026, 1, 31, 10, tzinfo=UTC))


def test_a_declared_name_with_file_means_the_field_of_that_name_if_there_is_one(load: Load) -> None:
    """`X_FILE` names a secret file only for want of a field that ends so."""

    class Pair(Section):
        section = "pair"
        environment: ClassVar[Mapping[str, str]] = {"PAIR_CERT": "cert"}
        cert: str = ""
        cert_file: str = ""

    for name in ("PAIR_CERT_FILE", "GATEWAYKIT_PAIR__CERT_FILE"):
        pair: Any = load(environ={name: "/no/such"}, sections={"p": [Pair]})["pair"]
        assert (pair.cert, pair.cert_file) == ("", "/no/such")


def test_shapes_that_contain_themselves_are_read_and_shown(load: Load) -> None:
    """A table may hold tables of its own kind; without secrets inside its values are shown, and repeated in faults."""
    settings = load(environ={"GATEWAYKIT_TREE__ROOT__DOWN__A__DOWN__B__SIZE": "3"}, sections={"p": [TreeSection]})
    rows = {row.path: row.value for row in describe(settings)}
    assert rows["tree.root.down.a.down.b.size"] == "3"


def test_a_replaced_value_needs_no_variable(load: Load) -> None:
    """A reference in the file is not looked up if a stronger source gives the value."""
    assert acme(load('[acme]\nnote = "${UNSET}"', {"GATEWAYKIT_ACME__NOTE": "n"})).note == "n"


def test_of_two_declared_names_for_one_field_the_first_counts(load: Load) -> None:
    """A plugin lists the names that it honours in order of strength."""

    class Two(Section):
        section = "two"
        environment: ClassVar[Mapping[str, str]] = {"FIRST": "x", "SECOND": "x"}
        x: str = ""

    sections = {"p": [Two]}
    both: Any = load(environ={"SECOND": "2", "FIRST": "1"}, sections=sections)["two"]
    one: Any = load(environ={"SECOND": "2", "FIRST": ""}, sections=sections)["two"]
    assert (both.x, one.x) == ("1", "2")


def test_the_names_that_kubernetes_adds_are_passed_over(load: Load) -> None:
    """A service called gatewaykit puts its addresses into every container; they are no settings."""
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_80_TCP", "PORT_80_TCP_ADDR", "WEB_SERVICE_HOST")
    environ = {f"GATEWAYKIT_{name}": "10.0.0.1" for name in names} | {"GATEWAYKIT_PORT": "tcp://10.0.0.1:80"}
    assert load(environ=environ).configured == frozenset()


def test_the_config_file_is_found_by_option_then_variable_then_folder(tmp_path: Path) -> None:
    """An explicit name wins even if there is no such file, so that the mistake is reported."""
    environ = {"GATEWAYKIT_CONFIG": "/from/variable"}
    assert find_config(None, {}, tmp_path) is None
    (tmp_path / "gatewaykit.toml").touch()
    assert find_config(None, {}, tmp_path) == tmp_path / "gatewaykit.toml"
    assert find_config(None, environ, tmp_path) == Path("/from/variable")
    assert find_config(Path("/from/option"), environ, tmp_path) == Path("/from/option")


def test_a_credential_of_an_ignored_section_is_passed_over(load: Load, tmp_path: Path) -> None:
    """Blocking a plugin does not make its secret a fault."""
    (tmp_path / "gatewaykit.later.key").write_text("k")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(environ=environ, ignored=["later"]).configured == {"later"}


def test_a_partial_load_passes_over_what_it_does_not_know(load: Load, faults: Faults) -> None:
    """`[plugins]` can be read before the plugins are known; a section that is spoken of counts as configured."""
    text, environ = '[plugins]\nblocked = ["b"]\n[later]\nx = 1', {"GATEWAYKIT_SOON__X": "1"}
    options: dict[str, Any] = {"sections": {"gatewaykit": CORE_SECTIONS}}
    settings = load(text, environ, partial=True, **options)
    assert settings.plugins.blocked == ("b",)
    assert settings.configured == {"plugins", "later", "soon"}
    assert len(faults(text, environ, **options)) == 2
    assert load(text, environ, ignored=("later", "soon"), **options).configured == {"plugins", "later", "soon"}
    assert faults("[plugins]\nblockt = []", partial=True)[0].startswith(
        "gatewaykit.toml:2: plugins.blockt: unknown key"
    )


def test_settings_are_found_by_name_and_by_class(load: Load) -> None:
    """Both ways lead to one object; a class that was not declared is a KeyError."""

    class Other(Section):
        section = "server"

    settings = load()
    assert settings.get(ServerSettings) is settings["server"] is settings.server
    with pytest.raises(KeyError, match="Other"):
        settings.get(Other)


def test_every_row_of_the_listing_has_path_value_and_origin(load: Load) -> None:
    """Tables are listed key by key, in the order of the models; None is `unset`, text is quoted."""
    settings = load(UPSTREAM.format('"a b"'), {"ACME_RETRIES": "3"}, overrides={"server.port": 9})
    rows = {row.path: (row.value, row.origin) for row in describe(settings)}
    assert list(rows) == list(settings.origins)
    assert rows["server.port"] == ("9", "command line")
    assert rows["acme.retries"] == ("3", "environment ACME_RETRIES")
    assert rows["acme.limit"] == ("unset", "default")
    assert rows["acme.size"] == ('"auto"', "default")
    assert rows['acme.upstreams."a b".base_url'][0] == '"http://a"'
    assert rows['acme.upstreams."a b".base_url'][1].endswith("gatewaykit.toml:2")
    assert rows['acme.upstreams."a b".timeout'] == ("60.0", "default")
