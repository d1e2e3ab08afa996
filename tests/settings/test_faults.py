"""What is said of a configuration that is wrong: every fault, in words, at its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.settings import CORE_SECTIONS, Section, Settings, Table, load_settings

Load = Callable[..., Settings]
Faults = Callable[..., list[str]]

MAIN = '[acme.upstreams.main]\nbase_url = "http://a"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[server]\n\nport = 70000", "3: server.port: must be at most 65535 (is 70000)"),
        ("[server]\nport = -1", "2: server.port: must be at least 0 (is -1)"),
        ('[server]\nport = "8080"', "2: server.port: must be a whole number (is '8080')"),
        ("[server]\nport = true", "2: server.port: must be a whole number (is true)"),
        ("[server]\nport = 1.0", "2: server.port: must be a whole number (is 1.0)"),
        ("[server]\nport = [1]", "2: server.port: must be a whole number"),
        ("[server]\nprot = 1", "2: server.prot: unknown key; did you mean port?"),
        ('[server]\nroot_path = "llm"', "2: server.root_path: must match ^(/[!-~]*[!-.0-~])?$ (is 'llm')"),
        ('[server]\nroot_path = "/ж"', "2: server.root_path: must match ^(/[!-~]*[!-.0-~])?$ (is '/ж')"),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "2: server.trusted_proxies: must be addresses or networks, or "
         "'*' alone: 10.0.0.1/8 has host bits set"),
        ('[server]\ntrusted_proxies = ["*", "::1"]', "2: server.trusted_proxies: must be addresses or networks, or "
         "'*' alone: '*' does not appear to be an IPv4 or IPv6 network"),
        ("[servre]\nport = 1", "1: unknown section [servre]; did you mean [server]?"),
        ("port = 1", "1: port: stands outside of any section; did you mean server.port?"),
        ("server = 1", "1: server: must be a table"),
        ("[[server]]\nport = 1", "1: server: must be a table"),
        ("[timeouts]\nhook = 0", "2: timeouts.hook: must be more than 0.0 (is 0)"),
        ("[timeouts]\nhook = inf", "2: timeouts.hook: must be a finite number (is inf)"),
        ("[timeouts]\nhook = nan", "2: timeouts.hook: must be a finite number (is nan)"),
        ('[log]\naccess = "yes"', "2: log.access: must be true or false (is 'yes')"),
        ('[log]\nlevel = "loud"', "2: log.level: must be 'debug', 'info', 'warning' or 'error' (is 'loud')"),
        ('[plugins]\nblocked = "a"', "2: plugins.blocked: must be a list (is 'a')"),
        ('[plugins]\nblocked = [\n"a",\n1]', "4: plugins.blocked[1]: must be text (is 1)"),
        ('[plugins]\nblocked = ["a"]\nrequired = ["a"]', "1: plugins: both required and blocked: a"),
        ('[server]\ntls_certfile = "/no/such"',
         "2: server.tls_certfile: cannot be read: No such file or directory (is '/no/such')"),
        ('[server]\ntls_certfile = "/"', "2: server.tls_certfile: cannot be read: Is a directory (is '/')"),
        ("[acme]\nsize = 1.5", "2: acme.size: must be a whole number or must be text (is 1.5)"),
        ("[acme.labels]\na = 1", "2: acme.labels.a: must be text (is 1)"),
        ("[acme]\nupstreams.main = {}", "2: acme.upstreams.main.base_url: is missing"),
        ("[acme.upstreams.main]", "1: acme.upstreams.main.base_url: is missing"),
        (MAIN + "time_out = 1", "3: acme.upstreams.main.time_out: unknown key; did you mean timeout?"),
        (MAIN + '"a\\nb" = 1', '3: acme.upstreams.main."a\\nb": unknown key; '
         "known are api_key, base_url, headers, models, timeout"),
        ('[[acme.clients]]\nname = "a"', "1: acme.clients[0].key: is missing"),
        ('[acme]\nnote = "${NO_SUCH}"', "2: acme.note: variable NO_SUCH is not set"),
        ('[acme]\nretries = "${NO_SUCH}"', "2: acme.retries: variable NO_SUCH is not set"),
        ('[plugins]\nblocked = [\n  "${NO_SUCH}"]', "3: plugins.blocked[0]: variable NO_SUCH is not set"),
        ('[acme]\nnote = "a${b"', "2: acme.note: '${' needs a variable's name and '}'; "
         "for the text '${' itself write '$${'"),
        ("[acme]\nnote =", "2: not valid TOML: Invalid value, at the end of the file"),
        ("[acme]\n\nnote = nope\n", "3: not valid TOML: Invalid value"),
        ("a = 1\na = 2", "2: not valid TOML: Cannot overwrite a value, at the end of the file"),
    ],
)  # fmt: skip
def test_a_fault_in_the_file_names_its_line_and_what_is_right(faults: Faults, text: str, fault: str) -> None:
    """One planted fault gives exactly one fault, with file, line, key and advice."""
    assert faults(text) == [f"gatewaykit.toml:{fault}"]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("GATEWAYKIT_SERVER__PORT", "70000", "server.port: must be at most 65535 (is 70000)"),
        ("GATEWAYKIT_SERVER__PORT", "many", "server.port: must be a whole number (is 'many')"),
        ("GATEWAYKIT_SERVER__PORT", "", "server.port: must be a whole number (is '')"),
        ("GATEWAYKIT_SERVER__PROT", "1", "unknown variable; did you mean GATEWAYKIT_SERVER__PORT?"),
        ("GATEWAYKIT_SERVER_PORT", "1", "unknown variable; did you mean GATEWAYKIT_SERVER__PORT?"),
        ("GATEWAYKIT_PORT", "1", "unknown variable; did you mean GATEWAYKIT_SERVER__PORT?"),
        ("GATEWAYKIT_ZZZ", "1", "unknown variable"),
        ("GATEWAYKIT_SERVER__PORT__X", "1", "unknown variable; did you mean GATEWAYKIT_SERVER__PORT?"),
        ("GATEWAYKIT_CONFGI", "x", "unknown variable; did you mean GATEWAYKIT_CONFIG?"),
        ("GATEWAYKIT_", "x", "unknown variable"),
        ("GATEWAYKIT_ACME__UPSTREAMS__M__TIME_OUT", "1",
         "unknown variable; did you mean GATEWAYKIT_ACME__UPSTREAMS__M__TIMEOUT?"),
        ("GATEWAYKIT_ACME__UPSTREAMS__M__TIMEOUT", "1", "acme.upstreams.m.base_url: is missing"),
        ("GATEWAYKIT_ACME__LABELS", "{", "acme.labels: must be a table (is '{')"),
        ("GATEWAYKIT_ACME__LABELS", '{"a": ' + "[" * 40 + "]" * 40 + "}", None),
        ("GATEWAYKIT_ACME__NOTE", "\udcff", "acme.note: is not valid text"),
        ("ACME_RETRIES", "10", "acme.retries: must be at most 9 (is 10)"),
        ("ACME_DEBUG", "maybe", "acme.debug: must be true or false (is 'maybe')"),
        ("GATEWAYKIT_ACME__TOKEN_FILE", "", "acme.token: names no file"),
        ("GATEWAYKIT_ACME__TOKEN_FILE", "/", "acme.token: secret file '/' cannot be read: Is a directory"),
        ("ACME_TOKEN_FILE", "/no/such", "acme.token: secret file '/no/such' cannot be read: No such file or directory"),
        ("CREDENTIALS_DIRECTORY", "/no/such", "cannot list '/no/such': No such file or directory"),
    ],
)  # fmt: skip
def test_a_fault_in_the_environment_names_the_variable(faults: Faults, name: str, text: str, fault: str | None) -> None:
    """One planted fault gives exactly one fault, with the variable, the key and advice."""
    (found,) = faults(environ={name: text})
    assert found.startswith(f"environment {name}: ")
    assert fault is None or found == f"environment {name}: {fault}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (64 * 1024 + 1), "is larger than 64 KiB"),
    ],
)
def test_a_secret_file_that_is_of_no_use_is_refused(
    faults: Faults, tmp_path: Path, content: bytes, problem: str
) -> None:
    """By variable or as systemd credential, the fault names file and source, and is the only one."""
    file = tmp_path / "gatewaykit.acme.token"
    file.write_bytes(content)
    said = f"acme.token: secret file {str(file)!r} {problem}"
    assert faults(environ={"ACME_TOKEN_FILE": str(file)}) == [f"environment ACME_TOKEN_FILE: {said}"]
    assert faults(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [f"secret file {file}: {said}"]


def test_a_secret_file_of_the_largest_size_is_read(load: Load, tmp_path: Path) -> None:
    """64 KiB is allowed."""
    (tmp_path / "s").write_bytes(b"x" * 64 * 1024)
    section: Any = load(environ={"ACME_TOKEN_FILE": str(tmp_path / "s")})["acme"]
    assert len(section.token.get_secret_value()) == 64 * 1024


def test_a_credential_for_no_setting_is_refused(faults: Faults, tmp_path: Path) -> None:
    """A misspelt file name in the credentials directory is a fault, not a silence."""
    (tmp_path / "gatewaykit.acme.tokn").write_text("x")
    assert faults(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
        f"secret file {tmp_path}/gatewaykit.acme.tokn: there is no such setting"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, ": cannot be read: No such file or directory"),
        (b"x = 1\n# \xff", ":2: is not UTF-8 text"),
        (b"x = " + b"9" * 5000, ": not valid TOML: a value is out of range"),
        (b"x = " + b"[" * 5000, ": tables and arrays are nested too deeply"),
        (b"x = " + b"[" * 40 + b"]" * 40, ": tables and arrays are nested too deeply"),
        (b"#" * (1024 * 1024 + 1), ": is larger than 1024 KiB"),
        (b"x = 1\rport = 2", ":1: not valid TOML: Expected newline or end of document after a statement"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """Missing, too large, too deep, not text or not TOML: one fault that names the file."""
    file = tmp_path / "a.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings({"gatewaykit": CORE_SECTIONS}, file=file, environ={})
    assert str(caught.value) == f"{file}{fault}"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A directory given as configuration file is one fault."""
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings({"gatewaykit": CORE_SECTIONS}, file=tmp_path, environ={})


def outcome(file: Path | None, environ: Mapping[str, str]) -> Sequence[ConfigFault]:
    """The faults of a configuration of the core, which may have none; anything else that is raised fails the test."""
    try:
        load_settings({"gatewaykit": CORE_SECTIONS}, file=file, environ=environ)
    except ConfigError as error:
        return error.faults
    return ()


@given(st.binary(max_size=60) | st.text("[]{}=.\"'\\#\n\r\t ax1${}", max_size=40).map(str.encode))
def test_no_content_of_the_file_ends_in_anything_but_settings_or_faults(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever bytes stand in the file, the answer is settings or a ConfigError with a place in each fault."""
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    found = outcome(file, {})
    assert all(fault.where.startswith(str(file)) for fault in found)


@given(st.dictionaries(st.text("_ABCDEMRSTVXP", max_size=12).map("GATEWAYKIT_X{}".format), st.text(max_size=6)))
def test_no_environment_ends_in_anything_but_settings_or_faults(environ: dict[str, str]) -> None:
    """Whatever variables there are that are no setting, each is a fault that names it, and nothing else is raised."""
    assert {fault.where for fault in outcome(None, environ)} == {f"environment {name}" for name in environ}


def test_all_faults_of_all_sources_are_found_at_once(faults: Faults) -> None:
    """Nobody repairs a configuration one fault at a time."""
    text = '[server]\nport = 70000\nprot = 1\n[log]\nlevel = 1\n[nope]\n[acme]\nnote = "${NO_SUCH}"\nretries = 10'
    environ = {"GATEWAYKIT_NOPE": "1", "ACME_TOKEN_FILE": "/no/such", "GATEWAYKIT_SERVER__WORKERS": "0"}
    found = faults(text, environ, overrides={"timeouts.hook": -1})
    assert {fault.split(": ")[0] for fault in found} == {
        "gatewaykit.toml:2", "gatewaykit.toml:3", "gatewaykit.toml:5", "gatewaykit.toml:6", "gatewaykit.toml:8",
        "gatewaykit.toml:9", "environment GATEWAYKIT_NOPE", "environment ACME_TOKEN_FILE",
        "environment GATEWAYKIT_SERVER__WORKERS", "command line",
    }  # fmt: skip
    assert len(found) == 10


def test_a_fault_of_the_command_line_says_so(faults: Faults) -> None:
    """Options are checked like everything else."""
    assert faults(overrides={"server.port": 70000}) == ["command line: server.port: must be at most 65535 (is 70000)"]
    assert faults(overrides={"no.such": 1})[0].startswith("command line: unknown section [no]")


def test_two_spellings_of_one_variable_are_refused(faults: Faults) -> None:
    """Which of them would count depends on nothing that the operator can see."""
    environ = {"GATEWAYKIT_SERVER__PORT": "1", "gatewaykit_server__port": "2"}
    assert faults(environ=environ) == [
        "environment gatewaykit_server__port: server.port: given a second time, also as GATEWAYKIT_SERVER__PORT"
    ]


def test_a_missing_value_without_any_source_names_the_section(faults: Faults) -> None:
    """A required field of a section that nobody speaks of; after a file that could not be read nothing is missing."""

    class Needy(Section):
        section = "needy"
        key: str

    assert faults(sections={"p": [Needy]}) == ["section [needy]: needy.key: is missing"]
    assert faults("[needy]\nkey = ", {"GATEWAYKIT_X": ""}, sections={"p": [Needy]}) == [
        "gatewaykit.toml:2: not valid TOML: Invalid value, at the end of the file",
        "environment GATEWAYKIT_X: unknown variable",
    ]


def test_a_section_belongs_to_one_plugin(faults: Faults) -> None:
    """Two plugins with one section name: the fault names section and both plugins."""

    class Mine(Section):
        section = "server"

    found = faults(sections={"gatewaykit": CORE_SECTIONS, "thief": [Mine]})
    assert found == ["plugin thief: section [server] already belongs to plugin gatewaykit"]


def test_a_badly_declared_section_names_its_plugin(faults: Faults) -> None:
    """No name, a name that no variable could spell, or a variable for a field that is not there."""

    class Nameless(Section):
        pass

    class Odd(Section):
        section = "a__b"

    class Lost(Section):
        section = "lost"
        environment: ClassVar[Mapping[str, str]] = {"LOST_KEY": "kye"}
        key: str = ""

    assert faults(sections={"p": [Nameless, Odd, Lost]}) == [
        "plugin p: Nameless has no valid section name",
        "plugin p: Odd has no valid section name",
        "plugin p: section [lost] has no field kye for variable LOST_KEY",
    ]


def test_a_validator_that_breaks_is_a_fault_and_no_traceback(faults: Faults) -> None:
    """A defect in a plugin's validator names the section."""

    class Broken(Section):
        section = "broken"

        @model_validator(mode="after")
        def _breaks(self) -> Broken:
            raise LookupError("secret")

    assert faults("[broken]", sections={"p": [Broken]}) == [
        "gatewaykit.toml:1: [broken]: its validation broke with LookupError"
    ]


def test_a_fault_in_a_table_without_secrets_repeats_the_value(faults: Faults) -> None:
    """Also where tables hold tables of their own kind."""

    class Twig(Table):
        size: int = 0
        down: dict[str, Twig] = Field(default_factory=dict)

    Twig.model_rebuild(_types_namespace={"Twig": Twig})

    class Tree(Section):
        section = "tree"
        root: Twig = Twig()

    assert faults("[tree.root.down.a]\nsize = 'x'", sections={"p": [Tree]}) == [
        "gatewaykit.toml:2: tree.root.down.a.size: must be a whole number (is 'x')"
    ]


def test_names_that_cannot_be_printed_are_escaped(faults: Faults) -> None:
    """A variable's name with control characters or broken bytes does not reach the terminal as it is."""
    assert faults(environ={"GATEWAYKIT_\x1b[2J\udcff": "1"}) == [
        "environment GATEWAYKIT_\\x1b[2J\\udcff: unknown variable"
    ]


def test_a_key_of_the_certificate_needs_the_certificate(faults: Faults) -> None:
    """A private key alone would be passed over in silence."""
    assert faults(environ={"GATEWAYKIT_SERVER__TLS_KEYFILE": __file__}) == [
        "environment GATEWAYKIT_SERVER__TLS_KEYFILE: server: tls_keyfile and tls_keyfile_password need tls_certfile"
    ]
