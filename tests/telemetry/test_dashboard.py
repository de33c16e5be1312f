"""The Grafana dashboard: as its script writes it, with queries for metrics that exist."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.render_dashboard import COLUMNS, DASHBOARD, dashboard, fill_in

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


def test_the_file_is_what_the_script_writes():
    assert json.loads(DASHBOARD.read_text()) == dashboard(), "run scripts/render_dashboard.py"


def test_panels_have_their_own_numbers_and_places():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        down = range(place["y"], place["y"] + place["h"])
        assert across.stop <= COLUMNS
        cells = set(itertools.product(across, down))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_asks_the_chosen_data_source():
    for panel in PANELS:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_both_families_of_names_are_shown():
    text = " ".join(query.values[0] for query in QUERIES)
    for name in (
        "predictor_queue_depth",
        "ts_inference_requests_total",
        "Requests5XX",
        "request_predict_seconds",
    ):
        assert name in text


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_families_and_labels_that_are_documented(query):
    rows = re.findall(r"^\| `([A-Za-z_0-9]+)` \| \w+ \|([^|]*)\|", DOCS.read_text(), re.M)
    labels = {name: {label.strip() for label in row.split(",")} for name, row in rows}
    selectors = re.findall(r"([A-Za-z_0-9]+)\{([^}]*)\}", query)
    assert selectors
    for name, matchers in selectors:
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        if family.startswith("process_"):
            continue
        assert family in labels, name
        asked = set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) - {"job", "instance"}
        assert asked <= labels[family], query


def test_promtool_can_read_every_query(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian: apt-get install prometheus)")
    rules = [
        {"record": f"panel:{number}", "expr": fill_in(query.values[0])}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr + result.stdout
    assert f"{len(QUERIES)} rules found" in result.stdout
