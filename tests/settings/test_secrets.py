"""No secret in any message, repr or listing."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, model_validator

from gatewaykit.errors import ConfigError
from gatewaykit.settings import Section, ServerSettings, Settings, describe

Load = Callable[..., Settings]

CANARY = "c4n4ry\"'\\-Zq8"
QUOTED = json.dumps(CANARY)

BAD: dict[str, tuple[str, dict[str, str]]] = {
    "author's message": (f'[acme]\ntoken = {json.dumps(CANARY + " x")}', {}),
    "author's message, variable": ("", {"ACME_TOKEN": CANARY + " x"}),
    "list for a secret": (f"[acme]\ntoken = [{QUOTED}]", {}),
    "table for a secret": (f"[acme]\ntoken.x = {QUOTED}", {}),
    "number for a secret": ("[acme]\ntoken = 48151623", {}),
    "text for a table of secrets": (f"[acme]\nupstreams = {QUOTED}", {}),
    "text for one table": (f"[acme]\nupstreams.main = {QUOTED}", {}),
    "list in a table of secrets": (f"[acme.upstreams.main]\nheaders.x = [{QUOTED}]", {}),
    "text for a list of tables": (f"[acme]\nclients = {QUOTED}", {}),
    "half a client": (f"[[acme.clients]]\nkey = {QUOTED}", {}),
    "unknown key": (f"[acme]\ntokn = {QUOTED}", {}),
    "unknown section": (f"[acm]\ntoken = {QUOTED}", {}),
    "outside of any section": (f"token = {QUOTED}", {}),
    "not TOML": (f"[acme]\ntoken = {QUOTED} {QUOTED}", {}),
    "reference without end": (f'[acme]\ntoken = {json.dumps("${" + CANARY)}', {}),
    "by reference, wrong type": ('[acme]\nretries = "${SECRET}"', {"SECRET": CANARY}),
    "by reference, wrong in part": ('[acme.upstreams.main]\nbase_url = "x:${SECRET}"', {"SECRET": CANARY}),
    "broken JSON": ("", {"GATEWAYKIT_ACME__UPSTREAMS": '{"main": {"api_key": ' + QUOTED}),
    "JSON of the wrong shape": ("", {"GATEWAYKIT_ACME__UPSTREAMS": f'{{"main": {QUOTED}}}'}),
    "unknown variable": ("", {"GATEWAYKIT_ACME__TOKN": CANARY}),
    "bytes that are no text": ("", {"ACME_TOKEN": CANARY + "\udcff"}),
    "wrong type from a secret file": ("", {"GATEWAYKIT_ACME__RETRIES_FILE": "{folder}/secret"}),
    "wrong text from a secret file": ("", {"GATEWAYKIT_ACME__UPSTREAMS__M__BASE_URL_FILE": "{folder}/secret"}),
    "no such credential": ("", {"CREDENTIALS_DIRECTORY": "{folder}"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_no_fault_holds_a_secret(load: Load, tmp_path: Path, case: str) -> None:
    """Whatever is wrong with a secret or beside it: no message, repr, argument or traceback has its value."""
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "gatewaykit.acme.tokn").write_text(CANARY)
    text, environ = BAD[case]
    with pytest.raises(ConfigError) as caught:
        load(text, {name: value.replace("{folder}", str(tmp_path)) for name, value in environ.items()})
    error = caught.value
    said = [str(error), repr(error), repr(error.faults), "".join(traceback.format_exception_only(error))]
    assert error.faults
    for secret in (CANARY, QUOTED[1:-1], repr(CANARY)[1:-1], "c4n4ry", "48151623"):
        assert not any(secret in words for words in said)


def test_no_listing_and_no_repr_holds_a_secret(load: Load, tmp_path: Path) -> None:
    """Secrets in fields, tables and lists, and whatever came from a secret file or by reference, are shown as stars."""
    (tmp_path / "secret").write_text(CANARY)
    settings = load(
        f"[acme]\ntoken = {QUOTED}\nnote = 'x${{SECRET}}'\n[acme.upstreams.main]\nbase_url = 'http://${{SECRET}}'\n"
        f"headers.h = {QUOTED}\n[[acme.clients]]\nname = 'n'\nkey = {QUOTED}",
        {
            "SECRET": CANARY,
            "GATEWAYKIT_ACME__SIZE_FILE": str(tmp_path / "secret"),
            "GATEWAYKIT_ACME__UPSTREAMS__MAIN__API_KEY": CANARY,
        },
    )
    rows = {row.path: row.value for row in describe(settings)}
    hidden = ("token", "note", "size", "upstreams.main.base_url", "upstreams.main.headers.h", "upstreams.main.api_key")
    assert {rows[f"acme.{path}"] for path in hidden} == {"********"}
    assert json.loads(rows["acme.clients"]) == [{"name": "n", "key": "********"}]
    shown = [repr(settings), str(settings), repr(settings.origins), repr(describe(settings))]
    assert not any("c4n4ry" in words for words in shown)
    assert CANARY not in repr(settings["acme"].model_copy(update={"note": "", "size": "", "upstreams": {}}))


def test_an_author_who_repeats_everything_reveals_nothing(load: Load) -> None:
    """A validator of a plugin that puts its whole input into its message: every secret in it is cut out."""

    class Talker(Section):
        section = "talker"
        keys: tuple[SecretStr, ...]
        named: dict[str, SecretStr]

        @model_validator(mode="before")
        @classmethod
        def _talk(cls, values: object) -> object:
            raise ValueError(f"bad: {values} {json.dumps(values)}")

    text = f"[talker]\nkeys = [{QUOTED}]\nnamed.a = {QUOTED}"
    with pytest.raises(ConfigError, match=r"talker: bad: .*\*{8}") as caught:
        load(text, sections={"p": [Talker]})
    assert "c4n4ry" not in str(caught.value)


def test_a_section_built_in_code_repeats_no_value_in_its_errors() -> None:
    """Models hide their input also where nobody translates pydantic's words."""
    with pytest.raises(ValueError, match="tls_keyfile_password") as caught:
        ServerSettings.model_validate({"tls_keyfile_password": [CANARY]})
    assert "c4n4ry" not in str(caught.value)


def test_settings_travel_to_a_worker_process(load: Load) -> None:
    """The parent loads once; workers get the same settings by pickle."""
    settings = load(f"[server]\ntls_certfile = {json.dumps(__file__)}\n")
    copy: Any = pickle.loads(pickle.dumps(settings))
    assert copy == settings
