"""What can be said of the chart without rendering it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.chart import CHART, cluster_home
from support.models import REPOSITORY

from predictor import __version__
from predictor.settings import Settings
from scripts import render_chart, render_settings


@pytest.fixture(scope="module")
def schema():
    return json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def defaults():
    return yaml.safe_load((CHART / "values.yaml").read_text())


def _complaints(schema, defaults, change):
    return [
        error.message for error in jsonschema.Draft7Validator(schema).iter_errors(_merge(defaults, change))
    ]


def _merge(base, change):
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return {**base, **{key: _merge(base.get(key), value) for key, value in change.items()}}


def test_the_readme_is_that_of_the_values():
    assert (CHART / "README.md").read_text() == render_chart.render(), "run: python scripts/render_chart.py"


def test_every_value_has_a_comment():
    values = render_chart.read_values((CHART / "values.yaml").read_text())
    assert [".".join(value.path) for value in values if not value.comment] == []


def test_the_reader_of_values_sees_every_leaf(defaults):
    def leaves(tree, path=()):
        for key, value in tree.items():
            if isinstance(value, dict) and value and (*path, key) not in documented:
                yield from leaves(value, (*path, key))
            else:
                yield (*path, key)

    values = render_chart.read_values((CHART / "values.yaml").read_text())
    documented = {value.path for value in values}
    assert set(leaves(defaults)) == documented


def test_the_chart_has_the_version_of_the_server():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__


def test_the_schema_knows_the_settings_as_they_are():
    rendered = render_settings.render_chart_schema()
    assert (CHART / "values.schema.json").read_text() == rendered, "run: python scripts/render_settings.py"


def test_the_schema_itself_is_one(schema):
    jsonschema.Draft7Validator.check_schema(schema)


def test_no_object_of_the_schema_lets_unknown_keys_in(schema):
    def loose(node, path):
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties", True) is True:
                yield path
            for key, value in node.items():
                yield from loose(value, f"{path}/{key}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from loose(value, f"{path}/{index}")

    assert list(loose(schema, "")) == []


def test_the_defaults_fit_the_schema(schema, defaults):
    assert _complaints(schema, defaults, {}) == []


def test_schema_and_defaults_have_the_same_keys(schema, defaults):
    assert set(schema["properties"]) - {"global"} == set(defaults)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "Deployment"},
        {"replica": 2},
        {"replicas": "two"},
        {"replicas": -1},
        {"gpu": {"count": 0}},
        {"gpu": {"count": "1"}},
        {"gpu": {"resource": "gpu"}},
        {"gpu": {"cuont": 2}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"image": {"tag": "a b"}},
        {"model": {"storageUri": "/models"}},
        {"model": {"pvc": {"subPath": "/absolute"}}},
        {"settings": {"btach_size": 4}},
        {"settings": {"batch_size": 0}},
        {"settings": {"batch_size": "4"}},
        {"settings": {"device": "tpu"}},
        {"settings": {"port": 9000}},
        {"settings": {"drain_delay": 9}},
        {"resources": {"limits": {"memory": "4 GB"}}},
        {"resources": {"limit": {"memory": "4Gi"}}},
        {"extraEnv": [{"value": "without a name"}]},
        {"extraEnv": {"NAME": "value"}},
        {"tolerations": [{"key": "a", "operator": "Equals"}]},
        {"autoscaling": {"engine": "vpa"}},
        {"strategy": {"maxSurge": "200%"}},
        {"service": {"port": 70000}},
        {"servingRuntime": {"protocolVersions": ["v3"]}},
        {"servingRuntime": {"supportedModelFormats": []}},
        {"probes": {"startup": {"periodSeconds": 0}}},
        {"inferenceService": {"deploymentMode": "Serverless"}},
        {"securityContext": {"readOnlyRootFileSystem": True}},
        {"topologySpreadConstraints": [{"maxSkew": 1}]},
        {"monitoring": {"serviceMonitor": {"interval": 15}}},
    ],
    ids=json.dumps,
)
def test_a_wrong_value_is_refused(schema, defaults, change):
    assert _complaints(schema, defaults, change)


def test_every_setting_is_a_value_or_has_one_of_its_own(schema):
    known = set(schema["definitions"]["settings"]["properties"])
    own = set(Settings.model_fields) - known
    assert own <= set(render_settings.OF_THE_CHART)


def test_the_dockerfile_keeps_what_the_chart_relies_on():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert re.search(r"PREDICTOR_PORT=8080", dockerfile)
    assert re.search(r"^USER 1000:1000$", dockerfile, re.MULTILINE)
    assert "EXPOSE 8080 8081" in dockerfile


@pytest.mark.parametrize(
    ("linter", "file"), [("hadolint", "Dockerfile"), ("shellcheck", "docker/entrypoint.sh")]
)
def test_the_linters_of_the_image_find_nothing(linter, file):
    program = shutil.which(linter) or cluster_home() / "bin" / linter
    if not Path(program).exists():
        pytest.skip(f"{linter} is neither on PATH nor in the cluster tool's folder")
    done = subprocess.run([program, REPOSITORY / file], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "predictor serve"),
        (["--workers=2", "--model_name=x"], "predictor serve --workers=2 --model_name=x"),
        (["serve", "--workers=2"], "predictor serve --workers=2"),
        (
            ["torchserve", "--start", "--model-store", "/a b"],
            "torchserve --foreground --start --model-store /a b",
        ),
        (["predictor", "check", "m.mar"], "predictor check m.mar"),
        (["python", "-c", "pass"], "python -c pass"),
    ],
)
def test_the_containers_arguments_mean_what_others_mean_by_them(tmp_path, words, command):
    for name in ("predictor", "torchserve", "python"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["sh", REPOSITORY / "docker" / "entrypoint.sh", *words],
        capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout == command + "\n"
