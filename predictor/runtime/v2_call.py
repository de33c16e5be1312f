"""What a V2 request says, whichever way it came: the same for REST and gRPC."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

from predictor.errors import InvalidInput
from predictor.handlers.tensors import Tensor
from predictor.ipc.messages import InferenceRequest

Headers = list[tuple[str, str]]
Encoded = tuple[bytes, Headers]
# Triton's extensions that this server lacks, and without which a client would misread the answer.
_UNKNOWN = {
    "shared_memory_region": "memory is not shared with clients",
    "classification": "outputs are answered as they are",
}


def check_parameters(tensor: str, parameters: Container[str]) -> None:
    """Refuse parameters of an input or output that must not be ignored.

    Raises:
        InvalidInput: there is one; the message names it and the tensor.
    """
    for name, reason in _UNKNOWN.items():
        if name in parameters:
            raise InvalidInput(f"Tensor '{tensor}': parameter '{name}' is not supported: {reason}")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An output that a request asks for; `binary` says how, None leaves that to the request."""

    name: str
    binary: bool | None = None


@dataclasses.dataclass(frozen=True)
class Call:
    """A request, decoded.

    Attributes:
        id: the client's own, "" when it gave none.
        inputs: at least one.
        wanted: the outputs to answer, in order; empty for all.
        binary: whether outputs are answered as bytes where `wanted` does not say.
        parameters: those of inputs, by the name of the input.
        options: the parameters of the whole request.
    """

    id: str
    inputs: list[Tensor]
    wanted: list[Wanted]
    binary: bool
    parameters: dict[str, dict[str, Any]]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def answer_id(self, request: InferenceRequest) -> str:
        """Return the id of the answer: the client's, or that in the log and in x-request-id."""
        if self.id or "." not in request.request_id:
            return self.id or request.request_id
        asked = next((value for name, value in request.headers if name.lower() == "x-request-id"), "")
        # A client may use its id twice, so ours is longer then.
        is_asked = asked and request.request_id.startswith(f"{asked}.")
        return asked if is_asked else request.request_id

    def wants_binary(self, name: str) -> bool:
        """Say whether the output `name` goes as bytes."""
        for item in self.wanted:
            if item.name == name and item.binary is not None:
                return item.binary
        return self.binary
