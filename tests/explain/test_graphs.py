"""Which passes are recorded, tried and kept: with recorders that are wrong, slow or broken; without a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import logging
import weakref

import numpy as np
import pytest
import torch
from explain_fakes import FunctionalMlp, SmallCnn, TwoInputs, examples, features, images, make
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from predictor.errors import InvalidInput
from predictor.explain import graphs as graphs_module
from predictor.explain import model as model_module
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.config import ExplainConfig, ExplainConfigError, parse_config
from predictor.explain.examples import Subject, gradients
from predictor.explain.graphs import Graphs, graphs_of
from predictor.explain.methods import find_method
from predictor.explain.model import ExplainedModel
from predictor.explain.shadow import ModelKind, kind_of, shadow_copy

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorded:
    """Runs the pass as it was recorded, on copies of its tensors, and then spoils the answer."""

    def __init__(self, run, tensors, spoil):
        self.held = tuple(tensor.detach().clone() for tensor in tensors)
        self.run, self.spoil, self.calls, self.dropped = run, spoil, 0, False

    def __call__(self, tensors):
        assert not self.dropped
        self.calls += 1
        for place, tensor in zip(self.held, tensors, strict=True):
            assert place.shape == tensor.shape
            place.copy_(tensor)
        return self.spoil(self, tuple(tensor.clone() for tensor in self.run(self.held)))

    def drop(self):
        self.dropped = True


class Recorder:
    """Records what it is asked to.

    Attributes:
        spoil: what is made of each answer, by the recorded pass.
        cost: seconds of a recorded pass, where a plain one takes 1.
        failure: raised instead of recording.
    """

    def __init__(self, spoil=lambda recorded, found: found, cost=0.5, failure=None):
        self.spoil, self.cost, self.failure = spoil, cost, failure
        self.recorded = []
        self.asked = 0

    def capture(self, run, tensors):
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        self.recorded.append(Recorded(run, tensors, self.spoil))
        return self.recorded[-1]

    def seconds(self, run):
        run()
        return self.cost if isinstance(run.func, Recorded) else 1.0

    @property
    def kept(self):
        return [one for one in self.recorded if not one.dropped]


class Counting:
    """A pass that counts its calls."""

    def __init__(self, function=lambda rows: rows * 2 + 1):
        self.function, self.calls = function, 0

    def __call__(self, tensors):
        self.calls += 1
        return tuple(self.function(tensor) for tensor in tensors)


def rows(count=2, seed=0):
    return (torch.randn(count, 1, 16, generator=torch.Generator().manual_seed(seed)),)


def run_many(graphs, one_pass, times, count=2):
    """Run passes with other numbers each time; all answers are what the pass answers."""
    for seed in range(times):
        tensors = rows(count, seed)
        torch.testing.assert_close(
            graphs.run(one_pass, tensors),
            Counting(one_pass.function)(tensors),
            rtol=0,
            atol=0,
            equal_nan=True,
        )


def scaled(factor):
    return lambda recorded, found: tuple(tensor * factor for tensor in found)


def test_the_third_pass_of_a_shape_is_recorded_and_the_fifth_is_run_by_the_graph():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    run_many(graphs, one_pass, 2)
    assert recorder.asked == 0
    run_many(graphs, one_pass, 1)
    (graph,) = recorder.recorded
    run_many(graphs, one_pass, 1)  # compared once more, with numbers that it was not recorded with
    calls, replays = one_pass.calls, graph.calls
    run_many(graphs, one_pass, 40)
    assert (one_pass.calls, graph.calls) == (calls + 40, replays + 40)  # a recorded one calls it, too
    assert recorder.asked == 1


def test_what_a_graph_answers_stays_when_it_runs_again():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    run_many(graphs, one_pass, 5)
    first = graphs.run(one_pass, rows(seed=7))
    graphs.run(one_pass, rows(seed=8))
    torch.testing.assert_close(first, one_pass(rows(seed=7)))


def test_every_shape_and_every_pass_has_its_own():
    recorder, one_pass, other = Recorder(), Counting(), Counting(lambda rows: rows**2)
    graphs = Graphs(recorder, nn.Identity()).renewed()
    for _ in range(3):
        run_many(graphs, one_pass, 4, count=2)
        run_many(graphs, one_pass, 4, count=5)
        run_many(graphs, other, 4, count=2)
    assert len(recorder.kept) == recorder.asked == 3


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(failure=RuntimeError("it waits for the GPU\nmore")), "CUDA graphs: it waits for the GPU"),
        (Recorder(failure=InvalidInput("no gradients")), "no gradients"),
        (Recorder(failure=torch.OutOfMemoryError("too large")), "too large"),
        (Recorder(spoil=scaled(1.2)), "one answers otherwise"),
        (Recorder(spoil=scaled(torch.nan)), "one answers otherwise"),
        (
            Recorder(spoil=lambda recorded, found: tuple(tensor[:1] for tensor in found)),
            "one answers otherwise",
        ),
        (Recorder(spoil=lambda recorded, found: ()), "one answers otherwise"),
        (Recorder(spoil=lambda recorded, found: tuple(t.double() for t in found)), "one answers otherwise"),
    ],
)
def test_one_that_fails_or_answers_otherwise_ends_all_graphs(recorder, reason, caplog):
    graphs, one_pass = Graphs(recorder, nn.Identity()).renewed(), Counting()
    with caplog.at_level(logging.INFO):
        run_many(graphs, one_pass, 10)
        run_many(graphs.renewed(), one_pass, 10, count=3)
    assert recorder.asked == 1
    assert not recorder.kept
    (told,) = caplog.messages
    assert told.startswith("explanations go on without CUDA graphs: ")
    assert told.endswith(reason) or reason in told
    assert "\n" not in told


def test_a_single_wrong_row_among_many_is_noticed():
    def spoil(recorded, found):
        found[0][17] = found[0][16]
        return found

    recorder, one_pass = Recorder(spoil), Counting()
    run_many(Graphs(recorder, nn.Identity()).renewed(), one_pass, 6, count=2000)
    assert recorder.asked == 1
    assert not recorder.kept


def test_one_that_always_answers_the_same_is_found_out_before_it_answers_anybody(caplog):
    def spoil(recorded, found):
        recorded.first = getattr(recorded, "first", found)
        return tuple(tensor.clone() for tensor in recorded.first)

    recorder, one_pass = Recorder(spoil), Counting()
    run_many(Graphs(recorder, nn.Identity()).renewed(), one_pass, 10)
    assert not recorder.kept
    assert "one answers otherwise" in caplog.text


def test_one_that_goes_wrong_later_is_found_out_later(caplog):
    recorder = Recorder(lambda recorded, found: found if recorded.calls < 30 else scaled(2)(recorded, found))
    graphs, one_pass = Graphs(recorder, nn.Identity()).renewed(), Counting()
    for seed in range(100):
        graphs.run(one_pass, rows(seed=seed))
    assert not recorder.kept
    assert "one answers otherwise" in caplog.text
    run_many(graphs, one_pass, 5)


def test_one_that_fails_when_it_is_run_is_replaced_by_the_pass_itself(caplog):
    def spoil(recorded, found):
        if recorded.calls > 8:
            raise RuntimeError("CUDA error: an illegal address")
        return found

    recorder, one_pass = Recorder(spoil), Counting()
    run_many(Graphs(recorder, nn.Identity()).renewed(), one_pass, 20)
    assert not recorder.kept
    assert "an illegal address" in caplog.text


@pytest.mark.parametrize("graphs_hold_it", [True, False])
def test_memory_that_a_pass_lacks_is_taken_back_from_graphs(graphs_hold_it, caplog):
    recorder = Recorder()

    class Large(Counting):
        limit = 10

        def __call__(self, tensors):
            if len(tensors[0]) > self.limit and (recorder.kept or not graphs_hold_it):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(tensors)

    graphs, one_pass = Graphs(recorder, nn.Identity()).renewed(), Large()
    run_many(graphs, one_pass, 2, count=9)
    run_many(graphs, one_pass, 5)
    assert recorder.kept
    one_pass.limit = 8
    if graphs_hold_it:
        run_many(graphs, one_pass, 5, count=9)
    else:
        with pytest.raises(torch.OutOfMemoryError):
            graphs.run(one_pass, rows(9))
    assert not recorder.kept
    assert recorder.asked == 1
    assert "does not hold them beside a pass" in caplog.text
    with contextlib.suppress(torch.OutOfMemoryError):
        graphs.run(one_pass, rows(9))
    assert len(caplog.messages) == 1


def test_a_pass_that_fails_is_the_client_s_affair(caplog):
    class Failing(Counting):
        def __call__(self, tensors):
            raise InvalidInput("no gradients")

    recorder = Recorder()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    for _ in range(5):
        with pytest.raises(InvalidInput, match="no gradients"):
            graphs.run(Failing(), rows())
    assert recorder.asked == 0
    assert not caplog.messages


@pytest.mark.parametrize("cost", [0.95, 1.0, 7.0])
def test_one_that_is_hardly_faster_is_not_kept_but_other_shapes_may_be(cost, caplog):
    recorder, one_pass = Recorder(cost=cost), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    run_many(graphs, one_pass, 20)
    assert recorder.asked == 1
    recorder.cost = 0.5
    run_many(graphs, one_pass, 20, count=3)
    assert recorder.asked == 2
    assert len(recorder.kept) == 1
    assert not caplog.messages


@pytest.mark.parametrize("nothing", [torch.nan, torch.inf, 0.0])
def test_numbers_that_prove_nothing_are_not_compared(nothing):
    one_pass, blank = Counting(), (torch.full((2, 1, 16), nothing),)
    spoilt = Counting(lambda rows: rows * nothing)
    recorder = Recorder()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    for _ in range(10):
        graphs.run(spoilt, blank)
    assert recorder.asked == 0
    run_many(graphs, one_pass, 3)
    assert recorder.asked == 1
    twice = Counting(lambda rows: rows * 2)
    run_many(graphs, twice, 3)
    calls = twice.calls
    for _ in range(5):  # its second comparison waits for numbers that tell something
        graphs.run(twice, blank)
    assert twice.calls == calls + 5
    assert len(recorder.kept) == 2


def test_the_shape_that_was_not_used_for_longest_makes_room():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    for count in range(1, 9):
        run_many(graphs, one_pass, 4, count=count)
    run_many(graphs, one_pass, 1, count=1)
    assert len(recorder.kept) == 8
    run_many(graphs, one_pass, 4, count=9)
    assert [len(graph.held[0]) for graph in recorder.recorded if graph.dropped] == [2]
    assert len(recorder.kept) == 8


def test_shapes_that_oust_each_other_are_recorded_ever_more_seldom():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    for _ in range(60):
        for count in range(1, 13):
            run_many(graphs, one_pass, 1, count=count)
    assert len(recorder.kept) == 8
    assert recorder.asked <= 12 * 4  # after 3, 12, 48 passes; and after 192


def test_shapes_beyond_counting_are_forgotten():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    run_many(graphs, one_pass, 4, count=1)
    for count in range(2, 66):
        run_many(graphs, one_pass, 1, count=count)
    assert not recorder.kept
    assert len(graphs._shapes) == 64


class Kept(nn.Module):
    """Multiplies by a weight; keeps a table and a switch of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("shift", torch.tensor(0.5))
        self.table, self.switch = torch.ones(16), 1.0

    def forward(self, rows):
        return rows * self.weight * self.table * self.switch + self.shift


def _in_place(model):
    with torch.no_grad():
        model.weight.add_(1)


def _replaced(model):
    model.weight.data = torch.tensor(5.0)


def _other_buffer(model):
    model.shift = torch.tensor(3.0)


def _other_table(model):
    model.table = torch.full((16,), 4.0)


def _other_switch(model):
    model.switch = -1.0


@pytest.mark.parametrize("change", [_in_place, _replaced, _other_buffer, _other_table, _other_switch])
def test_what_a_graph_took_down_of_the_model_is_looked_at_before_each_explanation(change):
    model, recorder = Kept(), Recorder()
    one_pass = Counting(lambda rows: model(rows).detach())
    graphs = Graphs(recorder, model).renewed()
    run_many(graphs, one_pass, 6)
    assert graphs.renewed() is graphs
    assert len(recorder.kept) == 1
    change(model)
    graphs.renewed()
    assert not recorder.kept
    run_many(graphs, one_pass, 24)
    assert len(recorder.kept) == 1
    assert recorder.asked == 2


def test_a_model_that_does_not_tell_of_its_weights_has_none(caplog):
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, model).renewed()
    run_many(graphs, one_pass, 10)
    assert recorder.asked == 0
    assert "cannot be seen whether its weights change" in caplog.text


def test_a_pass_that_cannot_be_told_from_others_has_none(caplog):
    class Unhashable(Counting):
        __hash__ = None

    recorder = Recorder()
    run_many(Graphs(recorder, nn.Identity()).renewed(), Unhashable(), 6)
    assert recorder.asked == 0
    assert "cannot be told apart" in caplog.text


def test_memory_is_free_as_soon_as_nobody_explains_the_model():
    recorder, one_pass = Recorder(), Counting()
    graphs = Graphs(recorder, nn.Identity()).renewed()
    run_many(graphs, one_pass, 6)
    held = weakref.ref(recorder.recorded.pop())
    gc.disable()  # which may come late for a GPU
    try:
        assert held() is not None
        del graphs
        assert held() is None
    finally:
        gc.enable()


_FAULTS = {
    "right": lambda recorded, found: found,
    "wrong": scaled(1.3),
    "nan": scaled(torch.nan),
    "stuck": lambda recorded, found: recorded.__dict__.setdefault("first", found),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(_FAULTS)),
    st.sampled_from([0.1, 0.9, 1.1]),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=80),
)
def test_whatever_the_recorder_does_the_answers_are_the_pass_s(fault, cost, asked):
    recorder, one_pass = Recorder(_FAULTS[fault], cost), Counting()
    model = Kept()
    graphs = Graphs(recorder, model).renewed()
    for number, (count, changes) in enumerate(asked):
        if changes:
            model.switch += 1
            graphs.renewed()
        tensors = rows(count, number)
        torch.testing.assert_close(graphs.run(one_pass, tensors), one_pass(tensors), rtol=0, atol=0)
        assert len(recorder.kept) <= 8


# With methods and models


class Embedded(nn.Module):
    """Embeddings [rows, positions, 4] and which of them are words, to three classes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, embedded, present):
        weights = present.float().unsqueeze(2)
        return self.linear(torch.tanh(embedded * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))


def batch_of(kind, count, seed=0):
    """Return a model and a batch with two targets for each row."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor([[0, 2], [1, 0], [2, 1]])[torch.arange(count) % 3]
    if kind is Embedded:
        present = torch.arange(6) < torch.tensor([[6], [3], [1]])[torch.arange(count) % 3]
        return examples(torch.randn(count, 6, 4, generator=generator), targets, extras=(present,))
    if kind is TwoInputs:
        inputs = tuple(torch.randn(count, size, generator=generator) for size in (3, 2))
        return examples(inputs, targets * 0)
    make_inputs = images if kind is SmallCnn else features
    return examples(make_inputs(count, seed), targets)


def subject_of(model, graphs, **options):
    module = shadow_copy(model)
    return Subject(module, kind_of(module), module, graphs=graphs and graphs(module).renewed(), **options)


@pytest.mark.parametrize("kind", [SmallCnn, FunctionalMlp, TwoInputs, Embedded])
@pytest.mark.parametrize("per_pass", [None, 4])
def test_explanations_by_graphs_are_those_without(kind, per_pass):
    check_explanations(kind, "integrated_gradients", per_pass)


@pytest.mark.parametrize("method", ["saliency", "gradient_shap"])
@pytest.mark.parametrize("options", [{}, {"probability": True}, {"autocast": torch.bfloat16}], ids=str)
def test_other_methods_and_what_else_a_pass_depends_on(method, options):
    check_explanations(FunctionalMlp, method, 4, **options)


def check_explanations(kind, method, per_pass, **options):
    model, recorder = make(kind), Recorder()
    chosen = find_method(method)
    args = chosen.arguments({"n_steps": 9} if method == "integrated_gradients" else {})
    plain, by_graphs = (
        subject_of(model, graphs, **options) for graphs in (None, functools.partial(Graphs, recorder))
    )
    for seed in range(4):
        for count in (1, 3):
            batch = batch_of(kind, count, seed)
            found, expected = (
                attribute(chosen, subject, batch, Budget(Limits(per_pass), count), args).values
                for subject in (by_graphs, plain)
            )
            # Copies may lie elsewhere in memory, and sums be taken in another order.
            tolerance = 0.05 if "autocast" in options else 1e-4
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert recorder.kept


def test_an_in_place_change_of_weights_is_seen_by_the_next_explanation():
    model, recorder = make(SmallCnn), Recorder()
    subject = subject_of(model, functools.partial(Graphs, recorder))
    targets, budget = torch.tensor([[1], [2]]), Budget(Limits(), 2)

    def find(subject):
        return gradients(subject, (images(2),), (), targets, torch.arange(2), budget)[0]

    for _ in range(6):
        before = find(subject)
    with torch.no_grad():
        model.linear.weight.mul_(-2)
    subject.graphs.renewed()
    after = find(subject)
    torch.testing.assert_close(after, find(dataclasses.replace(subject, graphs=None)))
    torch.testing.assert_close(after, before * -2)


@pytest.fixture
def recording(monkeypatch):
    """Let models that want graphs have them here, by a recorder of ours."""
    recorder = Recorder()
    monkeypatch.setattr(model_module, "graphs_of", lambda model, kind, device: Graphs(recorder, model))
    return recorder


def leaves(value):
    """Return the numbers and texts of an answer, but for the time that it took."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() if key != "ms" for leaf in leaves(item)]
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("name", ["digits", "wine", "docstrings"])
def test_explanations_of_a_served_model_share_their_graphs(sample, recording, name):
    plain = sample(name)
    section = plain.context.model_yaml_config.get("explain") or {}
    served = sample(name, explain={**section, "cuda_graphs": True})
    row = {
        "digits": lambda: {"image": plain.file("3.png")},
        "wine": lambda: json.loads(plain.file("wine.json")),
        "docstrings": lambda: {"text": "Wait until another thread releases the lock"},
    }[name]()
    wish = {**row, "explain": {"args": {"n_steps": 8}, "top_k_targets": 2}}

    for _ in range(6):
        found, expected = (list(leaves(one.ask(wish)[0]["targets"])) for one in (served, plain))
        assert found == [
            pytest.approx(leaf, rel=1e-3, abs=1e-4) if isinstance(leaf, float) else leaf for leaf in expected
        ]
    assert recording.asked == len(recording.kept) == 1
    assert recording.kept[0].calls > 3


def test_methods_that_follow_no_gradients_have_none(sample, recording):
    model = ExplainedModel(sample("digits").handler, ExplainConfig(cuda_graphs=True))
    ink = torch.rand(2, 1, 28, 28)

    def subject(method):
        chosen = find_method(method)
        return model.examples([ink], [None, None], [{}, {}], chosen, chosen.arguments({}))[2]

    assert isinstance(subject("saliency").graphs, Graphs)
    assert subject("occlusion").graphs is None


# The setting


def test_the_setting_is_off_unless_it_is_asked_for(sample):
    assert parse_config({}).cuda_graphs is False
    assert parse_config({"cuda_graphs": True}).cuda_graphs is True
    for value in (None, 1, "yes"):
        with pytest.raises(ExplainConfigError, match="explain.cuda_graphs must be true or false"):
            parse_config({"cuda_graphs": value})
    assert sample("digits").handler.explainer.model._graphs is None


@pytest.fixture
def untold():
    graphs_module._tell.cache_clear()
    yield
    graphs_module._tell.cache_clear()


def test_where_it_has_no_effect_the_log_says_so_once(untold, sample, caplog):
    for _ in range(3):
        assert ExplainedModel(sample("digits").handler, ExplainConfig(cuda_graphs=True))._graphs is None
    assert caplog.messages == ["explain.cuda_graphs has no effect: the model is explained on a processor"]


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        (print, ModelKind.CALLABLE, "the model is a function without gradients"),
        (nn.Dropout(), ModelKind.TORCHSCRIPT, "a part of the model is in training mode"),
    ],
)
def test_models_that_can_have_none(untold, caplog, model, kind, reason):
    assert graphs_of(model, kind, torch.device("cuda", 0)) is None
    assert caplog.messages == [f"explain.cuda_graphs has no effect: {reason}"]


@pytest.mark.parametrize(("device", "index"), [(torch.device("cuda"), 3), (torch.device("cuda", 1), 1)])
def test_on_a_gpu_there_are_some(monkeypatch, device, index):
    asked = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(graphs_module, "cuda_capturing", lambda index: asked.append(index) or Recorder())
    exported = nn.Linear(1, 1)  # an exported program is as it was exported, whatever it says
    assert isinstance(graphs_of(exported, ModelKind.EXPORTED, device), Graphs)
    assert isinstance(graphs_of(exported.eval(), ModelKind.EAGER, device), Graphs)
    assert asked == [index, index]
