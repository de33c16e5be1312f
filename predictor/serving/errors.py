"""What can go wrong when the set of models, or the number of their workers, is to be changed."""

from __future__ import annotations

from predictor.errors import NOT_ALLOWED, MethodNotAllowed, ModelVersionNotFound, PredictorError


class ModelControlOff(MethodNotAllowed):
    """The set of models may not be changed through this server."""

    def __init__(self) -> None:
        """Say so; TorchServe's clients read what they read of any method that is not allowed."""
        super().__init__()
        self.message = "Model API disabled"
        self.args = (self.message,)

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text, over HTTP."""
        return NOT_ALLOWED


class ModelConflict(PredictorError):
    """The name and version are taken."""

    status = 409
    torchserve_type = "ConflictStatusException"

    def __init__(self, model: str, version: str) -> None:
        """Name what is taken."""
        super().__init__(f"Model version {version} is already registered for model {model}")


class ModelSourceNotFound(PredictorError):
    """There is no archive or model folder where the client says, or none that it may name."""

    status = 404
    torchserve_type = "ModelNotFoundException"


class ModelFileExists(PredictorError):
    """An archive of this file name lies in the model store already, and is not overwritten."""

    status = 409
    torchserve_status = 500

    def __init__(self, name: str) -> None:
        """Name the file."""
        super().__init__(f"Model file already exists {name}")


class DownloadFailed(PredictorError):
    """An archive cannot be fetched; `reason` says why."""

    status = 400
    torchserve_type = "DownloadArchiveException"

    def __init__(self, url: str, reason: str) -> None:
        """Name the `url` as the client gave it."""
        super().__init__(f"Failed to download archive from: {url}: {reason}")
        self._url = url

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the reason is in the log."""
        return f"Failed to download archive from: {self._url}"


class ModelUnusable(PredictorError):
    """An archive was found, but it cannot be opened, or its numbers contradict each other."""

    status = 400
    torchserve_status = 500

    def __init__(self, url: str, reason: str) -> None:
        """Name the `url` as the client gave it."""
        super().__init__(reason)
        self._url = url

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the reason is in the log."""
        return f"Failed to save model: {self._url}"


class RequirementsFailed(PredictorError):
    """What the archive's requirements.txt asks for cannot be installed."""

    status = 400
    torchserve_type = "ModelException"

    def __init__(self, model: str, reason: str) -> None:
        """Name the `model`."""
        super().__init__(f"Custom pip package installation failed for model {model}: {reason}")
        self._model = model

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; what pip said is in the log."""
        return f"Custom pip package installation failed for model {self._model}"


class WorkersFailed(PredictorError):
    """A worker could not load the model; `reason` says why."""

    def __init__(self, model: str, version: str, reason: str, out_of_memory: bool = False) -> None:
        """Name the model; `out_of_memory` makes the status 507."""
        self._text = f"Failed to start workers for model {model} version: {version}"
        super().__init__(f"{self._text}: {reason}")
        self.status = 507 if out_of_memory else 500

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the reason is in the log."""
        return self._text


class DefaultVersionInUse(PredictorError):
    """The default version cannot go while there are others."""

    status = 403
    torchserve_type = "InvalidModelVersionException"

    def __init__(self, model: str) -> None:
        """Name the `model`."""
        super().__init__(f"Cannot remove default version for model {model}")


class DefaultVersionNotFound(ModelVersionNotFound):
    """A version that does not exist cannot become the default."""

    def __init__(self, model: str, version: str) -> None:
        """Name both, in the words that TorchServe has for this case."""
        PredictorError.__init__(self, f"Model version {version} does not exist for model {model}")
