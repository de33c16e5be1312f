from __future__ import annotations

import orjson
import pytest
from kserve.errors import InferenceError, InvalidInput, ModelNotReady

from predictor import errors
from predictor.ipc.messages import Envelope, InferenceResult, Verb
from predictor.model import TorchModel


class _Served:
    """A served model that answers with its instances, or fails."""

    name = "m"
    ready = True

    def __init__(self, error=None):
        self.error = error
        self.requests = []

    async def infer(self, request):
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        key = "explanations" if request.verb is Verb.EXPLAIN else "predictions"
        return InferenceResult(body=orjson.dumps({key: orjson.loads(request.body)["instances"]}))


async def test_a_v1_payload_goes_to_the_workers_and_back():
    served = _Served()
    model = TorchModel(served)
    assert await model.healthy()
    assert await model.predict({"instances": [1, 2]}, {"x-a": "b"}) == {"predictions": [1, 2]}
    assert await model.explain({"instances": [3]}) == {"explanations": [3]}
    request = served.requests[0]
    assert (request.verb, request.envelope) == (Verb.PREDICT, Envelope.V1)
    assert request.headers == [("x-a", "b")]


@pytest.mark.parametrize(
    ("ours", "kserves"),
    [
        (errors.QueueFull("full", "m"), ModelNotReady),
        (errors.InvalidInput("'x' is missing"), InvalidInput),
        (errors.HandlerFailed("it failed"), InferenceError),
    ],
)
async def test_our_errors_become_kserves(ours, kserves):
    with pytest.raises(kserves):
        await TorchModel(_Served(ours)).predict({"instances": [1]})


async def test_another_payload_is_refused():
    with pytest.raises(InvalidInput, match="V1"):
        await TorchModel(_Served()).predict(object())
