"""Server CPU of one V2 request with a binary tensor of 602 KB: our route against the SDK's, same model.

    python -m benchmarks.v2_binary [--requests 48] [--rounds 3] [--connections 1 8]

Both servers average a float32 tensor [1, 3, 224, 224]. CPU is user and system time of the server and all
its children, from /proc, so idle time and the client do not count. The rounds alternate. Over one connection
a server sleeps and is woken several times for each request, which costs it something; over several there is
always something to do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SHAPE = [1, 3, 224, 224]
MODEL = """
import torch

class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(1, 2, 3))
"""
CONFIG = {
    "signature": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": SHAPE[1:]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
    }
}


def body():
    """Return the bytes of a request and its headers."""
    size = 4 * SHAPE[1] * SHAPE[2] * SHAPE[3]
    entry = {"name": "x", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + bytes(size), headers


def write_store(store: Path):
    """Write the folder of our signature model."""
    import torch

    folder = store / "mean"
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "model-config.yaml").write_text(json.dumps(CONFIG))
    torch.save({}, folder / "model.pt")
    model = {
        "modelName": "mean",
        "modelVersion": "1.0",
        "handler": "signature",
        "modelFile": "model.py",
        "serializedFile": "model.pt",
        "configFile": "model-config.yaml",
    }
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": model}))


def serve_with_the_sdk(port: int):
    """Run KServe's own server with the same model."""
    sys.argv = sys.argv[:1]
    import logging

    import kserve
    import numpy as np

    class Mean(kserve.Model):
        def __init__(self):
            super().__init__("mean")
            self.ready = True

        def predict(self, payload, headers=None, response_headers=None):
            value = payload.inputs[0].as_numpy().mean(axis=(1, 2, 3), dtype=np.float32)
            output = kserve.InferOutput("y", [len(value)], "FP32")
            output.set_data_from_numpy(value, binary_data=False)
            return kserve.InferResponse(payload.id or "none", "mean", [output])

    logging.disable(logging.CRITICAL)
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start([Mean()])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(command) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_ready(port: int):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/models/mean/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"nothing is ready on port {port}")


def family(pid: int) -> list[int]:
    """Return a process and everything below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port: int, requests: int):
    """Send requests over one connection, one after the other."""
    data, headers = body()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(requests):
        connection.request("POST", "/v2/models/mean/infer", data, headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        assert b'"y"' in answer
    connection.close()


def measure(port: int, pid: int, requests: int, connections: int = 1) -> tuple[float, float]:
    """Return CPU milliseconds of one request: of the whole server, and of its first process alone."""
    pids = family(pid)
    before = [cpu_seconds(each) for each in pids]
    with ThreadPoolExecutor(connections) as clients:
        for answered in [clients.submit(ask, port, requests // connections) for _ in range(connections)]:
            answered.result()
    sent = requests // connections * connections
    spent = [cpu_seconds(each) - earlier for each, earlier in zip(pids, before, strict=True)]
    return 1000 * sum(spent) / sent, 1000 * spent[0] / sent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--requests", type=int, default=48, help="of the SDK in one round; ours gets 40 times as many"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sdk", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sdk:
        serve_with_the_sdk(arguments.sdk)
        return 0
    with tempfile.TemporaryDirectory() as store:
        write_store(Path(store))
        ours, sdk = free_port(), free_port()
        flags = [
            "--model-store",
            store,
            "--port",
            str(ours),
            "--grpc-port",
            "0",
            "--no-access-log",
            "--threads",
            "1",
        ]
        processes = {
            "predictor": (ours, start([sys.executable, "-m", "predictor", "serve", *flags]), 40),
            "kserve SDK": (sdk, start([sys.executable, __file__, "--sdk", str(sdk)]), 1),
        }
        try:
            for port, process, _ in processes.values():
                wait_ready(port)
                measure(port, process.pid, 5)
            for connections in arguments.connections:
                report(processes, arguments, connections)
            return 0
        finally:
            for _, process, _ in processes.values():
                process.terminate()
            for _, process, _ in processes.values():
                process.wait()


def report(processes, arguments, connections: int):
    rounds = {name: [] for name in processes}
    for _ in range(arguments.rounds):
        for name, (port, process, factor) in processes.items():
            rounds[name].append(measure(port, process.pid, arguments.requests * factor, connections))
    totals = {}
    print(f"V2 binary, 602 KB, {connections} at once: CPU milliseconds a request (median of the rounds; all)")
    for name, values in rounds.items():
        totals[name] = statistics.median(total for total, _ in values)
        front = statistics.median(front for _, front in values)
        listed = ", ".join(f"{total:.3f}" for total, _ in values)
        print(f"  {name:<12}{totals[name]:9.3f}   front end alone {front:9.3f}   ({listed})")
    print(
        f"  the SDK's route takes {totals['kserve SDK'] / totals['predictor']:.0f} times as much", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
