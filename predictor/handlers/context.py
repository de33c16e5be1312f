"""What a handler can learn about its model and its requests, and say about its answers.

The names, arguments and defaults are those of TorchServe 0.12's `ts.context`, because handlers are
written to them; `predictor/compat/ts/context.py` hands these very classes out under that name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from predictor.handlers.parameters import AnswerParameters, Parameter, checked_parameters
from predictor.handlers.stopwatch import Stopwatch


class RequestProcessor:
    """One request of a batch: its headers as they came, and the status and headers of its answer."""

    def __init__(self, request_header: Mapping[str, Any]) -> None:
        """Start with status 200, no phrase and no response header; `request_header` is kept, not copied."""
        self._status_code = 200
        self._reason_phrase: str | None = None
        self._response_header: dict[str, str] = {}
        self._response_parameters: dict[str, dict[str, Parameter]] = {}
        self._request_header = request_header

    def get_request_property(self, key: str) -> Any:
        """Return the request header `key` (the case matters), or None."""
        return self._request_header.get(key)

    def get_request_properties(self) -> Mapping[str, Any]:
        """Return all request headers, the same object at every call."""
        return self._request_header

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the HTTP status of this answer."""
        self._status_code = code
        self._reason_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        """Return the HTTP status, 200 until somebody reported another one."""
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        """Return the reason phrase, None until a status was reported."""
        return self._reason_phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set a response header; a later value of the same key replaces an earlier one."""
        self._response_header[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """Return the response headers set so far, the same object at every call."""
        return self._response_header

    def get_response_header(self, key: str) -> str | None:
        """Return the response header `key` (the case matters), or None."""
        return self._response_header.get(key)

    def add_response_parameters(self, parameters: Mapping[str, Any], output: str = "") -> None:
        """Not TorchServe's: see `Context.set_response_parameters`."""
        self._response_parameters.setdefault(output, {}).update(checked_parameters(parameters))

    def get_response_parameters(self) -> AnswerParameters:
        """Return the parameters set so far, by output, "" for the whole answer."""
        return self._response_parameters


class Context:
    """The second argument of every handler call; one object lives as long as its worker.

    The worker replaces `request_ids` and `request_processor` before each call. Handlers hang their own
    attributes on it (`cache` is a common one), so nothing here restricts which attributes exist.
    """

    def __init__(  # noqa: PLR0913 - the signature is the interface
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        batch_size: int | None,
        gpu: int | str | None,
        mms_version: str = "0.12.0",
        limit_max_image_pixels: bool = True,
        metrics: Any = None,
        model_yaml_config: dict[str, Any] | None = None,
    ) -> None:
        """Describe one loaded model.

        `gpu` is the device index or None on a CPU; `manifest` is the parsed MANIFEST.json;
        `model_yaml_config` the whole model-config.yaml ({} when there is none).
        """
        self.model_name = model_name
        self.manifest = manifest
        self._system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self.request_ids: dict[int, str] | None = None
        self._request_processor: list[RequestProcessor] | None = None
        self._metrics = metrics
        self._limit_max_image_pixels = True
        self.model_yaml_config = model_yaml_config
        self.stopping_criteria: dict[int, Callable[[Any], bool]] | None = None
        self.cl_socket: Any = None
        # Not TorchServe's: what one explanation may take, 0 for the defaults (see docs/settings.md).
        self.explain_timeout = 0.0
        self.explain_max_rows = 0
        self.stopwatch: Stopwatch | None = None
        self.header_key_sequence_id = os.getenv("TS_REQUEST_SEQUENCE_ID", "ts_request_sequence_id")
        self.header_key_sequence_start = os.getenv("TS_REQUEST_SEQUENCE_START", "ts_request_sequence_start")
        self.header_key_sequence_end = os.getenv("TS_REQUEST_SEQUENCE_END", "ts_request_sequence_end")

    @property
    def system_properties(self) -> dict[str, Any]:
        """The model's folder, device, batch size and the server's name and version."""
        return self._system_properties

    @property
    def request_processor(self) -> Any:
        """One `RequestProcessor` per request of the running batch; None before the first batch."""
        return self._request_processor

    @request_processor.setter
    def request_processor(self, request_processor: Any) -> None:
        self._request_processor = request_processor

    @property
    def metrics(self) -> Any:
        """The metrics object handlers add to (`add_counter`, `add_time`, ...)."""
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        self._metrics = metrics

    def _processor(self, idx: int) -> RequestProcessor:
        """Return the processor of request `idx`; IndexError or TypeError outside a batch."""
        processor: RequestProcessor = self.request_processor[idx]
        return processor

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return the id of request `idx`; None outside a batch or for an index that is not in it."""
        return None if self.request_ids is None else self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        """Return header `key` of request `idx` as the client spelled it, or None."""
        return self._processor(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> Mapping[str, Any]:
        """Return all headers of request `idx`."""
        return self._processor(idx).get_request_properties()

    def get_sequence_id(self, idx: int) -> Any:
        """Return the sequence id of request `idx`, or None when it belongs to no sequence."""
        return self._processor(idx).get_request_property(self.header_key_sequence_id)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the `content-type` header of answer `idx`."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the `content-type` header set for answer `idx`, or None."""
        return self.get_response_headers(idx).get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of answer `idx`."""
        self._processor(idx).add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """Return the headers set for answer `idx`."""
        return self._processor(idx).get_response_headers()

    def set_response_parameters(self, idx: int, parameters: Mapping[str, Any], output: str = "") -> None:
        """Set parameters of answer `idx`, or of its output named `output`, on V2; other protocols have none.

        TorchServe's context has no such method. Of the rows of one request, each may set some.

        Raises:
            TypeError: a value is no boolean, number or text.
            ValueError: a value has no form in JSON or protobuf.
        """
        self._processor(idx).add_response_parameters(parameters, output)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the HTTP status of answer `idx`; outside a batch this does nothing."""
        if self.request_processor is not None and self.request_processor[idx] is not None:
            self._processor(idx).report_status(code, reason_phrase=phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the HTTP status of every answer of the batch."""
        for processor in self.request_processor:
            processor.report_status(code, reason_phrase=phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Return `(code, phrase)` of answer `idx`."""
        processor = self._processor(idx)
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def __eq__(self, other: object) -> bool:
        """Two contexts are equal when all their attributes are."""
        return isinstance(other, Context) and self.__dict__ == other.__dict__

    # TorchServe's Context defines equality only, so it cannot be hashed there either.
    __hash__ = None  # type: ignore[assignment]
