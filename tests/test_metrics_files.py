"""The dashboard and the alert rules: loaded by the real tools, and about metrics that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packages import of_dev
from prometheus_client.metrics_core import Metric
from servers import promtool

from headway import Scheduler
from headway.hooks.prometheus import SchedulerCollector

METRICS = Path(__file__).parent.parent / "examples" / "metrics"
DASHBOARD: dict[str, Any] = json.loads(METRICS.joinpath("grafana.json").read_text("utf-8"))
RULES: dict[str, Any] = yaml.safe_load(METRICS.joinpath("alerts.yml").read_text("utf-8"))

grafana = of_dev("grafana_foundation_sdk.models.dashboard")
encoder = of_dev("grafana_foundation_sdk.cog.encoder")
plugins = of_dev("grafana_foundation_sdk.cog.plugins")


def sample_name(family: Metric) -> str:
    """The name of its samples."""
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


EXPORTED = {
    sample_name(family): {"scheduler", *family._labelnames}  # type: ignore[attr-defined]
    for family in SchedulerCollector(Scheduler()).describe()
}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def wrong(expression: str) -> list[str]:
    """The metrics and labels of `expression` that the collector does not export."""
    found = []
    for name, _, chosen in re.findall(r"\b(headway_\w+)(\{([^}]*)\})?", expression):
        if name not in EXPORTED:
            found.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))
        found += sorted(f"{name}.{label}" for label in labels - EXPORTED[name])
    return found


@pytest.mark.parametrize("expression", [*expressions()])
def test_every_metric_and_label_is_exported(expression: str) -> None:
    assert re.search(r"\bheadway_", expression)
    assert wrong(expression) == []


def test_what_is_not_exported_is_found() -> None:
    assert wrong('headway_no + headway_jobs_total{outcome="x", what=~"y"}') == [
        "headway_no", "headway_jobs_total.what",
    ]  # fmt: skip


def test_promtool_reads_the_rules_and_their_own_tests_pass() -> None:
    assert f"SUCCESS: {len(RULES['groups'][0]['rules'])} rules found" in promtool(
        "check", "rules", str(METRICS / "alerts.yml")
    )
    assert "SUCCESS" in promtool("test", "rules", str(METRICS / "alerts_test.yml"))


def test_promtool_reads_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """As rules: with a period where Grafana puts one."""
    rules = [
        {"record": f"panel:{number}", "expr": each.replace("$__rate_interval", "5m")}
        for number, each in enumerate(expressions())
    ]
    page = tmp_path / "panels.yml"
    page.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(page))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    plugins.register_default_plugins()
    read = grafana.Dashboard.from_json(DASHBOARD)
    assert json.loads(encoder.JSONEncoder().encode(read)) == complete(
        DASHBOARD, json.loads(encoder.JSONEncoder().encode(read))
    )


def complete(ours: Any, theirs: Any) -> Any:
    """`ours` with what Grafana's SDK adds by itself; what it does not know of `ours` stays."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {**theirs, **{key: complete(value, theirs.get(key)) for key, value in ours.items()}}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [complete(one, other) for one, other in zip(ours, theirs, strict=True)]
    return ours


def test_a_field_that_grafana_does_not_know_is_found() -> None:
    plugins.register_default_plugins()
    odd = {**DASHBOARD, "colour": "green"}
    read = json.loads(encoder.JSONEncoder().encode(grafana.Dashboard.from_json(odd)))
    assert read != complete(odd, read)


def test_panels_have_their_places() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
