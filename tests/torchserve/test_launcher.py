from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from predictor.torchserve import launcher
from predictor.torchserve.config import TorchServeConfig, load_torchserve_config
from predictor.torchserve.launcher import LaunchOptions, main, serve_arguments
from predictor.torchserve.models import LoadModels, ModelRequest
from predictor.torchserve.pidfile import PidFile, default_path

STARTED = "--started-line=Model server started."
TOKENS = "--token-authorization"
PORTS = ["--management-address=http://127.0.0.1:8081", "--metrics-address=http://127.0.0.1:8082"]
DEFAULTS = [*PORTS, TOKENS]
GRPC = "--grpc-inference-port=-1"

STUB = """
import json, pathlib, signal, sys, time
if "--fail" in sys.argv:
    sys.exit("no model to serve")
pathlib.Path("arguments.json").write_text(json.dumps(sys.argv[1:]))
def stop(*_):
    time.sleep(0.3)
    pathlib.Path("stopped").touch()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("Model server started.", flush=True)
while True: signal.pause()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder with a model store, which is also the temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TS_CONFIG_FILE", raising=False)
    (tmp_path / "store").mkdir()
    return tmp_path


@pytest.fixture
def served(monkeypatch):
    """Put a list of the arguments in the place of the server."""
    calls: list[list[str]] = []

    def serve(argv: list[str]) -> int:
        calls.append(argv)
        return 0

    monkeypatch.setattr("predictor.cli.main", serve)
    return calls


def foreground(*arguments: str) -> int:
    return main(["--start", "--foreground", "--model-store", "store", *arguments])


def test_what_torchserve_would_do_without_more():
    arguments = serve_arguments(LaunchOptions(foreground=True, model_store=Path("store")), TorchServeConfig())
    assert arguments == ["serve", STARTED, "--model-store=store", "--models=none", *DEFAULTS, GRPC]


def test_all_that_can_be_said():
    options = LaunchOptions(
        foreground=False,
        model_store=Path("store"),
        models=LoadModels(requests=(ModelRequest("a.mar"), ModelRequest("c.mar", "b"))),
        disable_token_auth=True,
        enable_model_api=True,
        snapshots=Path("logs/config"),
        extra=("--port", "8099"),
    )
    assert serve_arguments(options, TorchServeConfig(path=Path("f.properties"))) == [
        "serve",
        STARTED,
        "--config=f.properties",
        "--model-store=store",
        "--models=a.mar,b=c.mar",
        "--snapshot-folder=logs/config",
        *PORTS,
        "--no-token-authorization",
        "--enable-model-api",
        "--drain-delay=0",
        "--port",
        "8099",
    ]


def test_kserves_layout_leaves_8081_to_grpc(tmp_path):
    """As the arguments of KServe's own runtime: --ts-config=/mnt/models/config/config.properties."""
    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    file = tmp_path / "config" / "config.properties"
    file.write_text("inference_address=http://0.0.0.0:8085\n")
    arguments = serve_arguments(LaunchOptions(foreground=True), load_torchserve_config(file, {}))
    assert [word for word in arguments if "address" in word] == [
        "--management-address=http://127.0.0.1:9000",
        "--metrics-address=http://127.0.0.1:8082",
    ]


@pytest.mark.parametrize(
    ("written", "environment", "passed"),
    [
        ("", {}, [TOKENS]),
        ("disable_token_authorization=false\n", {}, []),
        ("disable_token_authorization=true\n", {}, []),
        ("", {"PREDICTOR_TOKEN_AUTHORIZATION": "false"}, []),
    ],
)
def test_tokens_are_asked_for_unless_something_says_whether(
    written, environment, passed, folder, served, monkeypatch
):
    """The file and the environment would lose against a flag."""
    (folder / "config.properties").write_text(f"load_models=all\n{written}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert foreground() == 0
    assert [argument for argument in served[0] if argument.endswith("token-authorization")] == passed


@pytest.mark.parametrize(
    ("written", "passed"),
    [
        (["--models", "all"], "--models=all"),
        (["--models=ALL"], "--models=all"),
        (["--models", "a.mar", "b=c.mar", "--ncs"], "--models=a.mar,b=c.mar"),
        (["--models", "a.mar,b=c.mar"], "--models=a.mar,b=c.mar"),
        (["--disable-token-auth"], "--no-token-authorization"),
        (["--dt"], "--no-token-authorization"),
        (["--enable-model-api"], "--enable-model-api"),
        (["--model-api-enabled"], "--enable-model-api"),
        (["--model_name=mine"], "--model_name=mine"),
        (["--model"], "--model"),
    ],
)
def test_flags(written, passed, served):
    assert foreground(*written) == 0
    assert passed in served[0]


def test_idle_flags_are_reported_with_a_reason(served, capsys):
    assert foreground("--log-config", "log4j2.xml", "--plugins-path=p", "--no-config-snapshots") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "torchserve: --log-config has no effect here",
        "torchserve: --plugins-path has no effect here",
    ]


def test_the_file_is_found_and_passed_on(folder, served, monkeypatch):
    (folder / "config.properties").write_text("model_store=store\nload_models=all\n")
    assert main(["--foreground", "--ncs"]) == 0
    assert served[0] == ["serve", STARTED, f"--config={folder}/config.properties", *DEFAULTS]
    (folder / "other.properties").write_text("load_models=a.mar\n")
    assert foreground("--ts-config", "other.properties", "--models=b.mar", "--ncs") == 0
    assert served[1][2:-3] == [f"--config={folder}/other.properties", "--model-store=store", "--models=b.mar"]
    monkeypatch.setenv("TS_CONFIG_FILE", "config.properties")
    assert foreground("--ts-config", "other.properties", "--ncs") == 0
    assert served[2][2:-3] == [f"--config={folder}/config.properties", "--model-store=store"]


def test_the_last_snapshot_is_what_a_start_without_a_file_goes_on_with(folder, served, monkeypatch):
    (folder / "config.properties").write_text("load_models=all\n")
    (folder / "other.properties").write_text("load_models=all\n")
    snapshots = folder / "logs" / "config"
    snapshots.mkdir(parents=True)
    for name in ("20260101000000001-startup.cfg", "20260101000000002-shutdown.cfg"):
        (snapshots / name).write_text('model_store=store\nmodel_snapshot={"models":{}}\n')
    assert main(["--foreground"]) == 0
    assert f"--config={snapshots}/20260101000000002-shutdown.cfg" in served[0]
    assert main(["--foreground", "--ncs", "--model-store=store"]) == 0
    assert f"--config={folder}/config.properties" in served[1]
    assert main(["--foreground", "--ts-config=other.properties", "--model-store=store"]) == 0
    assert f"--config={folder}/other.properties" in served[2]
    monkeypatch.setenv("LOG_LOCATION", str(folder / "elsewhere"))
    assert main(["--foreground", "--model-store=store"]) == 0
    assert f"--config={folder}/config.properties" in served[3]
    assert f"--snapshot-folder={folder}/elsewhere/config" in served[3]


def test_addresses_of_the_file_stay(folder, served):
    (folder / "config.properties").write_text("management_address=http://0.0.0.0:9999\n")
    assert foreground("--ncs") == 0
    assert PORTS[0] not in served[0]
    assert PORTS[1] in served[0]


def test_a_snapshot_beats_the_command_line(folder, served, capsys):
    (folder / "config.properties").write_text('model_snapshot={"models": {"m": {"1.0": {}}}}\n')
    assert foreground("--models=all", "--ncs") == 0
    assert served[0][2:-3] == [f"--config={folder}/config.properties", "--model-store=store"]
    assert "--models does not count" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start"], "--model-store is missing"),
        (["--start", "--model-store", "nowhere"], "model store nowhere does not exist"),
        (["--start", "--ts-config", "nowhere.properties"], "nowhere.properties: cannot be read"),
        (["--start", "--ts-config", "broken.properties"], "broken.properties:1: job_queue_size: 'x' is not"),
    ],
)
def test_what_cannot_be_started_says_why(arguments, message, folder, served, capsys):
    (folder / "broken.properties").write_text("job_queue_size=x\n")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert served == []


def test_start_and_stop_exclude_each_other(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--start", "--stop"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version(flag, capsys):
    assert main([flag]) == 0
    assert capsys.readouterr().out.startswith("TorchServe Version is 0.12.0\nserved by predictor ")


def test_stop_without_a_server(capsys):
    assert main(["--stop"]) == 0
    assert capsys.readouterr().out == "TorchServe is not running.\n"


def test_the_foreground_server_is_known_while_it_runs(monkeypatch, capsys):
    seen = []

    def serve(argv: list[str]) -> int:
        seen.append(PidFile(default_path()).running_process())
        assert foreground() == 1
        return 3

    monkeypatch.setattr("predictor.cli.main", serve)
    assert foreground() == 3
    assert seen == [os.getpid()]
    assert f"TorchServe is already running (process {os.getpid()})" in capsys.readouterr().err
    assert PidFile(default_path()).running_process() is None


def test_a_read_only_machine_still_serves_in_the_foreground(monkeypatch, served, capsys):
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    assert foreground() == 0
    assert len(served) == 1
    assert "will not find this server" in capsys.readouterr().err
    assert main(["--start", "--model-store", "store"]) == 1


def test_a_missing_interpreter_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(launcher, "SERVER_COMMAND", ("/nowhere/python",))
    assert main(["--start", "--model-store", "store"]) == 1
    assert "cannot start /nowhere/python: No such file" in capsys.readouterr().err
    assert PidFile(default_path()).running_process() is None


@pytest.fixture
def torchserve(folder):
    """Run the command in a process of its own, with a stub in the place of the server."""
    (folder / "stub.py").write_text(STUB)
    script = textwrap.dedent(f"""
        import sys
        from predictor.torchserve import launcher
        launcher.SERVER_COMMAND = (sys.executable, {str(folder / "stub.py")!r})
        sys.exit(launcher.main())
    """)
    (folder / "torchserve.py").write_text(script)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder)}

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        with (folder / "output").open("ab") as output:
            return subprocess.run(
                [sys.executable, "torchserve.py", *arguments],
                stdout=output,
                stderr=output,
                timeout=120,
                env=environ,
                check=False,
            )

    yield run
    run("--stop")


def wait_for(text: str, file: Path) -> None:
    deadline = time.monotonic() + 60
    while text not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)


def test_a_daemon_from_start_to_stop(torchserve, folder):
    output = folder / "output"
    assert torchserve("--start", "--ncs", "--model-store", "store", "--models", "all").returncode == 0
    wait_for("Model server started.\n", output)
    process = PidFile(default_path()).running_process()
    assert process
    assert f"TorchServe is starting (process {process}): " in output.read_text()
    assert output.read_text().count("Model server started.") == 1
    assert os.getsid(process) == process

    assert torchserve("--start", "--model-store", "store").returncode == 1
    assert f"TorchServe is already running (process {process})" in output.read_text()
    assert (
        '["serve", "--started-line=Model server started.", "--model-store=store"'
        in (folder / "arguments.json").read_text()
    )

    assert torchserve("--stop", "--foreground").returncode == 0
    assert (folder / "stopped").exists()  # that is, it has waited
    assert output.read_text().endswith("TorchServe has stopped.\n")
    assert torchserve("--stop").returncode == 0
    assert output.read_text().endswith("TorchServe is not running.\n")


def test_a_daemon_that_fails_or_is_killed_does_not_block_the_next(torchserve, folder):
    output = folder / "output"
    assert torchserve("--start", "--model-store", "store", "--fail").returncode == 0
    wait_for("no model to serve", output)
    pid_file = PidFile(default_path())
    while pid_file.running_process() is not None:
        time.sleep(0.05)
    assert torchserve("--start", "--model-store", "store").returncode == 0
    wait_for("Model server started.\n", output)
    process = pid_file.running_process()
    assert process
    os.kill(process, 9)
    while pid_file.running_process() is not None:
        time.sleep(0.05)
    assert torchserve("--start", "--model-store", "store").returncode == 0
    assert "already running" not in output.read_text()


def test_kserves_command_line(folder, served):
    """As the runtime that KServe ships starts it, with what an InferenceService appends."""
    (folder / "config").mkdir()
    (folder / "model-store").mkdir()
    file = folder / "config" / "config.properties"
    file.write_text(
        "inference_address=http://0.0.0.0:8085\nmodel_store=/mnt/models/model-store\n"
        'model_snapshot={"models": {"mnist": {"1.0": {"marName": "mnist.mar"}}}}\n'
    )
    arguments = [
        "--start",
        "--foreground",
        f"--model-store={folder}/model-store",
        f"--ts-config={file}",
        "--disable-token-auth",
        "--enable-model-api",
        "--port=8080",
    ]
    assert main(arguments) == 0
    assert served[0][1:] == [
        STARTED,
        f"--config={file}",
        f"--model-store={folder}/model-store",
        f"--snapshot-folder={folder}/logs/config",
        "--management-address=http://127.0.0.1:9000",
        PORTS[1],
        "--no-token-authorization",
        "--enable-model-api",
        "--port=8080",
    ]
    config = load_torchserve_config(file, {})
    assert config.settings["port"] == 8085
    assert config.settings["models"] == "mnist=mnist.mar"
