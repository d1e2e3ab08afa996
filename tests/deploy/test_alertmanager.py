"""Alertmanager: its configuration is valid, holds no secret, and sends each alert to whom it concerns."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import DEPLOY, program, run
from .expressions import rules

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"page": {"slack", "telegram", "email"}, "ticket": {"email"}}


def test_the_configuration_is_valid() -> None:
    """amtool has nothing to say against it, its template included."""
    checked = run("amtool", "check-config", CONFIG)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "1 templates" in checked.stdout


@pytest.mark.parametrize("alert", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
def test_alerts_reach_their_receivers(alert: dict[str, dict[str, str]]) -> None:
    """A page goes to the chats and by e-mail, a ticket by e-mail alone."""
    severity = alert["labels"]["severity"]
    labels = (f"severity={severity}", f"alertname={alert['alert']}")
    routed = run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", *labels)
    assert set(routed.stdout.strip().split(",")) == RECEIVERS[severity]


def test_a_page_silences_the_ticket_of_the_same_cause() -> None:
    """What burns fast is not told a second time as burning slowly, and a gateway that is down says nothing else."""
    inhibited = {
        (rule["source_matchers"][0].split('"')[1], rule["target_matchers"][0])
        for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    }
    known = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {source for source, _ in inhibited} <= known
    for source, target in (("GatewayFailing", "GatewayFailingSlowly"), ("FirstTokenSlow", "FirstTokenSlowly")):
        assert (source, f'alertname = "{target}"') in inhibited


def made_by_start(folder: Path, token: str) -> Path:
    """The configuration that the script makes of the shipped one and the bot's token."""
    (folder / "token").write_text(token)
    environment = {
        "PATH": os.environ["PATH"],
        "CONFIG_DIR": str(CONFIG.parent),
        "TELEGRAM_TOKEN_FILE": str(folder / "token"),
        "TMPDIR": str(folder),
        "ALERTMANAGER": "true",
    }
    subprocess.run([str(CONFIG.parent / "start.sh")], env=environment, check=True, timeout=60)
    return folder / "alertmanager.yml"


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """No secret stands in the configuration; the script puts the bot's token into a copy that only its user may read,
    and what comes out is valid.
    """
    text = CONFIG.read_text()
    assert "slack_api_url_file" in text
    assert "smtp_auth_password_file" in text
    assert "bot_token: TELEGRAM_TOKEN" in text
    made = made_by_start(tmp_path, "123:abc/&\\d\n")
    assert made.stat().st_mode & 0o777 == 0o600
    (telegram,) = [each for each in yaml.safe_load(made.read_text())["receivers"] if each["name"] == "telegram"]
    assert telegram["telegram_configs"][0]["bot_token"] == "123:abc/&\\d"
    assert run("amtool", "check-config", made).returncode == 0


def test_others_are_told_where_telegram_is_not_used(tmp_path: Path) -> None:
    """With an empty file for the bot's token Alertmanager starts all the same."""
    checked = run("amtool", "check-config", made_by_start(tmp_path, ""))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_is_configured() -> None:
    """promtool reads the configuration that is shipped."""
    program("promtool")
    checked = run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
