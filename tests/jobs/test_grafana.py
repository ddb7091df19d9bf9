"""The dashboard for Grafana shows every metric that vlray exports, and no other."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from vlray.stream.metrics import COUNTERS, GAUGES

DASHBOARD = json.loads((Path(__file__).parents[2] / "jobs" / "grafana.json").read_text())
TRAINING = {f"ray_vlray_train_{name}" for name in ("loss", "examples_per_s", "step", "lr")}


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_all_metrics_are_shown_by_project_and_run() -> None:
    exported = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}
    shown = set()
    for expression in expressions():
        selections = re.findall(r"(\w+)\{([^}]*)\}", expression)
        assert selections
        assert {tags for _, tags in selections} == {'project=~"$project",run=~"$run"'}
        assert expression.count("(") == expression.count(")")
        shown |= {name for name, _ in selections}
    assert shown == exported | TRAINING


def test_a_training_exports_what_is_shown(monkeypatch: Any, tmp_path: Path) -> None:
    from vlray.engine.metrics import RayMetrics

    values: dict[str, float] = {}
    monkeypatch.setattr(RayMetrics, "_update", lambda self, new: values.update(new))
    monkeypatch.setattr("vlray.engine.metrics.SECONDS_BETWEEN", 0.0)
    RayMetrics(tmp_path).progress(step=3, loss=1.0, lr=0.1, examples=8)
    assert {f"ray_vlray_{name}" for name in values} == TRAINING


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = any(
            a[start] + a[size] <= b[start]
            for a, b in ((one, other), (other, one))
            for start, size in (("x", "w"), ("y", "h"))
        )
        assert apart, (one, other)


def test_variables_are_defined_and_the_data_source_is_the_users() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval", "__all"} == names == {"datasource", "project", "run"}
