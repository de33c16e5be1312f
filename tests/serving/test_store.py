from __future__ import annotations

import json

import pytest

from predictor.archives.model_config import ModelConfig
from predictor.configuration import resolve
from predictor.errors import ModelNotFound
from predictor.serving import store
from predictor.serving.store import ModelStore, resolve_policy
from predictor.settings import Settings


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with two GPUs and eight cores, whatever runs the tests."""
    monkeypatch.setattr(store, "visible_gpus", lambda: 2)
    monkeypatch.setattr(store, "usable_cores", lambda: 8)


def _folder(root, name, config="", **model):
    folder = root / name
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "handler.py").write_text("class Handler: ...\n")
    entry = {"modelName": name, "modelVersion": "1.0", "handler": "handler.py", **model}
    if config:
        (folder / "model-config.yaml").write_text(config)
        entry["configFile"] = "model-config.yaml"
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": entry}))
    return folder


@pytest.fixture
def opened(tmp_path):
    models, scratch = tmp_path / "store", tmp_path / "scratch"
    models.mkdir()
    scratch.mkdir()

    def open_it(path=models, **settings):
        return ModelStore(resolve({"model_store": path, **settings}, None), scratch).open()

    open_it.path = models
    return open_it


def test_all_models_of_a_folder(opened):
    for name in ("b", "a"):
        _folder(opened.path, name)
    (opened.path / "README.md").write_text("not a model")
    found = opened()
    assert [archive.name for archive in found.archives] == ["a", "b"]
    assert found.problems == []


def test_one_model_folder_is_a_store_of_one(opened):
    found = opened(_folder(opened.path, "a"))
    assert [archive.name for archive in found.archives] == ["a"]


def test_models_are_chosen_by_name(opened):
    for name in ("a", "b", "c"):
        _folder(opened.path, name)
    found = opened(models=" a, c ,missing")
    assert [archive.name for archive in found.archives] == ["a", "c"]
    assert found.problems == [f"model 'missing' is not in {opened.path}"]


@pytest.mark.parametrize("everything", ["all", "", "  "])
def test_ways_to_say_all(opened, everything):
    _folder(opened.path, "a")
    assert len(opened(models=everything).archives) == 1


def test_one_broken_archive_does_not_stop_the_others(opened):
    _folder(opened.path, "good")
    (opened.path / "bad.mar").write_bytes(b"not a zip")
    found = opened()
    assert [archive.name for archive in found.archives] == ["good"]
    assert len(found.problems) == 1
    assert "bad.mar" in found.problems[0]


def test_ignored_values_are_reported_with_the_models_name(opened):
    _folder(opened.path, "a", "batchSize: many\n")
    found = opened()
    assert len(found.archives) == 1
    assert found.problems[0].startswith("a: batchSize")


def test_a_store_that_is_not_there(opened, tmp_path):
    found = opened(tmp_path / "nowhere")
    assert found.archives == []
    assert "nowhere" in found.problems[0]


def _registry(opened, scratch, **settings):
    store = ModelStore(resolve({"model_store": opened.path, **settings}, None), scratch)
    return store.registry(store.open().archives)


def test_the_models_of_a_store_in_a_registry(opened, tmp_path):
    for name in ("a", "b"):
        _folder(opened.path, name)
    registry = _registry(opened, tmp_path / "scratch", max_response_size=77, model_name="isvc")
    assert registry.names() == ["a", "b"]
    assert registry.get("a").policy.threads == 4, "both share the eight cores"
    assert registry.get("a").options.max_response_size == 77
    with pytest.raises(ModelNotFound):
        registry.get("isvc")


def test_a_further_name_for_the_only_model(opened, tmp_path):
    _folder(opened.path, "a")
    registry = _registry(opened, tmp_path / "scratch", model_name="isvc")
    assert registry.get("isvc") is registry.get("a")


def test_a_model_whose_numbers_are_wrong_is_left_out(opened, tmp_path, caplog):
    _folder(opened.path, "bad", "jobQueueSize: 0\n")
    _folder(opened.path, "good")
    assert _registry(opened, tmp_path / "scratch").names() == ["good"]
    assert "model bad is not served: queue_size" in caplog.text


def test_the_models_config_beats_the_settings():
    settings = Settings(workers=1, batch_size=2, max_batch_delay=7, queue_size=9, response_timeout=11)
    config = ModelConfig(
        min_workers=2,
        max_workers=4,
        batch_size=8,
        max_batch_delay=50,
        job_queue_size=5,
        response_timeout=3,
        startup_timeout=4,
        max_retry_timeout=6,
        client_timeout=1500,
    )
    policy = resolve_policy(config, None, settings, 1)
    assert (policy.min_workers, policy.max_workers, policy.batch_size, policy.queue_size) == (2, 4, 8, 5)
    assert policy.max_batch_delay == 0.05
    assert policy.client_timeout == 1.5
    assert (policy.response_timeout, policy.startup_timeout, policy.max_retry_timeout) == (3, 4, 6)


def test_the_settings_fill_in_what_the_model_does_not_say():
    settings = Settings(workers=3, batch_size=2, max_batch_delay=7, queue_size=9, response_timeout=11)
    policy = resolve_policy(ModelConfig(), None, settings, 1)
    assert (policy.min_workers, policy.max_workers, policy.batch_size, policy.queue_size) == (3, 3, 2, 9)
    assert policy.max_batch_delay == 0.007
    assert policy.response_timeout == 11
    assert policy.client_timeout == 0


def test_a_zero_in_the_config_is_a_value_not_a_gap():
    policy = resolve_policy(ModelConfig(max_batch_delay=0), None, Settings(max_batch_delay=50), 1)
    assert policy.max_batch_delay == 0


def test_fewer_workers_allowed_than_wanted_are_raised_to_what_is_wanted():
    assert resolve_policy(ModelConfig(max_workers=1), None, Settings(workers=3), 1).max_workers == 3


@pytest.mark.parametrize(
    ("config", "settings", "gpus"),
    [
        (ModelConfig(), {}, (0, 1)),
        (ModelConfig(), {"device": "cpu"}, ()),
        (ModelConfig(device_type="cpu"), {}, ()),
        (ModelConfig(device_type="gpu"), {"device": "cpu"}, ()),
        (ModelConfig(device_ids=(1,)), {}, (1,)),
        (ModelConfig(device_ids=(1, 7)), {}, (1,)),
    ],
)
def test_which_gpus_a_model_uses(config, settings, gpus):
    assert resolve_policy(config, None, Settings(**settings), 1).gpu_ids == gpus


def test_a_wish_for_cuda_without_a_gpu_is_said_and_not_granted(monkeypatch, caplog):
    monkeypatch.setattr(store, "visible_gpus", lambda: 0)
    assert resolve_policy(ModelConfig(), None, Settings(device="cuda"), 1).gpu_ids == ()
    assert "no NVIDIA device" in caplog.text


@pytest.mark.parametrize(
    ("workers", "models", "threads"), [(1, 1, 8), (2, 2, 2), (1, 3, 2), (8, 8, 1), (0, 1, 8)]
)
def test_cores_are_shared_out_among_all_workers(workers, models, threads):
    assert resolve_policy(ModelConfig(), None, Settings(workers=workers), models).threads == threads


def test_threads_that_are_set_are_taken():
    assert resolve_policy(ModelConfig(), None, Settings(threads=5), 4).threads == 5
