from __future__ import annotations

import pytest

from predictor.archives.archive import open_archive
from predictor.archives.archiver_cli import main
from predictor.cli import main as cli_main


def test_short_and_long_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("handler.py", "model.py", "w.pt", "r.txt", "x.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.yaml").write_text("batchSize: 3")
    arguments = [
        "--model-name",
        "m",
        "-v",
        "1.5",
        "--handler",
        "handler.py",
        "--model-file",
        "model.py",
        "--serialized-file",
        "w.pt",
        "--extra-files",
        "x.json",
        "-r",
        "r.txt",
        "-c",
        "c.yaml",
        "--archive-format",
        "tgz",
        "--runtime",
        "python3",
    ]
    assert main(arguments) == 0
    archive = open_archive(tmp_path / "m.tar.gz", tmp_path / "s")
    assert (archive.version, archive.config.batch_size, archive.manifest.runtime) == ("1.5", 3, "python3")
    assert (archive.directory / "x.json").exists()
    assert main(arguments) == 1
    assert main([*arguments, "-f"]) == 0


def test_an_error_is_one_line_on_standard_error(tmp_path, capsys):
    arguments = ["--model-name", "m", "-v", "1", "--handler", "gone.py", "--export-path", str(tmp_path)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("ERROR - gone.py")
    assert error.count("\n") == 1


def test_required_options(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--model-name", "m", "--handler", "h"])
    assert caught.value.code == 2
    assert "-v/--version" in capsys.readouterr().err


def test_the_usage_names_the_command_that_was_typed(capsys):
    with pytest.raises(SystemExit):
        cli_main(["archive", "--help"])
    assert capsys.readouterr().out.startswith("usage: predictor archive ")
