"""Which model answers to which name and version."""

from __future__ import annotations

from predictor.errors import ModelNotFound, ModelVersionNotFound
from predictor.serving.model import ModelState, ServedModel
from predictor.telemetry.record import CURRENT


class Registry:
    """Models by name and version, with a default version for each name, and aliases for names.

    The first version that is added under a name is its default, as in TorchServe.

    Attributes:
        started: every model of the start has been loaded, or has failed to.
        accepting: False once the server is shutting down.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._versions: dict[str, dict[str, ServedModel]] = {}
        self._defaults: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self.accepting = True
        self.started = False

    def add(self, model: ServedModel, *, default: bool = False) -> ServedModel | None:
        """Serve `model` under its name and version; returns the model that it replaces, if any.

        Requests that the replaced model has accepted stay with it: stop it to let it finish them.
        """
        versions = self._versions.setdefault(model.name, {})
        replaced = versions.get(model.version)
        if replaced is not None:
            model.meter.go_on_from(replaced.meter)
        versions[model.version] = model
        if default or model.name not in self._defaults:
            self._defaults[model.name] = model.version
        return replaced

    def remove(self, model: ServedModel) -> None:
        """Stop sending requests to `model`; the newest other version becomes the default if it was."""
        versions = self._versions[model.name]
        del versions[model.version]
        if not versions:
            del self._versions[model.name], self._defaults[model.name]
        elif self._defaults[model.name] == model.version:
            self._defaults[model.name] = list(versions)[-1]

    def set_default(self, model: ServedModel) -> None:
        """Let requests that name no version go to `model`, one of ours."""
        self._defaults[model.name] = model.version

    def is_default(self, model: ServedModel) -> bool:
        """Say whether requests that name no version go to `model`."""
        return self._defaults.get(model.name) == model.version

    def versions(self, name: str) -> list[ServedModel]:
        """Return every version of a model, in the order they were added.

        Raises:
            ModelNotFound: nothing has this name.
        """
        return list(self._named(name).values())

    def alias(self, alias: str, name: str) -> None:
        """Let `alias` mean the model `name` too; a model of that very name wins."""
        self._aliases[alias] = name

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model, in its default version unless told otherwise.

        Raises:
            ModelNotFound: nothing has this name.
            ModelVersionNotFound: the name is known, the version is not.
        """
        versions = self._named(name)
        wanted = self._defaults[next(iter(versions.values())).name] if version is None else version
        model = versions.get(wanted)
        if model is None:
            raise ModelVersionNotFound(name, wanted)
        record = CURRENT.get()
        if record is not None:
            record.found(model.name, model.version, version)
        return model

    def _named(self, name: str) -> dict[str, ServedModel]:
        versions = self._versions.get(name) or self._versions.get(self._aliases.get(name, ""))
        if not versions:
            raise ModelNotFound(name, self.names())
        return versions

    def default(self, name: str) -> ServedModel:
        """Return the default version of a model of this very name, for lists of models."""
        return self._versions[name][self._defaults[name]]

    def has(self, name: str, version: str) -> bool:
        """Say whether a model has this very name, not an alias, and this version."""
        return version in self._versions.get(name, {})

    def names(self) -> list[str]:
        """Return the names of all models, sorted, aliases left out."""
        return sorted(self._versions)

    def models(self) -> list[ServedModel]:
        """Return every version of every model, by name and then in the order they were added."""
        return [model for name in self.names() for model in self._versions[name].values()]

    @property
    def ready(self) -> bool:
        """Whether all models of the start answer, and new requests are welcome.

        A model that is added, or gets its first worker, while the server runs must not turn away
        requests for the others.
        """
        if not (self.accepting and self.started):
            return False
        wanted = [model for model in self.models() if model.policy.min_workers]
        return all(model.ready or model.state is ModelState.LOADING for model in wanted)

    @property
    def healthy(self) -> bool:
        """Whether no model has been short of workers for too long."""
        return all(model.healthy for model in self.models())

    @property
    def serving(self) -> bool:
        """TorchServe's /ping: healthy, once the start is over."""
        return self.started and self.healthy
