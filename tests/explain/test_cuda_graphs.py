"""Explanations by CUDA graphs, on a GPU: the same numbers as without. Skipped where there is none."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from explain_fakes import FunctionalMlp, SmallCnn, features, images, make
from torch import nn

from predictor.explain.budget import Budget, Limits
from predictor.explain.capturing import cuda_capturing
from predictor.explain.examples import Subject, gradients
from predictor.explain.graphs import Graphs, graphs_of
from predictor.explain.precision import full_precision
from predictor.explain.shadow import kind_of, shadow_copy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


class Texts(nn.Module):
    """Embeddings [rows, positions, 4] and which positions are words, through attention, to three classes."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.linear = nn.Linear(4, 3)

    def forward(self, embedded, present):
        hidden, _ = self.attention(embedded, embedded, embedded, key_padding_mask=~present)
        weights = present.to(hidden.dtype).unsqueeze(2)
        return self.linear((hidden * weights).sum(dim=1) / weights.sum(dim=1))


def given(kind, count, seed):
    """Return inputs and extras on the GPU."""
    if kind is SmallCnn:
        return (images(count, seed).cuda(),), ()
    if kind is FunctionalMlp:
        return (features(count, seed).cuda(),), ()
    embedded = torch.randn(count, 6, 4, generator=torch.Generator().manual_seed(seed)).cuda()
    present = torch.arange(6) < torch.tensor([[6], [3], [1]])[torch.arange(count) % 3]
    return (embedded,), (present.cuda(),)


def subject_of(model, **options):
    module = shadow_copy(model)
    kind = kind_of(module)
    graphs = graphs_of(module, kind, torch.device("cuda")).renewed()
    return Subject(module, kind, module, graphs=graphs, **options)


def find(subject, kind, count, seed, weighted=False):
    inputs, extras = given(kind, count, seed)
    targets = torch.tensor([[0, 2], [1, 0], [2, 1]]).cuda()[torch.arange(count).cuda() % 3]
    weights = torch.linspace(0.5, 2, count).cuda() if weighted else None
    with full_precision():
        return gradients(
            subject, inputs, extras, targets, torch.arange(count), Budget(Limits(), count), weights
        )[0]


def is_near(found, expected, tolerance=1e-4):
    return float((found - expected).norm()) <= tolerance * float(expected.norm())


@pytest.fixture
def any_gain(monkeypatch):
    """Keep graphs of passes so small that their gain may not be seen on a machine that others use."""
    monkeypatch.setattr(Graphs, "_is_faster", lambda *_: True)


@pytest.mark.parametrize("kind", [SmallCnn, FunctionalMlp, Texts])
@pytest.mark.parametrize("options", [{}, {"probability": True}, {"autocast": torch.bfloat16}], ids=str)
def test_gradients_are_those_without(any_gain, caplog, kind, options):
    model = make(kind).cuda()
    subject = subject_of(model, **options)
    plain = dataclasses.replace(subject, graphs=None)
    for count in (1, 5, 16):
        for seed in range(8):
            weighted = bool(count % 2)
            found = find(subject, kind, count, seed, weighted)
            assert is_near(found, find(plain, kind, count, seed, weighted))
    assert len(kept(subject)) == 3
    assert not caplog.messages


def kept(subject):
    return [shape for shape in subject.graphs._shapes.values() if shape.graph is not None]


def test_weights_that_change_in_place_count_at_once(any_gain):
    model = make(SmallCnn).cuda()
    subject = subject_of(model)
    for _ in range(6):
        before = find(subject, SmallCnn, 4, 1)
    assert kept(subject)
    with torch.no_grad():
        model.linear.weight.mul_(-2)
    assert is_near(find(subject, SmallCnn, 4, 1), before * -2)  # a graph reads them where they are
    subject.graphs.renewed()
    assert not kept(subject)
    for _ in range(30):
        assert is_near(find(subject, SmallCnn, 4, 1), before * -2)
    assert kept(subject)


def test_predictions_between_the_passes_harm_nothing(any_gain):
    model = make(SmallCnn).cuda()
    subject = subject_of(model)
    plain = dataclasses.replace(subject, graphs=None)
    answers = []
    for seed in range(10):
        answers.append(find(subject, SmallCnn, 4, seed))
        with torch.inference_mode():
            model(images(64, seed).cuda())
    for seed, answer in enumerate(answers):
        assert is_near(answer, find(plain, SmallCnn, 4, seed))


def test_memory_comes_back_when_nobody_explains_the_model(any_gain):
    model = make(SmallCnn).cuda()
    subject = subject_of(model)
    for seed in range(6):
        find(subject, SmallCnn, 64, seed)
    assert kept(subject)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    del subject
    assert torch.cuda.memory_allocated() < before


class Looking(SmallCnn):
    """Fetches a number from the GPU in the middle of a pass."""

    def forward(self, image):
        return super().forward(image) * (2.0 if image.sum().item() > 0 else 3.0)


class LookingLate(SmallCnn):
    """Waits where nobody sees it, when it is recorded."""

    def forward(self, image):
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.current_stream().synchronize()
        return super().forward(image)


@pytest.mark.parametrize("kind", [Looking, LookingLate])
def test_what_cannot_be_recorded_goes_the_plain_way_and_the_process_stays_whole(any_gain, caplog, kind):
    model = make(kind).cuda()
    subject = subject_of(model)
    plain = dataclasses.replace(subject, graphs=None)
    try:
        for seed in range(8):
            assert is_near(find(subject, SmallCnn, 4, seed), find(plain, SmallCnn, 4, seed))
        (told,) = caplog.messages
        assert told.startswith("explanations go on without CUDA graphs")
        torch.rand(3, device="cuda")  # its generator, its allocator and its stream
        torch.cuda.empty_cache()
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
    finally:
        cuda_capturing.cache_clear()
