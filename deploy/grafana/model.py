"""What dashboards are made of: expressions, panels, and their JSON.

The JSON is Grafana's classic model, which version 13 still imports
(https://grafana.com/docs/grafana/latest/visualizations/dashboards/build-dashboards/view-dashboard-json-model/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gatewaykit.metrics import Metric
from gatewaykit.metrics import names as m

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'job=~"$job",instance=~"$instance"'
CALLS_OF = f'{CHOSEN},gen_ai_provider_name=~"$provider"'
WIDTH, HEIGHT = 8, 8


# PromQL


def selected(metric: Metric, where: str = CHOSEN, sample: str = "") -> str:
    """The series that the dashboard's variables choose."""
    return f"{metric.prometheus}{sample}{{{where}}}"


def rate(metric: Metric, by: str = "", where: str = CHOSEN, sample: str = "") -> str:
    """How much a second, summed."""
    return f"sum{_by(by)} (rate({selected(metric, where, sample)}[$__rate_interval]))"


def total(metric: Metric, by: str = "", where: str = CHOSEN) -> str:
    """How much in the time that is shown."""
    return f"sum{_by(by)} (increase({selected(metric, where)}[$__range]))"


def now(metric: Metric, by: str = "", how: str = "sum", where: str = CHOSEN) -> str:
    """What a gauge says."""
    return f"{how}{_by(by)} ({selected(metric, where)})"


def quantile(share: float, metric: Metric, by: str = "", where: str = CHOSEN) -> str:
    """What this share of values does not exceed."""
    buckets = f"rate({selected(metric, where, '_bucket')}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({', '.join(filter(None, ['le', by]))}) ({buckets}))"


def ratio(part: str, whole: str) -> str:
    """A share; nothing where there is no whole, 0 where there is no part."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def until(metric: Metric, by: str) -> str:
    """Seconds until a moment."""
    return f"min by ({by}) ({selected(metric)}) - time()"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def outcome(pattern: str) -> str:
    """Calls with these outcomes."""
    return f'{CALLS_OF},gatewaykit_outcome=~"{pattern}"'


# Grafana


@dataclass(frozen=True)
class Panel:
    """One panel: expressions with their legends. ``kind`` is Grafana's; ``stacked`` areas add up."""

    title: str
    unit: str
    description: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = WIDTH
    stacked: bool = False
    thresholds: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels."""

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[str, ...] = field(default=("job", "instance"))


def stat(title: str, unit: str, description: str, query: str, *thresholds: tuple[float, str]) -> Panel:
    """One number."""
    return Panel(title, unit, description, ((query, ""),), "stat", 4, thresholds=thresholds)


def graph(title: str, unit: str, description: str, *queries: tuple[str, str], stacked: bool = False) -> Panel:
    """Lines over time."""
    return Panel(title, unit, description, queries, stacked=stacked)


def table(title: str, unit: str, description: str, query: str) -> Panel:
    """The present values, one a row."""
    return Panel(title, unit, description, ((query, ""),), "table")


def percentiles(title: str, description: str, metric: Metric, where: str = CHOSEN) -> Panel:
    """How long it takes most of the time, and at worst."""
    queries = [(quantile(share, metric, where=where), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    return graph(title, "s", description, *queries)


# JSON


def document(board: Board) -> dict[str, Any]:
    """The dashboard as Grafana's classic JSON."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["gatewaykit"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "gatewaykit", "tags": ["gatewaykit"], "includeVars": True, "keepTime": True}
        ],
        "templating": {"list": [_datasource(), *(_variable(name) for name in board.variables)]},
        "annotations": {"list": []},
        "panels": list(_panels(board)),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


_VARIABLES = {
    "job": ("Job", f"label_values({m.WORKERS.prometheus}, job)"),
    "instance": ("Gateway", f'label_values({m.WORKERS.prometheus}{{job=~"$job"}}, instance)'),
    "provider": ("Provider", f"label_values({m.CALLS.prometheus}{{{CHOSEN}}}, gen_ai_provider_name)"),
}


def _variable(name: str) -> dict[str, Any]:
    label, query = _VARIABLES[name]
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in board.rows:
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, top, 24, 1),
        }
        number, top, left, lowest = number + 1, top + 1, 0, top + 1
        for panel in panels:
            height = 4 if panel.kind == "stat" else HEIGHT
            if left + panel.width > 24 or (left and height != lowest - top):
                top, left = lowest, 0
            yield _panel(panel, number, _place(left, top, panel.width, height))
            number, left, lowest = number + 1, left + panel.width, top + height
        top = lowest


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.thresholds]
    instant = panel.kind in {"stat", "table"}
    custom = {
        "fillOpacity": 30 if panel.stacked else 8,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                **({"custom": custom} if panel.kind == "timeseries" else {}),
            },
            "overrides": [],
        },
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
        **(
            {"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]}
            if panel.kind == "table"
            else {}
        ),
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
