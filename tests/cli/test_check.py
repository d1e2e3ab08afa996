"""``gatewaykit check`` names every fault with its place, all at once, and never by a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.testing import program

from .conftest import GATEWAYKIT, PATIENCE, Place

LOOP = """
    from gatewaykit import Transform, hookimpl

    class First(Transform):
        name = "first"
        before = ("second",)

    class Second(Transform):
        name = "second"
        before = ("first",)

    @hookimpl
    def gateway_transforms(gateway):
        return [First(), Second()]
"""
GOOD = """
    [server]
    port = 0

    [static_keys.keys]
    team = "gk_0123456789abcdefghij"

    [gigachat]
    credentials = "${SECRET_OF_GIGACHAT}"
"""


@dataclass(frozen=True)
class Fault:
    """A fault to plant. ``place`` is where it is reported; of the file it is the line that holds this text."""

    message: str
    place: str
    table: str = ""
    line: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    packages: tuple[tuple[str, str, str], ...] = ()


FAULTS = {
    "unknown key": Fault("server.prot: unknown key; did you mean port?", "prot = 1", "server", "prot = 1"),
    "bad type": Fault("log.access: must be true or false", "access =", "log", 'access = "perhaps"'),
    "missing secret": Fault(
        "gigachat.credentials: secret file '/nowhere/key' cannot be read: No such file or directory",
        "environment GATEWAYKIT_GIGACHAT__CREDENTIALS_FILE",
        environ={"GATEWAYKIT_GIGACHAT__CREDENTIALS_FILE": "/nowhere/key"},
    ),
    "unset variable": Fault(
        "router.default_provider: variable NOT_SET is not set", "default_p", "router", 'default_provider = "${NOT_SET}"'
    ),
    "duplicate name": Fault(
        "is provided by both left and right",
        "plugin twin",
        packages=(("left", "twin", "hooks = ()"), ("right", "twin", "hooks = ()")),
    ),
    "unknown plugin": Fault("plugins.required: 'acme' is not installed", "required", "plugins", 'required = ["acme"]'),
    "broken plugin": Fault(
        "does not load: ModuleNotFoundError: No module named 'not_there'",
        "plugin shaky",
        "shaky",
        "speed = 1",
        packages=(("shaky-plugin", "shaky", "import not_there"),),
    ),
    "order cycle": Fault(
        "before/after form a cycle: ", "plugin first, second", packages=(("loop-plugin", "loop", LOOP),)
    ),
    "port out of range": Fault("server.port: must be at most 65535 (is 70000)", "port = 7", "server", "port = 70000"),
    "unreadable file": Fault(
        "gigachat.ca_bundle_file: cannot be read: No such file or directory",
        "ca_b",
        "gigachat",
        'ca_bundle_file = "/nowhere/ca.pem"',
    ),
}


def plant(place: Place, faults: list[Fault]) -> tuple[list[str], dict[str, str]]:
    """Plant them all; the beginnings of the lines to expect, and the environment."""
    tables: dict[str, list[str]] = {}
    environ: dict[str, str] = {}
    for fault in faults:
        if fault.table:
            tables.setdefault(fault.table, []).append(fault.line)
        environ |= fault.environ
        for package in fault.packages:
            place.install(*package)
    text = "\n".join(line for name, lines in tables.items() for line in (f"[{name}]", *lines, ""))
    file = place.configure(text)
    numbers = {line: number for number, line in enumerate(text.splitlines(), 1)}
    expected = []
    for fault in faults:
        in_file = fault.line.startswith(fault.place)
        where = f"{file.name}:{numbers[fault.line]}" if in_file else fault.place
        expected.append(f"✗ {where}: {fault.message}")
    return expected, environ


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_with_its_place(place: Place, kind: str) -> None:
    """Each kind of fault, alone: exit code 1 and one line that names file and line, or section, or plugin."""
    (expected,), environ = plant(place, [FAULTS[kind]])
    done = place.run("check", environ=environ)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(expected)


def test_all_faults_are_named_at_once(place: Place) -> None:
    """Ten faults of ten kinds are ten lines of one run, each once."""
    expected, environ = plant(place, list(FAULTS.values()))
    done = place.run("check", environ=environ)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [[line for line in lines if line.startswith(start)] != [] for start in expected] == [True] * 10
    assert len(lines) == 11
    assert lines[-1] == "10 faults"


def test_faults_are_told_to_programs(place: Place) -> None:
    """`--json` gives the same faults on standard output, and nothing on standard error."""
    expected, environ = plant(place, list(FAULTS.values()))
    done = place.run("check", "--json", environ=environ)
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["ok"]) == (1, "", False)
    lines = [f"✗ {fault['where']}: {fault['message']}" for fault in told["faults"]]
    assert all(any(line.startswith(start) for line in lines) for start in expected)
    assert len(lines) == 10


def test_serve_says_the_same(place: Place) -> None:
    """`serve` refuses to start with the lines that `check` prints."""
    _, environ = plant(place, list(FAULTS.values()))
    checked, served = place.run("check", environ=environ), place.run("serve", environ=environ)
    assert (served.returncode, served.stdout, served.stderr) == (1, "", checked.stderr)


def test_what_only_follows_is_not_told(place: Place) -> None:
    """A provider that is absent because its settings have a fault is not missed by the router."""
    place.configure('[gigachat]\ncredentials = "abc"\nscoop = "x"\n\n[router]\ndefault_provider = "gigachat"\n')
    (line,) = place.run("check").stderr.splitlines()
    assert line.startswith("✗ gatewaykit.toml:3: gigachat.scoop: unknown key")


def test_a_wrong_target_is_named_with_its_line(place: Place) -> None:
    """What a plugin finds wrong with a setting is reported where the setting stands."""
    place.configure('[gigachat]\ncredentials = "abc"\n\n[router]\ndefault_provider = "gigachad"\n')
    (line,) = place.run("check").stderr.splitlines()
    assert line == "✗ gatewaykit.toml:5: router.default_provider: no provider is called 'gigachad'; there are: gigachat"


def test_two_providers_of_one_name_are_refused(place: Place) -> None:
    """An upstream that is called like another provider is a fault that names both plugins."""
    place.configure(
        '[gigachat]\ncredentials = "abc"\n\n[openai.upstreams.gigachat]\nbase_url = "http://127.0.0.1:1/v1"\n'
    )
    done = place.run("check")
    assert done.returncode == 1
    assert "the name 'gigachat' is already taken by plugin gigachat" in done.stderr


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "cannot be read: No such file or directory"),
    "syntax": (b"[server]\nport = \n", "not valid TOML: Invalid value"),
    "binary": (bytes(range(256)), "is not UTF-8 text"),
    "latin-1": ("[server]\n# é".encode("latin-1"), "is not UTF-8 text"),
    "too large": (b"#" * (1 << 20) + b"\n", "is larger than 1024 KiB"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", [("check",), ("config", "show"), ("plugins",), ("serve",)])
def test_a_bad_file_is_one_line(place: Place, kind: str, command: tuple[str, ...]) -> None:
    """A file that cannot be used is named with the reason, by every command that needs it."""
    content, problem = BAD_FILES[kind]
    file = place.folder / "my.toml"
    if content is not None:
        file.write_bytes(content)
    done = place.run(*command, "--config", str(file))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(f"✗ {file}")
    assert problem in line


def test_a_folder_is_no_file(place: Place) -> None:
    """A directory given as configuration is named."""
    done = place.run("check", "-c", str(place.folder))
    assert (done.returncode, done.stderr) == (1, f"✗ {place.folder}: cannot be read: Is a directory\n")


@pytest.mark.parametrize("kind", ["file", "secret"])
def test_a_pipe_is_no_file(place: Place, kind: str) -> None:
    """What can be read once only would be empty when it is read again, and is refused."""
    os.mkfifo(pipe := place.folder / "pipe")
    arguments, environ = (("-c", str(pipe)), {}) if kind == "file" else ((), {"GATEWAYKIT_REDIS__URL_FILE": str(pipe)})
    done = place.run("check", *arguments, environ=environ)
    assert done.returncode == 1
    assert "is a pipe, which can be read once only" in done.stderr


def test_a_broken_file_does_not_hide_the_environment(place: Place) -> None:
    """With a file that is not TOML, what is wrong with the core's variables is still told."""
    place.configure("[server\n")
    done = place.run("check", environ={"GATEWAYKIT_SERVER__PORT": "x"})
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()[:2]] == [
        "✗ gatewaykit.toml:1",
        "✗ environment GATEWAYKIT_SERVER__PORT",
    ]


def test_a_good_configuration_passes(place: Place) -> None:
    """No fault: exit code 0, the providers by name, and nothing on standard error."""
    place.configure(GOOD)
    done = place.run("check", environ={"SECRET_OF_GIGACHAT": "c2VjcmV0"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "✓ gatewaykit.toml: gigachat\n", "")


def test_variables_of_commands_are_no_settings(place: Place) -> None:
    """The key that `routes explain` takes from the environment disturbs no other command."""
    assert place.run("check", environ={"GATEWAYKIT_ADMIN_KEY": "gk_0123456789abcdefghij"}).returncode == 0


def test_no_key_can_be_made_where_none_is_looked_at(place: Place) -> None:
    """`serve` would refuse to make a key for the run if static-keys is blocked: `check` says the same."""
    place.configure('[plugins]\nblocked = ["static-keys"]\n')
    checked, served = place.run("check"), place.run("serve", "--port", "0")
    assert (checked.returncode, served.returncode) == (1, 1)
    fault = "✗ plugins: static-keys is blocked, and no other plugin says who may call\n"
    assert (checked.stderr, served.stderr) == (fault, fault)


def test_what_is_no_fault_is_noted(place: Place) -> None:
    """Without provider and keys all is well, with a note for each; risky settings are noted too."""
    done = place.run("check")
    assert done.returncode == 0
    assert [line[0] for line in done.stdout.splitlines()] == ["✓", "–", "–"]
    place.configure('[gigachat]\ncredentials = "abc"\nverify_tls = false\n')
    done = place.run("check", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["ok"], told["providers"]) == (0, "", True, ["gigachat"])
    assert any("verify_tls is off" in note for note in told["notes"])


def test_keys_are_needed_where_others_can_come(place: Place) -> None:
    """An address that other machines reach is refused without keys, in words, at the line that sets it."""
    place.configure('[server]\nhost = "0.0.0.0"\n')
    done = place.run("check")
    assert done.returncode == 1
    assert done.stderr.startswith("✗ gatewaykit.toml:2: server.host: 0.0.0.0 can be reached from other machines")
    assert "server.allow_anonymous = true" in done.stderr


def test_a_certificate_must_be_one(place: Place) -> None:
    """A file that is no certificate is found before anything is served."""
    file = place.configure("hello", "cert.pem")
    place.configure(f'[server]\ntls_certfile = "{file}"\n')
    done = place.run("check")
    assert done.returncode == 1
    assert done.stderr.startswith("✗ gatewaykit.toml:2: server.tls_certfile: certificate and key cannot be used: ")


@pytest.mark.parametrize("command", [("--help",), ("config", "show", "--all"), ("plugins",), ("check",), ("version",)])
def test_a_closed_pipe_is_no_drama(place: Place, command: tuple[str, ...]) -> None:
    """When nobody reads the output any more, the command ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [GATEWAYKIT, *command],
            cwd=place.folder,
            env=place.environ(),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    assert done.stderr == b""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "koi8-r", "cp1251"])
def test_any_encoding_of_the_terminal_will_do(place: Place, encoding: str) -> None:
    """Marks that the encoding lacks are replaced by plain ones, for good news and bad."""
    file = place.configure("[sërver]\n")
    for arguments in (("plugins",), ("check",), ("-h",), ("check", "--config", str(file)), ("check", "--json")):
        done = program.run(*arguments, folder=Path("/"), environ=place.environ({"PYTHONIOENCODING": encoding}))
        assert "Traceback" not in done.stderr
        assert done.returncode == (1 if "--config" in arguments else 0)
        assert done.stdout or done.stderr
