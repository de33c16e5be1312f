"""Filling a folder with a model's files for a test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen


def download_model(model_url: str, model_dir: Path) -> None:
    """Put the file at `model_url` into `model_dir` as `model.pt`; it is downloaded once per machine."""
    cache = Path(tempfile.gettempdir(), "ts_model_cache")
    cache.mkdir(exist_ok=True)
    cached = cache / Path(urlparse(model_url).path).name
    if not cached.exists():
        partial = cached.with_suffix(".part")
        with urlopen(model_url) as source, partial.open("wb") as target:  # noqa: S310 - a test names its URL
            shutil.copyfileobj(source, target)
        partial.rename(cached)
    shutil.copy(cached, model_dir / "model.pt")


def copy_files(src_dir: Path, dst_dir: Path, files: Mapping[str, str]) -> None:
    """Copy `{name in src_dir: name in dst_dir}`."""
    for source, target in files.items():
        shutil.copyfile(src_dir / source, dst_dir / target)
