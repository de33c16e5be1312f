"""Archives made on the fly."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from predictor.archives.writer import ArchiverOptions, package_model

_HANDLERS = Path(__file__).parent / "handlers"


def make_archive(
    store: Path, file: str, name: str, code: str = "echo", *, version: str = "1.0", config: str = ""
) -> Path:
    """Write the archive `store/file` of a model `name` with the handler `handlers/{code}.py`.

    Args:
        config: the text of its model-config.yaml.
    """
    with tempfile.TemporaryDirectory() as folder:
        config_file = None
        if config:
            config_file = str(Path(folder) / "model-config.yaml")
            Path(config_file).write_text(config)
        options = ArchiverOptions(
            model_name=name,
            handler=str(_HANDLERS / f"{code}.py"),
            version=version,
            config_file=config_file,
            export_path=Path(folder),
        )
        store.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(package_model(options), store / file))
