"""Many clients that mix predictions with explanations of every method, and check each answer."""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import random
import time
from typing import Any

from support.load import Client
from support.models import SAMPLES
from support.server import Server

_DIGITS = {
    path.stem: base64.b64encode(path.read_bytes()).decode()
    for path in sorted((SAMPLES / "digits" / "examples").glob("*.png"))
}
_WINE = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
_TEXT = "Wait until another thread releases the lock"
# Small enough that a minute holds many of each.
_ARGS = {
    "integrated_gradients": {"n_steps": 16},
    "gradient_shap": {"n_samples": 5},
    "kernel_shap": {"n_samples": 40},
    "shapley_exact": {"grid": 2},
    "occlusion": {"window": 7, "stride": 7},
    "feature_ablation": {"grid": 4},
}


def check_mixed(server: Server, clients: int, seconds: float) -> dict[str, int]:
    """Let clients ask at random for a while; an answer that is another's, or wrong, is an AssertionError.

    Returns:
        How often each method, and `predict`, was answered, by "model method".
    """
    return asyncio.run(_mix(server.port, _offered(server), clients, seconds))


def _offered(server: Server) -> dict[str, list[str]]:
    models = ("digits", "wine", "docstrings")
    answers = {name: server.get(f"/v1/models/{name}/explain").json() for name in models}
    return {name: [method["name"] for method in found["methods"]] for name, found in answers.items()}


async def _mix(port: int, offered: dict[str, list[str]], clients: int, seconds: float) -> dict[str, int]:
    counts = {f"{name} {method}": 0 for name, methods in offered.items() for method in ["predict", *methods]}
    # Every way of asking gets its turn, in an order of chance.
    orders = [key for key in counts for _ in range(2)]
    chance = random.Random(7)
    turns: collections.deque[str] = collections.deque()
    alone: dict[tuple[str, str, str, int], Any] = {}
    until = time.monotonic() + seconds

    async def one(number: int) -> None:
        client = Client(port)
        while time.monotonic() < until:
            if not turns:
                chance.shuffle(orders)
                turns.extend(orders)
            order = turns.popleft()
            await _ask(client, order, chance, alone)
            counts[order] += 1
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return counts


async def _ask(
    client: Client, order: str, chance: random.Random, alone: dict[tuple[str, str, str, int], Any]
) -> None:
    """Ask once; an answer must be the one that the same question got before."""
    name, method = order.split()
    key = chance.choice(sorted(_DIGITS)) if name == "digits" else ""
    instance: Any = {"digits": {"data": _DIGITS.get(key)}, "wine": _WINE, "docstrings": {"data": _TEXT}}[name]
    target = chance.randrange(3)
    document: dict[str, Any] = {"instances": [instance]}
    if method != "predict":
        document["explain"] = {"method": method, "target": target, "args": _ARGS.get(method, {})}
    verb = "predict" if method == "predict" else "explain"
    answer = await client.request("POST", f"/v1/models/{name}:{verb}", body=document)
    while answer.status == 503:  # the queue of explanations is full, which is how it protects predictions
        assert answer.header("retry-after"), answer
        await asyncio.sleep(0.05)
        answer = await client.request("POST", f"/v1/models/{name}:{verb}", body=document)
    assert answer.status == 200, (order, answer)
    if method == "predict":
        found = [round(value, 4) for value in answer.json()["predictions"][0]["probabilities"]]
    else:
        (explanation,) = answer.json()["explanations"]
        assert (explanation["method"], explanation["target"]["index"]) == (method, target)
        found = _numbers(name, explanation)
    question = (name, method, key, 0 if method == "predict" else target)
    first = alone.setdefault(question, found)
    size = max(map(abs, first), default=0.0)
    assert len(found) == len(first), question
    worst = max((abs(a - b) for a, b in zip(found, first, strict=True)), default=0.0)
    assert worst <= 1e-4 + 1e-3 * size, (question, worst, size)


def _numbers(name: str, explanation: dict[str, Any]) -> list[float]:
    """Return the attributions, after looking at their shape."""
    if name == "wine":
        assert [feature["name"] for feature in explanation["features"]] == list(_WINE)
        return [feature["attribution"] for feature in explanation["features"]]
    (part,) = explanation["inputs"]
    if name == "docstrings":
        assert part["words"] == _TEXT.lower().split()
        return list(part["importances"])
    rows = part["attributions"]
    assert (len(rows), {len(row) for row in rows}) == (28, {28})
    return [value for row in rows for value in row]


async def measure_beside(port: int, explainers: int, seconds: float) -> tuple[float, float]:
    """Return p50 and p99, in ms, of one client's predictions of digits while others explain in a loop."""
    until = time.monotonic() + seconds
    times: list[float] = []
    instance = {"data": _DIGITS["3"]}
    wish = {"args": {"n_steps": 50}, "return": ["delta"]}

    async def predict() -> None:
        client = Client(port)
        while time.monotonic() < until:
            started = time.perf_counter()
            answer = await client.request("POST", "/v1/models/digits:predict", body={"instances": [instance]})
            times.append(1000 * (time.perf_counter() - started))
            assert answer.status == 200, answer
        client.close()

    async def explain() -> None:
        client = Client(port)
        while time.monotonic() < until:
            body = {"instances": [instance], "explain": wish}
            answer = await client.request("POST", "/v1/models/digits:explain", body=body)
            assert answer.status == 200, answer
        client.close()

    await asyncio.gather(predict(), *(explain() for _ in range(explainers)))
    times.sort()
    return times[len(times) // 2], times[int(0.99 * (len(times) - 1))]
