"""Many clients that mix predictions with explanations of every method, and check each answer."""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import random
import time
from typing import Any

import grpc

from support.explain_wires import KEYS, LEGACY, PICTURES, PREDICT, WIRES, BusyError, Question, Wires
from support.load import Client
from support.server import Server

_TARGETS = 3


@dataclasses.dataclass
class Mixed:
    """What came of it.

    Attributes:
        counts: answers, by model, method (or `predict`, or `legacy`) and protocol.
        busy: explanations that were refused because their queue was full.
        seconds: what each prediction took.
    """

    counts: collections.Counter[tuple[str, str, str]]
    busy: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)

    def milliseconds(self, share: float) -> float:
        """Return a quantile of the predictions' times."""
        return 1000 * sorted(self.seconds)[int(share * (len(self.seconds) - 1))]

    def __str__(self) -> str:
        """Say it for people."""
        explained = sum(count for key, count in self.counts.items() if key[1] != PREDICT)
        return (
            f"{len(self.seconds)} predictions (p50 {self.milliseconds(0.5):.1f} ms, "
            f"p99 {self.milliseconds(0.99):.1f} ms), {explained} explanations in {len(self.counts)} ways "
            f"(the rarest {min(self.counts.values())} times), {self.busy} times busy"
        )


def check_mixed(
    server: Server, clients: int, seconds: float, keys: int = 100, only_predict: bool = False
) -> Mixed:
    """Let clients ask at random for a while; an answer that is another's, or wrong, is an AssertionError.

    Every question is answered alone first, over V1. That is what it must be answered under load, too, over
    every protocol.

    Args:
        keys: examples of each model that are used, at most.
        only_predict: for a comparison.
    """
    offered = {} if only_predict else _offered(server)
    return asyncio.run(_Mix(server, offered, keys).run(clients, seconds))


def _offered(server: Server) -> dict[str, list[str]]:
    answers = {name: server.get(f"/v1/models/{name}/explain").json() for name in KEYS}
    return {name: [method["name"] for method in found["methods"]] for name, found in answers.items()}


class _Mix:
    def __init__(self, server: Server, offered: dict[str, list[str]], keys: int) -> None:
        self._port, self._grpc_port = server.port, server.grpc_port
        self._chance = random.Random(7)
        self._keys = {name: found[:keys] for name, found in KEYS.items()}
        self._alone: dict[Question, list[float]] = {}
        self._ways = [
            (model, method, wire)
            for model in KEYS
            for method in [PREDICT, *([LEGACY] if offered else []), *offered.get(model, ())]
            for wire, (_, is_legacy) in WIRES.items()
            if method != LEGACY or is_legacy
        ]
        self._turns: collections.deque[tuple[str, str, str]] = collections.deque()
        self._found = Mixed(collections.Counter(dict.fromkeys(self._ways, 0)))

    async def run(self, clients: int, seconds: float) -> Mixed:
        """Ask everything alone, and then much of it at once, until every way of asking has had its turn."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._grpc_port}") as channel:
            first = Wires(self._port, channel)
            for model, method, _ in dict.fromkeys((model, method, "") for model, method, _ in self._ways):
                for question in self._questions(model, method):
                    self._alone[question] = await first.v1(question)
            first.close()
            until = time.monotonic() + seconds
            await asyncio.gather(*(self._client(Wires(self._port, channel), until) for _ in range(clients)))
        return self._found

    def _questions(self, model: str, method: str) -> list[Question]:
        targets = range(1 if method == PREDICT else _TARGETS)
        return [Question(model, method, key, target) for key in self._keys[model] for target in targets]

    async def _client(self, wires: Wires, until: float) -> None:
        while time.monotonic() < until or not all(self._found.counts.values()):
            if not self._turns:
                # Every way of asking gets its turn, in an order of chance; half of them are predictions.
                explaining = [way for way in self._ways if way[1] != PREDICT]
                predicting = [way for way in self._ways if way[1] == PREDICT]
                turns = explaining + self._chance.choices(predicting, k=max(1, len(explaining)))
                self._chance.shuffle(turns)
                self._turns.extend(turns)
            model, method, wire = self._turns.popleft()
            question = self._chance.choice(self._questions(model, method))
            await self._ask(wires, question, wire)
        wires.close()

    async def _ask(self, wires: Wires, question: Question, wire: str) -> None:
        while True:
            started = time.perf_counter()
            try:
                found = await WIRES[wire][0](wires, question)
                break
            except BusyError:  # which is how the queue of explanations protects predictions
                assert question.method != PREDICT, "predictions are never refused for explanations"
                self._found.busy += 1
                await asyncio.sleep(0.05)
        if question.method == PREDICT:
            self._found.seconds.append(time.perf_counter() - started)
        self._found.counts[question.model, question.method, wire] += 1
        _compare(question, wire, found, self._alone[question])


def _compare(question: Question, wire: str, found: list[float], alone: list[float]) -> None:
    assert len(found) == len(alone), (question, wire)
    size = max(map(abs, alone), default=0.0)
    worst = max((abs(a - b) for a, b in zip(found, alone, strict=True)), default=0.0)
    assert worst <= 1e-4 + 1e-3 * size, (question, wire, worst, size)


async def measure_beside(port: int, explainers: int, seconds: float) -> tuple[float, float]:
    """Return p50 and p99, in ms, of one client's predictions of digits while others explain in a loop."""
    until = time.monotonic() + seconds
    times: list[float] = []
    instance: dict[str, Any] = {"data": base64.b64encode(PICTURES["3"]).decode()}
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
