"""The dashboards: made from their source, readable for Grafana, and asking only for what the gateway measures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewaykit.metrics.names import all_metrics

from .conftest import DEPLOY
from .expressions import BOARDS, all_panels, expressions, in_plain_promql

grafana = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
promql = pytest.importorskip("promql_parser")


def test_the_files_are_those_of_their_source() -> None:
    """``python deploy/grafana/boards.py`` would change nothing."""
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "grafana" / "boards.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_grafana_would_read_it(path: Path) -> None:
    """Grafana's own model takes the document; it has a fixed uid, no database id, and variables for what it shows."""
    board = json.loads(path.read_text())
    read = grafana.Dashboard.from_json(board)
    assert read.uid == board["uid"]
    assert "id" not in board
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {"job", "instance"} <= set(variables)
    assert "$__" not in json.dumps(variables["job"]["query"])


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_explain_themselves(path: Path) -> None:
    """Every panel has a title of its own, a sentence, a unit, and a place that no other has."""
    panels = list(all_panels(path))
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
    assert len(set(places)) == len(panels)
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_expressions_ask_for_what_is_measured() -> None:
    """Each parses, chooses by the dashboard's variables, and names only metrics and labels that exist."""
    metrics = {name: metric for metric in all_metrics() for name in _samples(metric)}
    for expression in expressions():
        promql.parse(in_plain_promql(expression))
        for name, labels in re.findall(r"\b((?:gatewaykit|gen_ai|http_server)_\w+)\{([^}]*)\}", expression):
            assert name in metrics, name
            known = {"job", "instance", *metrics[name].prometheus_labels}
            assert {label.strip() for label in re.findall(r"(\w+)(?:=~|!~|!=|=)", labels)} <= known
            assert 'job=~"$job"' in labels


def _samples(metric: Any) -> list[str]:
    name = metric.prometheus
    return [f"{name}_bucket", f"{name}_count", f"{name}_sum"] if metric.kind == "histogram" else [name]


def test_everything_that_is_measured_is_shown() -> None:
    """No metric is without a panel, but for those of the conventions' other generation."""
    asked = " ".join(expressions())
    unseen = {
        metric.prometheus
        for metric in all_metrics()
        if metric.prometheus not in asked and not metric.name.startswith("gen_ai.client.inference.")
    }
    assert not unseen


def test_grafana_is_given_them() -> None:
    """The provisioning names the folder where the composition puts the files, and Prometheus by its service."""
    folder = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "gatewaykit.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":") for volume in services["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"], "ro"] in mounted
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
