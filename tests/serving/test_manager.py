"""Changes to the set of models, with workers that obey the test."""

from __future__ import annotations

import asyncio

import pytest
from serving_fakes import FakeWorker, request, settle, until
from support.models import make_model

from predictor.configuration import resolve
from predictor.errors import InvalidInput, ModelNotFound, ModelNotReady, ModelVersionNotFound, ShuttingDown
from predictor.ipc.messages import Verb
from predictor.serving import pool
from predictor.serving.errors import (
    DefaultVersionInUse,
    DefaultVersionNotFound,
    ModelConflict,
    ModelUnusable,
    WorkersFailed,
)
from predictor.serving.manager import ModelManager, Registration
from predictor.serving.model import ModelState
from predictor.serving.reload import Reloader
from predictor.serving.sources import Source, Sources
from predictor.serving.store import ModelStore, ModelWishes


class Worker(FakeWorker):
    """Loads by itself, unless its model is told to fail or to wait; leaves when it is stopped."""

    failing = False
    slow = False

    async def start(self, load, startup_timeout):
        await super().start(load, startup_timeout)
        if not self.slow:
            asyncio.get_running_loop().call_soon(self.fail_to_load if self.failing else self.become_ready)

    async def stop(self, grace):
        await super().stop(grace)
        if self in self.owner.workers:
            self.die()


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    monkeypatch.setattr(pool, "WorkerProcess", Worker)
    monkeypatch.setattr(Worker, "failing", False)
    monkeypatch.setattr(Worker, "slow", False)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def made(store, tmp_path):
    """Make the manager of what a store holds."""

    def make(models: str = "none") -> ModelManager:
        configuration = resolve({"model_store": store, "models": models}, None)
        opened = ModelStore(configuration, tmp_path / "scratch")
        registry = opened.registry(opened.open().archives)
        registry.started = True
        manager = ModelManager(registry, opened, Sources(store, tmp_path / "scratch", (), 100), 1.0)
        manager.store = opened
        return manager

    return make


def _wish(url="m", workers=1, wait=True, **more):
    return Registration(url, wishes=ModelWishes(workers=workers), wait=wait, **more)


async def test_what_is_registered_is_served_and_told(made, store):
    make_model(store, "m", responseTimeout=9)
    manager = made()
    told = []
    manager.changed.append(lambda: told.append(manager.registry.names()))
    model = await manager.register(
        Registration("m", "mine", wishes=ModelWishes(2, batch_size=0, response_timeout=5, startup_timeout=6))
    )
    assert manager.registry.get("mine") is model
    assert (model.url, model.at_startup, len(model.workers)) == ("m", False, 2)
    policy = model.policy
    assert (policy.batch_size, policy.response_timeout, policy.startup_timeout) == (1, 9, 6)
    assert told == [["mine"]]
    await manager.unregister("mine")
    assert told == [["mine"], []]
    assert model.state is ModelState.STOPPED


async def test_a_handler_of_the_clients_choice(made, store):
    make_model(store, "m")
    model = await made().register(_wish(handler="other:function"))
    assert model.workers[0].load.manifest["model"]["handler"] == "other:function"


async def test_names_and_versions_are_served_once(made, store):
    make_model(store, "m")
    manager = made()
    answers = await asyncio.gather(*(manager.register(_wish()) for _ in range(3)), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers].count("ServedModel") == 1
    assert sum(isinstance(answer, ModelConflict) for answer in answers) == 2


@pytest.mark.parametrize("wait", [True, False])
async def test_a_model_that_cannot_be_loaded_is_not_there(made, store, wait, monkeypatch):
    monkeypatch.setattr(Worker, "failing", True)
    make_model(store, "m")
    manager = made()
    if wait:
        with pytest.raises(
            WorkersFailed, match="Failed to start workers for model m version: 1.0: could not"
        ):
            await manager.register(_wish())
    else:
        model = await manager.register(_wish(wait=False))
        assert manager.registry.models() == [model]
    await until(lambda: not manager.registry.models())
    monkeypatch.setattr(Worker, "failing", False)
    await manager.register(_wish())


async def test_a_registration_goes_on_when_its_client_goes_away(made, store, monkeypatch):
    monkeypatch.setattr(Worker, "slow", True)
    make_model(store, "m")
    manager = made()
    client = asyncio.ensure_future(manager.register(_wish()))
    await until(lambda: manager._changes._tasks and next(iter(manager._changes._locks), None))
    await asyncio.sleep(0.05)
    client.cancel()
    await settle()
    assert manager.registry.names() == []
    for task in list(manager._changes._tasks):
        assert not task.cancelled()
    await manager.close()
    assert manager.registry.names() == []
    with pytest.raises(ShuttingDown):
        await manager.register(_wish())


async def test_changes_to_one_model_wait_for_each_other_and_for_no_other_model(made, store, monkeypatch):
    for name in ("m", "n"):
        make_model(store, name)
    manager = made()
    monkeypatch.setattr(Worker, "slow", True)
    model = await manager.register(_wish(wait=False))
    removal = asyncio.ensure_future(manager.unregister("m"))
    monkeypatch.setattr(Worker, "slow", False)
    await manager.register(_wish("n"))
    assert not removal.done()
    model.workers[0].become_ready()
    await removal
    assert manager.registry.names() == ["n"]
    assert manager._changes._locks == {}


async def test_scaling_that_fails_is_taken_back(made, store, monkeypatch):
    make_model(store, "m")
    manager = made()
    model = await manager.register(_wish())
    monkeypatch.setattr(Worker, "failing", True)
    with pytest.raises(WorkersFailed):
        await manager.scale("m", None, 3, 3, wait=True)
    assert (model.policy.min_workers, len(model.workers)) == (1, 1)
    assert model.ready
    with pytest.raises(InvalidInput, match="max_worker cannot be less than min_worker"):
        await manager.scale("m", None, 3, 1, wait=False)
    with pytest.raises(InvalidInput, match="min_worker"):
        await manager.scale("m", None, -1, -1, wait=False)
    with pytest.raises(InvalidInput, match="more than 256"):
        await manager.scale("m", None, 1, 1_000_000, wait=False)
    with pytest.raises(ModelVersionNotFound):
        await manager.scale("m", "9", 1, 1, wait=False)


async def test_the_default_version_stays_while_there_are_others(made, store):
    make_model(store, "m")
    make_model(store, "m", version="2.0", folder="m2")
    manager = made()
    for url in ("m", "m2"):
        await manager.register(_wish(url))
    with pytest.raises(DefaultVersionInUse):
        await manager.unregister("m", "1.0")
    with pytest.raises(DefaultVersionNotFound, match=r"Model version 3\.0 does not exist for model m"):
        await manager.set_default("m", "3.0")
    with pytest.raises(ModelNotFound):
        await manager.set_default("nope", "3.0")
    await manager.set_default("m", "2.0")
    await manager.unregister("m", "1.0")
    assert [model.version for model in manager.registry.versions("m")] == ["2.0"]


async def _removing(made, store):
    """Begin to remove a model that has accepted a request; returns manager, model, job and removal."""
    make_model(store, "m")
    manager = made()
    model = await manager.register(_wish())
    job = model.submit(request("a"))
    await settle()
    removal = asyncio.ensure_future(manager.unregister("m"))
    await settle()
    return manager, model, job, removal


async def test_what_a_removed_model_has_accepted_is_answered(made, store):
    manager, model, job, removal = await _removing(made, store)
    assert manager.registry.names() == []
    with pytest.raises(ShuttingDown):
        model.submit(request("b"))
    model.workers[0].answer()
    assert (await job.future).body == b"a"
    await removal


async def test_loading_a_model_anew_replaces_it_only_if_it_has_changed(made, store):
    folder = make_model(store, "m")
    manager = made()
    first = await manager.load("m")
    assert await manager.load("m") is first
    (folder / "probe.py").write_text("# changed\n")
    second = await manager.load("m")
    assert second is not first
    assert first.state is ModelState.STOPPED
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
    third = await manager.load("m")
    assert [model.version for model in manager.registry.models()] == ["1.1"]
    assert manager.registry.get("m") is third
    manifest.write_text("no manifest")
    with pytest.raises(ModelUnusable):
        await manager.load("m")
    assert third.ready
    await manager.unload("m")
    with pytest.raises(ModelNotFound):
        await manager.unload("m")
    with pytest.raises(ModelNotFound):
        await manager.load("nope")


async def test_a_model_that_a_client_removed_comes_back_when_its_file_changes(made, store):
    folder = make_model(store, "m")
    manager = made("m")
    reloader = Reloader(manager, manager.store)
    for model in manager.registry.models():
        await model.start()
    await manager.unregister("m")
    await reloader.run()
    assert manager.registry.models() == []
    (folder / "probe.py").write_text("# changed\n")
    await reloader.run()
    assert manager.registry.names() == ["m"]


async def test_a_store_that_is_read_again_leaves_what_clients_added(made, store):
    folder = make_model(store, "m")
    make_model(store, "extra")
    manager = made("m")
    reloader = Reloader(manager, manager.store)
    for model in manager.registry.models():
        await model.start()
    added = await manager.register(_wish("extra"))
    before = manager.registry.get("m")
    await reloader.run()
    assert manager.registry.get("m") is before
    (folder / "probe.py").write_text("# changed\n")
    await reloader.run()
    assert manager.registry.get("m") is not before
    assert manager.registry.get("m").at_startup
    (folder / "MAR-INF" / "MANIFEST.json").unlink()
    (folder / "model-config.yaml").unlink()
    (folder / "probe.py").unlink()
    await reloader.run()
    assert manager.registry.models() == [added]


async def test_an_archive_with_two_names_keeps_both_when_it_changes(made, store):
    folder = make_model(store, "m")
    manager = made("a=m,b=m")
    reloader = Reloader(manager, manager.store)
    for model in manager.registry.models():
        await model.start()
    before = manager.registry.models()
    (folder / "probe.py").write_text("# changed\n")
    await reloader.run()
    assert manager.registry.names() == ["a", "b"]
    assert not set(before) & set(manager.registry.models())
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
    await reloader.run()
    assert [(model.name, model.version) for model in manager.registry.models()] == [
        ("a", "1.1"),
        ("b", "1.1"),
    ]


async def test_one_of_two_names_that_cannot_be_replaced_stays_and_is_tried_again(made, store, monkeypatch):
    folder = make_model(store, "m")
    manager = made("a=m,b=m")
    reloader = Reloader(manager, manager.store)
    for model in manager.registry.models():
        await model.start()
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
    replace = manager.replace

    async def fail_a(archive, *, at_startup):
        if archive.name == "a":
            raise ModelUnusable("a", "no luck")
        return await replace(archive, at_startup=at_startup)

    monkeypatch.setattr(manager, "replace", fail_a)
    await reloader.run()
    assert [(model.name, model.version) for model in manager.registry.models()] == [
        ("a", "1.0"),
        ("b", "1.1"),
    ]
    monkeypatch.setattr(manager, "replace", replace)
    await reloader.run()
    assert manager.registry.get("a").version == "1.1"
    assert len(manager.registry.models()) == 2


async def test_scaling_to_none_strands_no_explanation(made, store):
    make_model(store, "m")
    manager = made()
    model = await manager.register(_wish())
    running = model.submit(request("a"))
    await settle()
    waiting = model.submit(request("b", verb=Verb.EXPLAIN))
    scaling = asyncio.ensure_future(manager.scale("m", None, 0, 0, wait=True))
    await asyncio.sleep(0.05)
    model.workers[0].answer()
    await settle()
    model.workers[0].answer()
    await scaling
    assert [(await job.future).body for job in (running, waiting)] == [b"a", b"b"]
    assert model.workers == []


async def test_a_worker_that_dies_on_its_way_out_leaves_nobody_waiting(made, store, monkeypatch):
    make_model(store, "m")
    manager = made()
    model = await manager.register(_wish())
    monkeypatch.setattr(Worker, "stop", FakeWorker.stop)
    job = model.submit(request("a"))
    await settle()
    scaling = asyncio.ensure_future(manager.scale("m", None, 0, 0, wait=True))
    await until(lambda: model.workers[0].stopped)
    model.workers[0].die()
    with pytest.raises(ModelNotReady, match="no worker left"):
        await job.future
    await scaling


async def test_requests_that_wait_for_a_worker_that_cannot_come_back_are_answered(made, store, monkeypatch):
    make_model(store, "m")
    manager = made()
    model = await manager.register(_wish())
    job = model.submit(request("a"))
    await settle()
    monkeypatch.setattr(Worker, "failing", True)
    model.workers[0].die()
    await until(lambda: model.failure)
    assert not job.future.done()
    await manager.scale("m", None, 0, 0, wait=True)
    with pytest.raises(ModelNotReady, match="no worker left"):
        await job.future


async def test_a_worker_that_is_given_up_ends_the_wait_for_it(made, store, monkeypatch):
    make_model(store, "m", maxRetryTimeoutInSec=0)
    manager = made()
    monkeypatch.setattr(Worker, "slow", True)
    model = await manager.register(_wish(workers=2, wait=False))
    scaling = asyncio.ensure_future(manager.scale("m", None, 2, 2, wait=True))
    first, second = model.workers
    second.become_ready()
    second.die()
    first.become_ready()
    await until(lambda: not manager.registry.models())
    with pytest.raises(ModelNotFound):
        await scaling


async def test_a_failing_registration_does_not_make_the_server_unready(made, store, monkeypatch):
    for name in ("m", "n"):
        make_model(store, name)
    manager = made()
    await manager.register(_wish("n"))
    monkeypatch.setattr(Worker, "slow", True)
    model = await manager.register(_wish(workers=2, wait=False))
    model.workers[0].become_ready()
    monkeypatch.setattr(Worker, "stop", FakeWorker.stop)
    model.workers[1].fail_to_load()
    await until(lambda: model.state is ModelState.STOPPED)
    assert manager.registry.ready
    assert manager.registry.names() == ["n"]


async def test_a_download_that_another_model_was_made_from_stays_as_long_as_that(made, store, monkeypatch):
    folder = make_model(store, "m")
    manager = made()
    discarded = []
    monkeypatch.setattr(Source, "discard", lambda source: discarded.append(source.path))

    async def find(url, *, kms=False):
        return Source(folder, url, (("m", 1, 1),) if url.startswith("http") else ())

    monkeypatch.setattr(manager._sources, "find", find)
    await manager.register(_wish("http://models.test/m", workers=0))
    await manager.register(_wish("m", name="second"))
    replaced = await manager.load("m")
    assert replaced.ready
    assert discarded == []
    await manager.unregister("m")
    assert discarded == []
    await manager.unregister("second")
    assert discarded == [folder]


@pytest.mark.parametrize("change", ["register", "scale", "find"])
async def test_who_waits_for_a_change_that_a_shutdown_ends_is_told(made, store, monkeypatch, change):
    for name in ("m", "n"):
        make_model(store, name)
    manager = made()
    await manager.register(_wish("n"))
    monkeypatch.setattr(Worker, "slow", True)
    if change == "scale":
        waiting = asyncio.ensure_future(manager.scale("n", None, 2, 2, wait=True))
    elif change == "register":
        waiting = asyncio.ensure_future(manager.register(_wish()))
    else:

        async def find(url, *, kms=False):
            await asyncio.sleep(60)

        monkeypatch.setattr(manager._sources, "find", find)
        waiting = asyncio.ensure_future(manager.register(_wish(wait=False)))
    await asyncio.sleep(0.05)
    await manager.close()
    with pytest.raises(ShuttingDown):
        await waiting


async def test_a_shutdown_during_a_removal_answers_what_was_accepted_and_leaves_no_worker(made, store):
    manager, model, job, removal = await _removing(made, store)
    closing = asyncio.ensure_future(manager.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    model.workers[0].answer()
    await closing
    assert (await job.future).body == b"a"
    assert model.workers == []
    with pytest.raises(ShuttingDown):
        await removal
