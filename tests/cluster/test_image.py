"""The image, built from the Dockerfile as it is, run as a careful operator would run it."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
import time
import urllib.error
import urllib.request

import pytest
from support.cluster import ASSETS, build_image, run, wait_until
from support.models import REPOSITORY
from support.server import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

_HARDENED = ["--read-only", "--tmpfs", "/tmp:rw,nosuid,nodev", "--cap-drop", "ALL", "--user", "1000:1000"]
_EXAMPLES = REPOSITORY / "model_store"
# Python's own way of asking: which modules were imported without bytecode beside them?
_WITHOUT_BYTECODE = """
import importlib, os, pkgutil, sys
sys.path.insert(0, "/opt/predictor/predictor/compat")
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print(*[name for name, module in sorted(sys.modules.items())
        if (getattr(module, "__file__", None) or "").startswith("/opt")
        and module.__file__.endswith(".py") and not os.path.exists(module.__cached__ or "")])
"""


class Container:
    """A running container on the host's network."""

    def __init__(self, image, *arguments, flags=(), environment=None):
        self.port, self.name = free_port(), "predictor-test-" + secrets.token_hex(4)
        variables = {"PREDICTOR_PORT": str(self.port), "PREDICTOR_GRPC_PORT": "0", **(environment or {})}
        given = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        run("docker", "run", "-d", "--name", self.name, "--network", "host", *_HARDENED, *given, *flags,
            image, *arguments)  # fmt: skip

    def ask(self, path, body=None, **headers):
        """Send a request; returns status and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ready(self):
        with contextlib.suppress(OSError):
            return self.ask("/v2/health/ready")[0] == 200
        return False

    def wait_ready(self):
        wait_until(self.ready, 300, self.log)

    def log(self):
        done = run("docker", "logs", self.name, check=False)
        return done.stdout + done.stderr

    def state(self):
        return json.loads(run("docker", "inspect", "-f", "{{json .State}}", self.name).stdout)

    def remove(self):
        run("docker", "rm", "-f", self.name, check=False)


@pytest.fixture
def start(image):
    """Start a container of the image; ended with the test."""
    running = []

    def begin(*arguments, **options):
        running.append(Container(image, *arguments, **options))
        return running[-1]

    yield begin
    for container in running:
        container.remove()


@pytest.fixture
def layout(tmp_path):
    """A folder as KServe mounts it for TorchServe, with an archive that the project's archiver wrote."""
    from predictor.archives.archiver_cli import main as archive

    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    shutil.copy(ASSETS / "handler.py", tmp_path / "handler.py")
    words = ["--model-name", "probe", "--version", "1.0", "--handler", str(tmp_path / "handler.py")]
    assert archive([*words, "--export-path", str(tmp_path / "model-store")]) in (0, None)
    (tmp_path / "handler.py").unlink()
    snapshot = {
        "name": "startup.cfg",
        "modelCount": 1,
        "models": {"probe": {"1.0": {"defaultVersion": True, "marName": "probe.mar", "minWorkers": 1,
                                     "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 5,
                                     "responseTimeout": 60}}},
    }  # fmt: skip
    (tmp_path / "config" / "config.properties").write_text(
        "inference_address=http://127.0.0.1:8085\n"
        f"management_address=http://127.0.0.1:{free_port()}\nmetrics_address=http://127.0.0.1:{free_port()}\n"
        "enable_metrics_api=true\nservice_envelope=kserve\n"
        "model_store=/mnt/models/model-store\n"
        f"model_snapshot={json.dumps(snapshot)}\n"
    )
    for path in tmp_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    tmp_path.chmod(0o755)
    return tmp_path


def test_hardened_it_becomes_healthy_serves_the_samples_and_stops_cleanly(start):
    container = start()
    container.wait_ready()
    status, answer = container.ask("/predictions/digits", (_EXAMPLES / "digits/examples/3.png").read_bytes())
    assert (status, json.loads(answer)["label"]) == (200, "3")
    wine = (_EXAMPLES / "wine/examples/wine.json").read_bytes()
    assert container.ask("/predict/wine", wine, **{"Content-Type": "application/json"})[0] == 200
    sentence = json.dumps({"instances": ["Wait until the thread releases the lock."]}).encode()
    assert container.ask("/v1/models/docstrings:predict", sentence)[0] == 200
    wait_until(lambda: container.state()["Health"]["Status"] == "healthy", 60, container.state)
    run("docker", "stop", "-t", "60", container.name)
    assert container.state()["ExitCode"] == 0
    assert "Traceback" not in container.log()


def test_it_is_nobody_special_and_can_write_to_tmp_only(start):
    container = start("sleep", "600")
    script = (
        "import os; status = open('/proc/self/status').read()\n"
        "print(os.getuid(), os.getgid(), status.split('CapEff:')[1].split()[0])\n"
        "for path in ('/', '/opt/predictor', '/mnt/models', '/home/predictor', '/tmp'):\n"
        "    try: open(os.path.join(path, 'x'), 'w'); print(path)\n"
        "    except OSError: pass"
    )
    said = run("docker", "exec", container.name, "python", "-c", script).stdout.split()
    assert said == ["1000", "1000", "0000000000000000", "/tmp"]


def test_nothing_in_it_compiles_or_installs(image):
    compilers = "for name in cc gcc g++ clang make ld nvcc; do command -v $name; done"
    script = f"{compilers}; find /opt /root /home /tmp -name '*.whl' -size +100k 2>/dev/null"
    done = run("docker", "run", "--rm", "--network", "none", image, "sh", "-c", script, check=False)
    assert done.stdout == ""


def test_what_every_process_imports_has_its_bytecode(image):
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        *_HARDENED,
        image,
        "python",
        "-c",
        _WITHOUT_BYTECODE,
    ]
    front = run(*command, "predictor.cli", "predictor.server", "predictor.protocols", "predictor.torchserve")
    worker = run(
        *command, "predictor.runtime", "predictor.handlers", "predictor.explain", "predictor.archives"
    )
    assert (front.stdout.split(), worker.stdout.split()) == ([], [])


def test_kserves_layout_is_served_on_kserves_port(start, layout):
    container = start(flags=("-v", f"{layout}:/mnt/models:ro"))
    container.wait_ready()
    status, answer = container.ask("/v1/models/probe:predict", b'{"instances": [{"data": "x"}]}')
    assert status == 200, answer
    assert container.ask("/v2/models/digits")[0] == 404  # what is mounted hides the samples


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model_name=mine", "--model-store=/mnt/models", "--http_port=8080"],
        ["serve", "--model-store", "/mnt/models"],
        ["torchserve", "--start", "--model-store=/mnt/models/model-store",
         "--ts-config=/mnt/models/config/config.properties", "--disable-token-auth"],
    ],
    ids=["KServe's flags", "serve", "torchserve"],
)  # fmt: skip
def test_it_understands_the_arguments_of_others(start, layout, arguments):
    container = start(*arguments, flags=("-v", f"{layout}:/mnt/models:ro"))
    container.wait_ready()
    assert container.ask("/ping")[0] == 200
    body = b'{"instances": [{"data": "x"}]}'
    assert container.ask("/predictions/probe", body, **{"Content-Type": "application/json"})[0] == 200


def test_a_mount_that_its_user_may_not_read_is_named(start, tmp_path):
    tmp_path.chmod(0o700)
    container = start(flags=("-v", f"{tmp_path}:/mnt/models:ro"))
    wait_until(lambda: not container.state()["Running"], 60, container.log)
    assert container.state()["ExitCode"] == 2
    assert "cannot be read by user 1000: Permission denied" in container.log()
    assert "Traceback" not in container.log()


def test_a_mount_without_models_is_not_mistaken_for_none(start, tmp_path):
    tmp_path.chmod(0o755)
    container = start(flags=("-v", f"{tmp_path}:/mnt/models:ro"))
    wait_until(lambda: not container.state()["Running"], 60, container.log)
    assert container.state()["ExitCode"] != 0
    assert "no model to serve" in container.log()


def test_stopped_under_load_it_loses_nothing(start, layout):
    container = start(flags=("-v", f"{layout}:/mnt/models:ro"), environment={"PREDICTOR_DRAIN_DELAY": "3"})
    container.wait_ready()
    answered, lost, stopping = [], [], threading.Event()

    def client():
        body = b'{"instances": [{"data": "x"}]}'
        # Docker takes nobody out of a load balancer: clients that see "unready" stop asking, as one would.
        while not stopping.is_set():
            try:
                status, _ = container.ask("/v1/models/probe:predict", body)
            except OSError as error:
                lost.append(repr(error))
            else:
                (answered if status == 200 else lost).append(status)
            if not stopping.is_set() and not container.ready():
                stopping.set()

    clients = [threading.Thread(target=client) for _ in range(6)]
    for thread in clients:
        thread.start()
    time.sleep(3)
    run("docker", "stop", "-t", "60", container.name)
    for thread in clients:
        thread.join(60)
    assert container.state()["ExitCode"] == 0
    assert lost == []
    assert len(answered) > 20


def test_a_change_of_the_code_leaves_the_big_layers_alone(image, tmp_path):
    if image.startswith("predictor:test-"):
        changed = tmp_path / "context"
        shutil.copytree(
            REPOSITORY, changed, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
        )
        with (changed / "predictor" / "__init__.py").open("a") as file:
            file.write(f"# {secrets.token_hex()}\n")
        build_image("predictor:test-changed", context=changed)
        layers = [
            json.loads(run("docker", "image", "inspect", "-f", "{{json .RootFS.Layers}}", name).stdout)
            for name in (image, "predictor:test-changed")
        ]
        run("docker", "image", "rm", "predictor:test-changed")
        assert [a == b for a, b in zip(*layers, strict=True)].count(
            False
        ) <= 2  # the code, and the empty WORKDIR
    else:
        pytest.skip("CLUSTER_IMAGE was not built here")
