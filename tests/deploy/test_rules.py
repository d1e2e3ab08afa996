"""The rules of Prometheus: every alert fires when it should, stays silent when it should, and says where to read on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewaykit.metrics.names import all_metrics

from .conftest import DEPLOY, run

RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
RUNBOOKS = DEPLOY.parent / "docs"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
GATEWAY = 'job="gatewaykit",instance="a"'
P = 'gen_ai_provider_name="p"'


def calls(**rates: int) -> dict[str, str]:
    """Calls by outcome, so many in each interval."""
    return {
        f'gatewaykit_calls_total{{{GATEWAY},gatewaykit_outcome="{outcome}"}}': f"0+{rate}x1440"
        for outcome, rate in rates.items()
    }


def attempts(good: int, bad: int, error: str = "provider_timeout") -> dict[str, str]:
    """Attempts at a provider, so many in each interval."""
    series = f"gatewaykit_attempts_total{{{GATEWAY},{P}"
    return {f'{series},error_type=""}}': f"0+{good}x1440", f'{series},error_type="{error}"}}': f"0+{bad}x1440"}


def streams(fast: int, slow: int) -> dict[str, str]:
    """Streams that begin in time, and too late, so many in each interval."""
    name = "gen_ai_server_time_to_first_token_seconds"
    return {
        f'{name}_bucket{{{GATEWAY},le="2.5"}}': f"0+{fast}x1440",
        f"{name}_count{{{GATEWAY}}}": f"0+{fast + slow}x1440",
    }


def one(name: str, values: str, **labels: str) -> dict[str, str]:
    """One series."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return {f"{name}{{{GATEWAY}{more}}}": values}


def breaker(state: str, opened: str) -> dict[str, str]:
    """How the breaker of a target stands, and how often it opened."""
    return {**one("gatewaykit_breaker_state", state), **one("gatewaykit_breaker_opened_total", opened)}


def backups(made: str, interval: int) -> dict[str, str]:
    """When the last one was made, and how often one should be, in seconds."""
    return {
        **one("gatewaykit_backup_success_seconds", made),
        **one("gatewaykit_backup_interval_seconds", f"{interval}x2000"),
    }


DAY = 86_400
LONG = "4d"
# For each alert: when, series with which it fires then, and series with which it does not.
CASES: dict[str, tuple[str, list[dict[str, str]], list[dict[str, str]]]] = {
    "GatewayDown": (
        "5m",
        [one("up", "0x20"), {'up{job="other"}': "1x20"}],
        [one("up", "1x20"), one("up", "1x4 0 1x20")],
    ),
    "GatewayFailing": (
        "2h",
        [calls(done=95, failed=5), calls(done=95, unavailable=5)],
        [
            calls(done=100),
            calls(done=90, refused=5, client_gone=5, blocked=5),
            calls(done=50, provider_error=40, timeout=10),
            {key: value.replace("+1x", "+0x") for key, value in calls(done=1, failed=1).items()},
        ],
    ),
    "GatewayFailingSlowly": (LONG, [calls(done=997, failed=3)], [calls(done=100_000, failed=10), calls(refused=100)]),
    "ProviderFailing": ("2h", [attempts(80, 20)], [attempts(99, 1), attempts(50, 50, "cancelled")]),
    "ProviderFailingSlowly": (LONG, [attempts(96, 4)], [attempts(1000, 5)]),
    "BreakerOpen": (
        "40m",
        [
            breaker("1x99", "0+1x99"),
            breaker("0x9 " + "1 0.5 0.5 0.5 " * 20, "0x9 " + "1x3 2x3 3x3 4x3 5x3 6x3 7x3 8x3 9x9"),
        ],
        [breaker("1x5 0x99", "0+1x99"), breaker("0x9 1x99", "0x9 1x99")],
    ),
    "FirstTokenSlow": ("2h", [streams(10, 90)], [streams(95, 5), streams(0, 0)]),
    "FirstTokenSlowly": (LONG, [streams(80, 20)], [streams(99, 1)]),
    "EventLoopLate": (
        "20m",
        [one("gatewaykit_event_loop_lag_seconds", "0.9x99")],
        [one("gatewaykit_event_loop_lag_seconds", "0.1x99")],
    ),
    "WorkersDie": (
        "20m",
        [one("gatewaykit_worker_deaths_total", "0+1x99"), one("gatewaykit_worker_deaths_total", "0x9 4x99")],
        [one("gatewaykit_worker_deaths_total", "0x9 1x99")],
    ),
    "CredentialFailing": (
        "20m",
        [
            attempts(50, 5, "upstream_auth_failed"),
            one("gatewaykit_credential_token_failures_total", "0+1x99", gen_ai_provider_name="p"),
            one("gatewaykit_credential_state", "1x99", gatewaykit_state="refused"),
        ],
        [
            attempts(50, 5, "provider_timeout"),
            one("gatewaykit_credential_token_failures_total", "0x9 1x99", gen_ai_provider_name="p"),
            one("gatewaykit_credential_state", "1x99", gatewaykit_state="good"),
        ],
    ),
    "CredentialEnds": (
        "1h",
        [one("gatewaykit_credential_expires_seconds", f"{6 * DAY}x99")],
        [one("gatewaykit_credential_expires_seconds", f"{9 * DAY}x99")],
    ),
    "CredentialRunsOut": (
        "8h",
        [
            one("gatewaykit_credential_balance", "100000-100x600"),
            one("gatewaykit_credential_balance", "100000-10000x10 0x600"),
        ],
        [one("gatewaykit_credential_balance", "10000000-20x600"), one("gatewaykit_credential_balance", "0x600")],
    ),
    "CertificateEnds": (
        "1h",
        [one("gatewaykit_certificate_expires_seconds", f"{13 * DAY}x99")],
        [one("gatewaykit_certificate_expires_seconds", f"{20 * DAY}x99")],
    ),
    "RevocationLate": (
        "20m",
        [one("gatewaykit_revocation_lag_seconds", "60x99")],
        [one("gatewaykit_revocation_lag_seconds", "1x99")],
    ),
    "BudgetNearEnd": (
        "20m",
        [one("gatewaykit_budget_used", "0.95x99", gatewaykit_limit_whose="key")],
        [one("gatewaykit_budget_used", "0.5x99", gatewaykit_limit_whose="key")],
    ),
    "LimiterAlone": (
        "20m",
        [one("gatewaykit_limiter_degraded", "1x99")],
        [one("gatewaykit_limiter_degraded", "0x99")],
    ),
    "OutboxGrowing": (
        "30m",
        [
            one("gatewaykit_ledger_outbox_age_seconds", "600x99"),
            one("gatewaykit_ledger_outbox_depth", "0+100x99"),
        ],
        [
            one("gatewaykit_ledger_outbox_age_seconds", "2x99"),
            one("gatewaykit_ledger_outbox_depth", "9000-100x99"),
            one("gatewaykit_ledger_outbox_depth", "0+1x99"),
        ],
    ),
    "RecordsLost": (
        "20m",
        [one("gatewaykit_ledger_failures_total", "0x9 1x99", gatewaykit_reason="lost")],
        [one("gatewaykit_ledger_failures_total", "0+1x99", gatewaykit_reason="database")],
    ),
    "DatabaseRefusing": (
        "30m",
        [one("gatewaykit_database_refused_total", "0+5x99", gatewaykit_reason="full")],
        [one("gatewaykit_database_refused_total", "3x99", gatewaykit_reason="full")],
    ),
    "BackupOld": (
        "30h",
        [backups("0x2000", 86_400)],
        [backups("0+60x2000", 86_400), backups("0x2000", 7 * 86_400)],
    ),
    "LogLinesLost": (
        "20m",
        [one("gatewaykit_log_dropped_total", "0x9 5x99", gatewaykit_reason="failed")],
        [one("gatewaykit_log_dropped_total", "5x99", gatewaykit_reason="failed")],
    ),
    "HooksFailing": (
        "40m",
        [one("gatewaykit_hook_failures_total", "0+1x99", gatewaykit_object="o", gatewaykit_hook="record")],
        [one("gatewaykit_hook_failures_total", "4x99", gatewaykit_object="o", gatewaykit_hook="record")],
    ),
}


def in_promtools_words(alert: str, at: str, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    """A test that counts the firing alerts of this name."""
    fired = [{"labels": "{}", "value": 1}] if fires else []
    counted = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {
        "name": f"{alert} {'fires' if fires else 'is silent'}",
        "interval": "5m" if at == LONG else "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": counted, "eval_time": at, "exp_samples": fired}],
    }


def only(alert: str, folder: Path) -> str:
    """A file with the alert and the recording rules that it needs: to evaluate all of them takes minutes."""
    rules = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule for rule in rules if "record" in rule}
    needed: dict[str, dict[str, Any]] = {}
    wanted = [next(rule for rule in ALERTS if rule["alert"] == alert)]
    for rule in wanted:
        needed[rule.get("record", alert)] = rule
        wanted += [recorded[name] for name in recorded if name in rule["expr"] and name not in needed]
    in_order = [*(recorded[name] for name in recorded if name in needed), needed[alert]]
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": alert, "rules": in_order}]}))
    return str(file)


def test_rules_are_valid() -> None:
    """promtool has nothing to say against them."""
    checked = run("promtool", "check", "rules", *RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_cases() -> None:
    """For each there are series with which it fires, and series with which it is silent."""
    assert set(CASES) == {alert["alert"] for alert in ALERTS}
    assert all(firing and silent for _, firing, silent in CASES.values())


@pytest.mark.parametrize("alert", CASES)
def test_alerts_fire_and_stay_silent(tmp_path: Path, alert: str) -> None:
    """With the series of its cases the alert is firing, or is not, as promtool evaluates the rules."""
    at, firing, silent = CASES[alert]
    every = "1h" if at == LONG else "5m" if at.endswith("h") else "1m"
    tests = [in_promtools_words(alert, at, series, fires=True) for series in firing]
    tests += [in_promtools_words(alert, at, series, fires=False) for series in silent]
    file = tmp_path / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [only(alert, tmp_path)], "evaluation_interval": every, "tests": tests})
    )
    tested = run("promtool", "test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_tool_would_notice(tmp_path: Path) -> None:
    """A case that is wrong is not passed over: promtool fails."""
    tests = [in_promtools_words("GatewayDown", "5m", one("up", "1x20"), fires=True)]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(path) for path in RULES], "tests": tests}))
    assert run("promtool", "test", "rules", file).returncode != 0


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Summary, description, a severity that is routed, and a page of the runbook in both languages."""
    notes = alert["annotations"]
    assert notes["summary"]
    assert notes["description"].endswith(".")
    assert alert["labels"]["severity"] in {"page", "ticket"}
    page = f"docs/runbooks/{alert['alert']}.md"
    assert notes["runbook_url"].endswith(page)
    for folder in (RUNBOOKS, RUNBOOKS / "ru"):
        text = (folder / "runbooks" / f"{alert['alert']}.md").read_text()
        assert text.startswith(f"# {alert['alert']}")


def test_rules_use_metrics_that_exist() -> None:
    """No rule asks for a series or a label that the gateway does not have."""
    known = {"up"} | {metric.prometheus for metric in all_metrics()}
    labels = {label for metric in all_metrics() for label in metric.prometheus_labels}
    for path in RULES:
        text = path.read_text()
        asked = set(re.findall(r"\b(?:gatewaykit|gen_ai|http_server)_\w+", re.sub(r"[a-z]+:[\w:]+", "", text)))
        names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
        assert not names - known - labels
