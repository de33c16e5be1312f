"""The faster way through a model: the same numbers as Captum's on the model itself, or no such way."""

from __future__ import annotations

import logging
import subprocess
import sys

import captum.attr as captum
import pytest
import torch
from explain_fakes import examples
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from predictor.explain.affine import affine_prefix
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.calling import Order
from predictor.explain.config import ExplainConfig
from predictor.explain.examples import Subject
from predictor.explain.folding import fold
from predictor.explain.layout import ChannelsLast
from predictor.explain.methods import find_method
from predictor.explain.model import ExplainedModel
from predictor.explain.shadow import kind_of, shadow_copy
from predictor.explain.shortcut import Shortcut

_ROWS = 3


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(model):
    """Give normalisations statistics that change something."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return model.eval()


class Plain(nn.Module):
    """Convolution, normalisation, activation, twice, and a way around the second."""

    def __init__(self, inplace=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=inplace)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.5)
        self.linear = nn.Linear(54, 5)

    def begin(self, image):
        return self.bn1(self.conv1(image))

    def forward(self, image):
        hidden = self.relu(self.begin(image))
        hidden = self.relu(self.bn2(self.conv2(hidden)) + hidden)
        return self.linear(self.drop(torch.flatten(self.pool(hidden), 1)))


class Functional(Plain):
    def begin(self, image):
        image = (image - 0.4) / 0.3
        hidden = functional.conv2d(
            functional.dropout(image, 0.3, self.training), self.conv1.weight, None, 2, 1
        )
        bn = self.bn1
        return functional.batch_norm(hidden, bn.running_mean, bn.running_var, bn.weight, bn.bias)


class Normalising(Plain):
    """Subtracts buffers before the convolution, and pools behind it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.rand(2, 1, 1))

    def begin(self, image):
        return self.bn1(self.conv1(self.drop((image - self.mean).mul(2.0))))


class Around(Plain):
    """What comes in is used twice."""

    def begin(self, image):
        return super().begin(image) + image[:, :1, ::2, ::2]


class Twice(Plain):
    """The convolution is used twice, on other things."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 3, 1, 1)
        self.bn1 = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 6, 3, 2, 1))

    def begin(self, image):
        return self.bn1(self.conv1(torch.relu(self.conv1(image))))


class Split(Plain):
    """Residual around everything but the prefix."""

    def forward(self, image):
        hidden = self.begin(image)
        hidden = self.conv2(functional.relu(hidden)) + hidden
        return self.linear(self.pool(hidden).flatten(1))


class InPlace(Plain):
    """Works in place on the prefix's output, in a way of its own."""

    def begin(self, image):
        hidden = super().begin(image)
        hidden.mul_(hidden.detach().sigmoid())
        return hidden


class Augmented(Plain):
    def begin(self, image):
        hidden = super().begin(image)
        hidden += hidden.sigmoid()
        return hidden


class Squared(Plain):
    """The product with itself is not affine, though `mul` may be."""

    def begin(self, image):
        return self.bn1(self.conv1(image * image))


class Rounding(Plain):
    def begin(self, image):
        return super().begin(torch.div(image, 0.1, rounding_mode="floor") * 0.1 + image)


class Branching(Plain):
    """Depends on the shape, so that it cannot be traced."""

    def begin(self, image):
        if len(image) > 100:
            raise AssertionError
        return super().begin(image)


class Isinstance(Plain):
    """Answers a trace otherwise than a tensor."""

    def begin(self, image):
        return super().begin(image if isinstance(image, torch.Tensor) else image * 2)


class Caching(Plain):
    """Keeps what it was given the first time."""

    cache = None

    def begin(self, image):
        if self.cache is None:
            self.cache = image.new_ones(1)
        return super().begin(image * self.cache)


class Hooked(Plain):
    """A hook and a parametrization change what the modules do."""

    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.conv1)
        self.bn1.register_forward_hook(lambda _module, _inputs, output: output.tanh())
        self.conv2.register_state_dict_pre_hook(lambda *_: None)


class Wide(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(288, 300), nn.BatchNorm1d(300), nn.Tanh(), nn.Linear(300, 5))


class Columns(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Flatten(2), nn.Conv1d(2, 4, 5), nn.ELU(inplace=True), nn.Flatten(), nn.Linear(560, 5)
        )


def images(rows=_ROWS, seed=0):
    return torch.randn(rows, 2, 12, 12, generator=torch.Generator().manual_seed(seed))


def make(kind, **options):
    torch.manual_seed(1)
    return trained(kind(**options))


def fast(model, *inputs, positions=(0,)):
    """Return the subject with its shortcut, as `ExplainedModel` has it, and whether it is one."""
    kind = kind_of(model)
    module = shadow_copy(model) if kind.name == "EAGER" else None
    plain = ChannelsLast(module) if module is not None else model
    route = Shortcut(module or model, kind, plain).route(*inputs)
    if route is None:
        return Subject(plain, kind, module), None
    order = Order(
        (*positions, *(index for index in range(len(inputs)) if index not in positions)), frozenset()
    )
    return order.subject(plain, route, kind, module), route


def integrate(subject, batch, limits=None, **args):
    method = find_method("integrated_gradients")
    return attribute(method, subject, batch, Budget(limits or Limits(), len(batch)), method.arguments(args))


def close(ours, theirs):
    theirs = theirs.detach()
    size = float(theirs.abs().max())
    assert size > 0
    torch.testing.assert_close(ours, theirs, atol=1e-5 * size, rtol=0)


CUT = [Plain, Normalising, Split, InPlace, Augmented, Twice, Wide, Columns]
FOLDED = [Around, Squared, Rounding, Hooked]
WHOLE = [Branching, Isinstance]


@pytest.mark.parametrize("kind", [*CUT, *FOLDED, *WHOLE, Caching, Functional])
@pytest.mark.parametrize("limits", [Limits(), Limits(rows_per_pass=4)], ids=["whole", "chunked"])
def test_integrated_gradients_are_captums(kind, limits):
    model, targets, baseline = make(kind), torch.tensor([[0, 4], [3, 1], [2, 2]]), images(seed=9)
    with torch.no_grad():
        model(images())  # what keeps its first input has it
    subject, route = fast(model, images())
    found = integrate(subject, examples(images(), targets, (baseline,)), limits, n_steps=12)
    for column in range(2):
        theirs = captum.IntegratedGradients(model).attribute(
            images(), baseline, targets[:, column], n_steps=12
        )
        close(found.values[0][:, column], theirs)
    if kind in CUT:
        assert route.head is not None
    if kind in FOLDED:
        assert route.head is None
    if kind in WHOLE:
        assert route is None


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
def test_other_gradients_go_the_same_way(method):
    model, targets = make(Plain), torch.tensor([1, 0, 2])
    subject, _ = fast(model, images())
    chosen = find_method(method)
    batch = examples(images(), targets)
    found = attribute(chosen, subject, batch, Budget(Limits(), 3), chosen.arguments({}))
    peer = captum.Saliency if method == "saliency" else captum.InputXGradient
    close(found.values[0][:, 0], peer(model).attribute(images().requires_grad_(), targets))


def test_probabilities():
    model, targets = make(Plain), torch.tensor([1, 0, 2])
    subject, _ = fast(model, images())
    subject = Subject(subject.forward, subject.kind, probability=True, prefix=subject.prefix)
    found = integrate(subject, examples(images(), targets), n_steps=10)
    peer = captum.IntegratedGradients(lambda image: model(image).softmax(dim=1))
    close(found.values[0][:, 0], peer.attribute(images(), target=targets, n_steps=10))


class Two(nn.Module):
    """A picture that begins affinely beside columns that do not."""

    def __init__(self):
        super().__init__()
        self.image, self.table = Plain(), nn.Linear(3, 5)

    def forward(self, columns, image, scale):
        return self.table(columns.exp()) * self.image(image) * scale.unsqueeze(1)


def test_the_prefix_of_one_of_two_inputs():
    model, targets = make(Two), torch.tensor([1, 0, 2])
    inputs, scale = (torch.rand(3, 3), images()), torch.rand(3)
    subject, route = fast(model, *inputs, scale, positions=(0, 1))
    assert route.position == 1
    assert route.numbers == 6 * 6 * 6
    found = integrate(subject, examples(inputs, targets, extras=(scale,)), Limits(rows_per_pass=5), n_steps=9)
    theirs = captum.IntegratedGradients(model).attribute(
        inputs, target=targets, additional_forward_args=(scale,), n_steps=9
    )
    for ours, peer in zip(found.values, theirs, strict=True):
        close(ours[:, 0], peer)


@pytest.mark.parametrize("kind", [Plain, Functional, Split, Wide, Columns])
def test_exported_programs_are_cut_too(kind):
    model, targets = make(kind), torch.tensor([1, 0, 2])
    batch = {0: torch.export.Dim("rows")}
    exported = torch.export.export(model, (images(),), dynamic_shapes=(batch,)).module()
    subject, route = fast(exported, images())
    assert route.head is not None
    found = integrate(subject, examples(images(), targets), n_steps=10)
    close(
        found.values[0][:, 0], captum.IntegratedGradients(model).attribute(images(), 0, targets, n_steps=10)
    )


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripts_have_no_shortcut():
    assert fast(torch.jit.script(make(Plain)), images())[1] is None


def test_pictures_lie_channels_last_behind_the_prefix():
    seen = []
    model = make(Plain)
    subject, route = fast(model, images())
    route.tail._graph.get_submodule("conv2").register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    integrate(subject, examples(images(), [0, 1, 2]), n_steps=4)
    assert seen
    assert all(seen)
    assert route.tail._graph.get_submodule("conv2").weight.is_contiguous(memory_format=torch.channels_last)


def test_the_model_and_its_shadow_stay_as_they_are():
    model = make(Caching)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    module = shadow_copy(model)
    assert Shortcut(module, kind_of(module), module).route(images()) is not None
    assert isinstance(module.bn1, nn.BatchNorm2d)
    assert isinstance(module.cache, torch.Tensor)  # and not what a trace leaves there
    assert module.conv2.weight.data_ptr() == model.conv2.weight.data_ptr()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_normalisations_are_folded_away():
    model = make(Plain)
    graph = fold(fx.symbolic_trace(model))
    assert not [node for node in graph.graph.nodes if node.target in ("bn1", "bn2")]
    close(graph(images()), model(images()))


@pytest.mark.parametrize("kind", [Hooked, Twice])
def test_what_more_than_one_call_or_a_hook_shares_is_not_folded(kind):
    model = make(kind)
    graph = fold(fx.symbolic_trace(model))
    assert graph.get_submodule("conv1") is model.conv1
    close(graph(images()), model(images()))


def test_large_models_are_not_copied(monkeypatch):
    monkeypatch.setattr("predictor.explain.folding._MOST_COPIED_BYTES", 100)
    model = make(Plain)
    assert fold(fx.symbolic_trace(model)).get_submodule("conv2") is model.conv2


def test_layers_in_training_are_not_affine():
    model = make(Plain)
    _, last = affine_prefix(fx.symbolic_trace(model))
    assert last.target == "bn1"
    model.bn1.train()
    _, last = affine_prefix(fx.symbolic_trace(model))
    assert last.target == "conv1"


def test_a_normalisation_without_statistics_is_not_affine():
    model = make(Plain)
    model.bn1 = nn.BatchNorm2d(6, track_running_stats=False).eval()
    _, last = affine_prefix(fx.symbolic_trace(model))
    assert last.target == "conv1"


def test_a_small_linear_layer_is_not_worth_it():
    model = nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    assert affine_prefix(fx.symbolic_trace(model)) is None
    assert fast(model, torch.rand(2, 13))[1] is None


def test_each_shape_is_tried_once_and_on_numbers_only(monkeypatch):
    from predictor.explain import shortcut

    tries = []
    agree = shortcut._agree
    monkeypatch.setattr(shortcut, "_agree", lambda *given: tries.append(given) or agree(*given))
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = Shortcut(model, kind_of(model), model)
    assert found.route(torch.full((1, 2, 9, 9), torch.nan)) is None
    assert not tries
    assert found.route(images(4)) is found.route(images(2))
    assert found.route(torch.rand(1, 2, 9, 9)) is not None
    assert len(tries) == 2
    assert found.route(images(), None) is None
    assert found.route(torch.ones(2, 5, dtype=torch.int64)) is None
    assert len(tries) == 2


class Gated(nn.Module):
    """What a gate that lets no gradients through changes is little, but not nothing."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.linear = nn.Conv2d(2, 6, 3), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, picture):
        hidden = self.conv(picture).relu().mean((2, 3))
        with torch.no_grad():
            gate = torch.sigmoid(self.gate(hidden) / 20)
        return self.linear(hidden * gate)


def test_code_that_keeps_gradients_to_itself_is_left_alone(caplog):
    with caplog.at_level(logging.INFO):
        assert fast(make(Gated), images())[1] is None
    assert "torch.no_grad" in caplog.text


@pytest.mark.parametrize("name", ["conv2.weight", "bn2.running_mean", "linear.bias"])
def test_there_is_none_once_a_weight_has_changed(name):
    model = make(Plain)
    shadow = shadow_copy(model)
    found = Shortcut(shadow, kind_of(shadow), shadow)
    assert found.route(images()) is not None
    with torch.no_grad():
        model.state_dict()[name].add_(1)
    assert found.route(images()) is None
    assert found.route(images()) is None


def test_the_log_says_why_there_is_none(caplog):
    with caplog.at_level(logging.INFO):
        assert fast(make(Branching), images())[1] is None
    assert "explanations take no shortcut through the model" in caplog.text


def test_gradient_methods_of_a_served_model_take_it_and_methods_with_hooks_do_not(sample):
    model = ExplainedModel(sample("digits").handler, ExplainConfig())
    ink = torch.rand(2, 1, 28, 28)

    def subject_of(method):
        chosen = find_method(method)
        return model.examples([ink], [None, None], [{}, {}], chosen, chosen.arguments({}))[2]

    taken = subject_of("integrated_gradients")
    assert taken.prefix is not None
    torch.testing.assert_close(taken.prefix.tail(taken.prefix.head(ink)), model.module(ink))
    torch.testing.assert_close(taken.forward(ink), model.module(ink))
    for method in ("grad_cam", "deep_lift", "occlusion"):
        assert subject_of(method).prefix is None
        assert subject_of(method).forward.model is model._call


def test_weighted_gradients_need_no_library_that_takes_seconds_to_load():
    code = (
        "import sys, torch\n"
        "from predictor.explain.examples import gradients_of\n"
        "leaf = torch.rand(2, 3, requires_grad=True)\n"
        "(found,) = gradients_of(leaf * 2, [leaf], torch.tensor([[1.0, 2.0, 3.0]] * 2))\n"
        "assert found.tolist() == [[2.0, 4.0, 6.0]] * 2\n"
        "print('sympy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
