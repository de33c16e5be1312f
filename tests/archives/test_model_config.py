from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from predictor.archives.errors import ArchiveError
from predictor.archives.model_config import (
    MAX_CONFIG_BYTES,
    ModelConfig,
    load_model_config,
    parse_model_config,
)

FULL = """
minWorkers: 1
maxWorkers: 2
batchSize: 4
maxBatchDelay: 100
responseTimeout: 60
startupTimeout: 90
deviceType: GPU
parallelType: tp
parallelLevel: 2
deviceIds: [0, 1]
torchrun: {nproc-per-node: 2}
maxRetryTimeoutInSec: 10
clientTimeoutInMills: 500
jobQueueSize: 7
useJobTicket: true
sequenceMaxIdleMSec: 1
sequenceTimeoutMSec: 2
maxSequenceJobQueueSize: 3
maxNumSequence: 4
continuousBatching: true
sequenceBatching: false
asyncCommunication: true
useVenv: true
handler: {profile: true}
"""


def load(tmp_path, text: str | bytes) -> ModelConfig:
    path = tmp_path / "model-config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_model_config(path)


def test_every_key_is_read(tmp_path):
    config = load(tmp_path, FULL)
    assert config.problems == ()
    assert config.raw == yaml.safe_load(FULL)
    assert (config.min_workers, config.max_workers, config.batch_size, config.max_batch_delay) == (
        1,
        2,
        4,
        100,
    )
    assert (config.response_timeout, config.startup_timeout, config.device_type) == (60, 90, "gpu")
    assert (config.parallel_type, config.parallel_level, config.device_ids) == ("tp", 2, (0, 1))
    assert config.torchrun == {"nproc-per-node": 2}
    assert (config.max_retry_timeout, config.client_timeout, config.job_queue_size) == (10, 500, 7)
    assert (config.use_job_ticket, config.sequence_max_idle, config.sequence_timeout) == (True, 1, 2)
    assert (config.max_sequence_job_queue_size, config.max_num_sequence) == (3, 4)
    assert (config.continuous_batching, config.sequence_batching) == (True, False)
    assert (config.async_communication, config.use_venv) == (True, True)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_says_nothing(tmp_path, text):
    assert load(tmp_path, text) == ModelConfig()


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"minWorkers": "2"}, "min_workers"),
        ({"batchSize": True}, "batch_size"),
        ({"batchSize": 1.5}, "batch_size"),
        ({"batchSize": 2**31}, "batch_size"),
        ({"maxBatchDelay": -1}, "max_batch_delay"),
        ({"responseTimeout": 0}, "response_timeout"),
        ({"deviceType": "tpu"}, "device_type"),
        ({"parallelType": 3}, "parallel_type"),
        ({"deviceIds": [0, "1"]}, "device_ids"),
        ({"deviceIds": 0}, "device_ids"),
        ({"torchrun": 2}, "torchrun"),
        ({"useJobTicket": "yes"}, "use_job_ticket"),
    ],
)
def test_wrong_values_are_ignored_and_reported(raw, field):
    config = parse_model_config(raw)
    assert getattr(config, field) is None
    (problem,) = config.problems
    (key,) = raw
    assert problem.startswith(f"{key}: ")
    assert config.raw == raw


def test_values_that_are_too_small_are_raised_where_torchserve_does():
    config = parse_model_config({"minWorkers": 0, "batchSize": -3, "jobQueueSize": -1})
    assert (config.min_workers, config.batch_size, config.job_queue_size, config.problems) == (1, 1, 0, ())


def test_max_workers_is_at_least_min_workers():
    config = parse_model_config({"minWorkers": 3, "maxWorkers": 1})
    assert config.max_workers == 3
    assert "maxWorkers" in config.problems[0]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "through aliases"),
        ("a: &a [*a]", "alias of itself"),
        ("- 1\n- 2", "must be a mapping"),
        ("text", "must be a mapping"),
        ("a: [1", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("? [1]\n: 2", "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (b"a: \xff", "not UTF-8"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than"),
    ],
)
def test_broken_files_are_refused_with_a_reason(tmp_path, text, reason):
    with pytest.raises(ArchiveError, match=reason):
        load(tmp_path, text)


def test_merge_keys_and_ordinary_aliases_work(tmp_path):
    config = load(tmp_path, "base: &b {x: 1}\nhandler: {<<: *b, y: 2}\nagain: *b\n")
    assert config.raw == {"base": {"x": 1}, "handler": {"x": 1, "y": 2}, "again": {"x": 1}}


def test_the_error_names_the_archive_and_the_file(tmp_path):
    with pytest.raises(ArchiveError) as caught:
        load_model_config(tmp_path / "model-config.yaml", "store/a.mar")
    assert (caught.value.source, caught.value.member) == ("store/a.mar", "model-config.yaml")


@given(st.text(st.sampled_from("ab:{}[]&*!|>-? \n\"'<#1.~"), max_size=40))
def test_any_text_is_parsed_or_refused(tmp_path_factory, text):
    try:
        assert isinstance(load(tmp_path_factory.mktemp("yaml"), text).raw, dict)
    except ArchiveError:
        pass
