"""How much of a model's own speed is left behind the server: `digits`, PNG in, JSON out.

    python -m benchmarks.digits [--rounds 3] [--seconds 4]

Rounds of the raw loop (decode, model, encode, one process, one thread) and of the server at 1, 8 and 64
clients alternate on the same cores; the medians are printed, and how many requests failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_store" / "digits"
PICTURE = MODEL / "examples" / "3.png"
CLIENTS = (1, 8, 64)
BATCHES = (1, 32)


def raw_loop(batch: int, seconds: float) -> float:
    """Return rows a second of decode, model and encode without a server, in a process of its own."""
    code = f"""
import io, json, sys, time, torch
sys.path.insert(0, {str(MODEL)!r})
torch.set_num_threads(1)
from PIL import Image
import model, transform
net = next(c for c in vars(model).values() if isinstance(c, type) and c.__module__ == "model")()
net.load_state_dict(torch.load({str(MODEL / "model.pt")!r}, weights_only=True))
net.eval()
data = open({str(PICTURE)!r}, "rb").read()

@torch.inference_mode()
def step():
    x = torch.stack([transform.to_tensor(Image.open(io.BytesIO(data))) for _ in range({batch})])
    p = torch.softmax(net(x), -1)
    s, i = p.max(-1)
    return [json.dumps(dict(label=str(k), score=v, probabilities=q), indent=2)
            for k, v, q in zip(i.tolist(), s.tolist(), p.tolist())]

for _ in range(20):
    step()
rows, start = 0, time.perf_counter()
while time.perf_counter() - start < {seconds}:
    step()
    rows += {batch}
print(rows / (time.perf_counter() - start))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    return float(done.stdout)


async def server_round(port: int, clients: int, seconds: float) -> tuple[float, float, int]:
    """Return requests a second, the median latency in ms, and how many failed."""
    body = PICTURE.read_bytes()
    head = f"POST /predictions/digits HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    latencies: list[float] = []
    failures = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            failures += not answer.startswith(b"HTTP/1.1 200")
            latencies.append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = len(latencies) / (time.perf_counter() - started)
    return rate, statistics.median(latencies) * 1000, failures


def start_server() -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "predictor", "serve", "--model-store", str(MODEL), "--port", str(port)]
    command += ["--no-access-log", "--threads", "1", "--grpc-port", "0", "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT)
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
                return process, port
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    process.kill()
    raise SystemExit("the server did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    process, port = start_server()
    results: dict[str, list[float]] = {}
    failures = 0
    try:
        for clients in CLIENTS:
            asyncio.run(server_round(port, clients, 1.0))
        for _ in range(options.rounds):
            for batch in BATCHES:
                rate = raw_loop(batch, options.seconds)
                results.setdefault(f"raw loop, batch {batch}", []).append(rate)
            for clients in CLIENTS:
                rate, latency, failed = asyncio.run(server_round(port, clients, options.seconds))
                results.setdefault(f"server, {clients} clients", []).append(rate)
                results.setdefault(f"server, {clients} clients, ms", []).append(latency)
                failures += failed
    finally:
        process.terminate()
        process.wait()
    best = max(statistics.median(results[f"raw loop, batch {batch}"]) for batch in BATCHES)
    for name, values in results.items():
        median = statistics.median(values)
        share = "" if name.endswith("ms") else f"   {median / best:.2f} of the best raw loop"
        print(f"{name:<24} {median:10.2f}{share}")
    print(f"failed requests: {failures}; rounds: {options.rounds}; cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()
