"""The model that KServe's ModelServer is given: `predict` and `explain` over our workers."""

from __future__ import annotations

import uuid
from typing import Any

import kserve
import orjson
from kserve.errors import InferenceError, InvalidInput, ModelNotReady

from predictor.errors import PredictorError
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.serving.model import ServedModel


class TorchModel(kserve.Model):  # type: ignore[misc]  # kserve ships no type information
    """A served model as KServe's own routes and repository see it.

    Our routes do not pass through here: they hand bytes to the worker as they came. This is what
    KServe's data plane calls: its repository, its readiness, and whoever uses the model as a library.
    """

    def __init__(self, served: ServedModel) -> None:
        """Wrap `served` under its own name."""
        super().__init__(served.name)
        self.served = served

    async def healthy(self) -> bool:
        """Return whether a worker would answer now."""
        return self.served.ready

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Answer a V1 payload `{"instances": [...]}` with `{"predictions": [...]}`.

        Raises:
            InvalidInput, ModelNotReady, InferenceError: KServe's errors for ours.
        """
        return await self._run(Verb.PREDICT, payload, headers)

    async def explain(self, payload: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Answer a V1 payload with `{"explanations": [...]}`; errors as `predict`."""
        return await self._run(Verb.EXPLAIN, payload, headers)

    async def _run(self, verb: Verb, payload: Any, headers: dict[str, str] | None) -> dict[str, Any]:
        if not isinstance(payload, dict):
            raise InvalidInput(
                "Expected a V1 payload; V2 is answered by the server's own routes and gRPC service"
            )
        request = InferenceRequest(
            request_id=str(uuid.uuid4()),
            verb=verb,
            envelope=Envelope.V1,
            headers=list((headers or {}).items()),
            content_type="application/json",
            body=orjson.dumps(payload),
        )
        try:
            result = await self.served.infer(request)
        except PredictorError as error:
            raise _kserve_error(error, self.name) from error
        answer: dict[str, Any] = orjson.loads(result.body)
        return answer


def _kserve_error(error: PredictorError, name: str) -> Exception:
    kserve_error: Exception
    if error.status == 503:
        kserve_error = ModelNotReady(name, error.message)
    elif 400 <= error.status < 500:
        kserve_error = InvalidInput(error.message)
    else:
        kserve_error = InferenceError(error.message)
    return kserve_error
