"""TorchServe's management operations, the same for REST and gRPC: what is done, and the texts that say so.

A protocol reads its parameters, calls one of these, and sends the text or the document on. Errors are
`PredictorError`s, whose `torchserve_message` is TorchServe's text.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from predictor.errors import InvalidInput
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.protocols.model_status import model_status
from predictor.serving.errors import ModelControlOff
from predictor.serving.manager import ModelManager, Registration
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry
from predictor.serving.store import ModelWishes

ALL_VERSIONS = "all"
_MAX_PAGE = 100
_RUNTIMES = ("python", "python3")
_IN_PROGRESS = "Processing worker updates..."


class Answer(NamedTuple):
    """What a change is answered with: an HTTP status, and a sentence."""

    status: int
    text: str


@dataclasses.dataclass(frozen=True)
class RegisterParameters:
    """The parameters of registering a model; None means that the client does not say.

    `max_batch_delay` is in milliseconds, the timeouts are in seconds.
    """

    url: str | None = None
    model_name: str = ""
    handler: str = ""
    runtime: str = ""
    batch_size: int | None = None
    max_batch_delay: int | None = None
    initial_workers: int | None = None
    response_timeout: int | None = None
    startup_timeout: int | None = None
    synchronous: bool = True
    s3_sse_kms: bool = False


class ModelManagement:
    """The operations.

    Attributes:
        enabled: whether the set of models may be changed.
    """

    def __init__(self, manager: ModelManager, enabled: bool) -> None:
        """Manage what `manager` serves."""
        self.enabled = enabled
        self._manager = manager

    @property
    def registry(self) -> Registry:
        """The models that are served."""
        return self._manager.registry

    async def register(self, given: RegisterParameters) -> Answer:
        """Add a model, or a version of one.

        Raises:
            ModelControlOff: the set of models may not be changed.
            InvalidInput: a parameter is missing or wrong.
            PredictorError: the model cannot be had; see `ModelManager.register`.
        """
        self.require_control()
        if given.url is None:
            raise InvalidInput("Parameter url is required.")
        if given.runtime and given.runtime not in _RUNTIMES:
            raise InvalidInput(f"Invalid RuntimeType value: {given.runtime}")
        wishes = ModelWishes(
            workers=given.initial_workers,
            batch_size=given.batch_size,
            max_batch_delay=given.max_batch_delay,
            response_timeout=given.response_timeout,
            startup_timeout=given.startup_timeout,
        )
        model = await self._manager.register(
            Registration(
                given.url, given.model_name, given.handler, wishes, given.synchronous, given.s3_sse_kms
            )
        )
        workers = model.policy.min_workers
        if workers and not given.synchronous:
            return Answer(202, _IN_PROGRESS)
        text = f'Model "{model.name}" Version: {model.version} registered with {workers} initial workers'
        hint = "" if workers else ". Use scale workers API to add workers for the model."
        return Answer(200, text + hint)

    async def unregister(self, name: str, version: str | None = None) -> Answer:
        """Remove a version of a model, the default one unless told otherwise, once it is idle.

        Raises:
            ModelControlOff: the set of models may not be changed.
            PredictorError: it cannot be removed; see `ModelManager.unregister`.
        """
        self.require_control()
        await self._manager.unregister(name, version)
        return Answer(200, f'Model "{name}" unregistered')

    async def scale(
        self,
        name: str,
        version: str | None = None,
        min_worker: int | None = None,
        max_worker: int | None = None,
        *,
        synchronous: bool = False,
    ) -> Answer:
        """Give a version of a model between `min_worker` (1) and `max_worker` (as many) workers.

        Raises:
            InvalidInput: the numbers contradict each other.
            PredictorError: there is no such model, or a worker cannot be started.
        """
        minimum = 1 if min_worker is None else min_worker
        maximum = minimum if max_worker is None else max_worker
        await self._manager.scale(name, version, minimum, maximum, wait=synchronous)
        if not synchronous:
            return Answer(202, _IN_PROGRESS)
        of_version = "" if version is None else f", version: {version}"
        return Answer(200, f"Workers scaled to {minimum} for model: {name}{of_version}")

    async def set_default(self, name: str, version: str) -> Answer:
        """Let requests that name no version go to this one.

        Raises:
            PredictorError: there is no such model or version.
        """
        await self._manager.set_default(name, version)
        return Answer(200, f'Default version successfully updated for model "{name}" to "{version}"')

    async def describe(
        self, name: str, version: str | None = None, *, customized: bool = False
    ) -> list[dict[str, Any]]:
        """Return what is known of a version of a model, of its default one, or of `all` of them.

        Args:
            name: of the model.
            version: None for the default one.
            customized: whether to ask the handler as well; not for `all`.

        Raises:
            PredictorError: there is no such model, or its handler fails.
        """
        if version == ALL_VERSIONS:
            return [model_status(model) for model in self.registry.versions(name)]
        model = self.registry.get(name, version)
        status = model_status(model)
        if customized:
            status["customizedMetadata"] = await _ask_handler(model)
        return [status]

    def list_models(self, limit: int | None = None, token: int | None = None) -> dict[str, Any]:
        """Return a page of the names of all models, with where each comes from.

        Args:
            limit: models on the page, 100 at most and by default.
            token: the `nextPageToken` of the page before.
        """
        size = _MAX_PAGE if limit is None or not 0 <= limit <= _MAX_PAGE else limit
        first = max(0, token or 0)
        names = self.registry.names()
        page = names[first : first + size]
        models = [{"modelName": name, "modelUrl": self.registry.default(name).url} for name in page]
        if first + size < len(names):
            return {"nextPageToken": str(first + size), "models": models}
        return {"models": models}

    def require_control(self) -> None:
        """Check that the set of models may be changed.

        Raises:
            ModelControlOff: it may not.
        """
        if not self.enabled:
            raise ModelControlOff


def read_int(value: Any) -> int | None:
    """Return a whole number of a parameter; None for what is none, which TorchServe leaves out."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = int(value) if isinstance(value, (str, int)) else None
    except ValueError:
        return None
    return number if number is not None and -(2**31) <= number < 2**31 else None


def read_bool(value: Any, default: bool) -> bool:
    """Return a parameter's truth: only `true` is true, in any case; `default` where there is none."""
    if value is None:
        return default
    return value if isinstance(value, bool) else str(value).lower() == "true"


def register_parameters(given: Mapping[str, Any]) -> RegisterParameters:
    """Read the parameters of registering a model by TorchServe's names.

    Raises:
        InvalidInput: a text is none that can be written down.
    """
    return RegisterParameters(
        url=None if given.get("url") is None else _text(given, "url"),
        model_name=_text(given, "model_name"),
        handler=_text(given, "handler"),
        runtime=_text(given, "runtime"),
        batch_size=read_int(given.get("batch_size")),
        max_batch_delay=read_int(given.get("max_batch_delay")),
        initial_workers=read_int(given.get("initial_workers")),
        response_timeout=read_int(given.get("response_timeout")),
        startup_timeout=read_int(given.get("startup_timeout")),
        synchronous=read_bool(given.get("synchronous"), True),
        s3_sse_kms=read_bool(given.get("s3_sse_kms"), False),
    )


def _text(given: Mapping[str, Any], name: str) -> str:
    """Return a text without control characters and halves of characters, which JSON can carry."""
    value = given.get(name)
    text = value if isinstance(value, str) else ""
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{name} has a character that is a control character or no Unicode")
    return text


async def _ask_handler(model: ServedModel) -> Any:
    """Return what the handler's `describe_handle` says, {} when that is no JSON object."""
    message = InferenceRequest(str(uuid.uuid4()), Verb.DESCRIBE, Envelope.TORCHSERVE)
    result = await model.infer(message)
    try:
        document = json.loads(result.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
