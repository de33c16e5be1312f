from __future__ import annotations

import pytest

from predictor.configuration import resolve


@pytest.fixture
def layout(tmp_path):
    """A folder as KServe mounts it for TorchServe, at a place that the file does not know."""
    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    (tmp_path / "config" / "config.properties").write_text(
        "inference_address=http://127.0.0.1:8085\nmodel_store=/mnt/elsewhere/model-store\njob_queue_size=7\n"
    )
    return tmp_path


def test_kserves_layout_is_read_where_a_flag_names_the_folder(layout):
    settings = resolve({"model_store": layout}, None).settings
    assert (settings.model_store, settings.queue_size) == (layout / "model-store", 7)


def test_kserves_layout_is_read_where_the_environment_names_the_folder(layout, monkeypatch):
    monkeypatch.setenv("PREDICTOR_MODEL_STORE", str(layout))
    settings = resolve({}, None).settings
    assert (settings.model_store, settings.queue_size) == (layout / "model-store", 7)


def test_kserves_layout_is_read_where_it_is_the_default_folder(layout, monkeypatch, tmp_path_factory):
    # The image's working directory holds `model_store`, a link to /mnt/models.
    home = tmp_path_factory.mktemp("home")
    (home / "model_store").symlink_to(layout)
    monkeypatch.chdir(home)
    settings = resolve({}, None).settings
    assert settings.model_store.resolve() == layout / "model-store"
    assert settings.queue_size == 7


def test_the_images_address_wins_over_the_layouts(layout, monkeypatch):
    monkeypatch.setenv("PREDICTOR_HOST", "0.0.0.0")
    monkeypatch.setenv("PREDICTOR_PORT", "8080")
    settings = resolve({"model_store": layout}, None).settings
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
