"""Every expression of the dashboards and of the rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .conftest import DEPLOY

BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
_MACROS = {"$__rate_interval": "15s", "$__range": "1m", "$job": ".*", "$instance": ".*", "$provider": ".*"}


def all_panels(path: Path) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, without its rows."""
    yield from (panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    """Those of all panels."""
    return [target["expr"] for path in BOARDS for panel in all_panels(path) for target in panel["targets"]]


def in_plain_promql(expression: str) -> str:
    """``expression`` with Grafana's macros and the dashboard's variables filled in."""
    for macro, value in _MACROS.items():
        expression = expression.replace(macro, value)
    return expression


def rules() -> list[dict[str, Any]]:
    """All rules, as their files have them."""
    return [
        rule
        for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
