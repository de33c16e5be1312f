"""Our numbers against Captum's, called directly on the same model."""

from __future__ import annotations

import warnings

import captum.attr as captum
import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from explain_fakes import FunctionalMlp, SmallCnn, TwoInputs, examples, features, images, make, run

from predictor.explain import gradients, quality, smoothing
from predictor.explain.budget import Limits
from predictor.explain.examples import Attributed
from predictor.explain.shapley import draw_coalitions

CNN = make(SmallCnn)
MLP = make(FunctionalMlp)
PAIR = make(TwoInputs)
# A pass of four rows: rows of one example are spread over several passes, and passes hold several examples.
CHUNKED = Limits(rows_per_pass=4)


def close(ours, theirs, tolerance=1e-5):
    ours = ours[:, 0] if ours.dim() == theirs.dim() + 1 else ours
    torch.testing.assert_close(ours, theirs.detach().to(ours.dtype), atol=tolerance, rtol=tolerance)


@pytest.fixture(autouse=True)
def _captum_warns_of_its_hooks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(params=["eager", "script", "trace", "export"])
def cnn(request):
    if request.param == "script":
        return torch.jit.script(CNN)
    if request.param == "trace":
        return torch.jit.trace(CNN, images())
    if request.param == "export":
        batch = {0: torch.export.Dim("rows")}
        return torch.export.export(CNN, (images(),), dynamic_shapes=(batch,)).module()
    return CNN


@pytest.mark.parametrize("steps", [1, 15, 50])
@pytest.mark.parametrize("limits", [CHUNKED, Limits()], ids=["chunked", "whole"])
def test_integrated_gradients(cnn, steps, limits):
    targets, baseline = torch.tensor([0, 3, 4]), images(seed=9)
    batch = examples(images(), targets, (baseline,))
    found = run("integrated_gradients", cnn, batch, limits, n_steps=steps)
    close(
        found.values[0], captum.IntegratedGradients(CNN).attribute(images(), baseline, targets, n_steps=steps)
    )
    assert found.n_steps == [steps] * 3


def test_adaptive_steps_equal_a_fixed_number_of_them():
    targets = torch.tensor([0, 3, 4])
    found = run("integrated_gradients", CNN, examples(images(), targets), tolerance=0.02)
    for row, steps in enumerate(found.n_steps):
        image = images()[row : row + 1]
        close(
            found.values[0][row : row + 1],
            captum.IntegratedGradients(CNN).attribute(image, target=targets[row : row + 1], n_steps=steps),
        )


def test_several_targets_of_a_row():
    targets = torch.tensor([[0, 1, 2], [2, 1, 0], [4, 4, 3]])
    found = run("integrated_gradients", CNN, examples(images(), targets), n_steps=20)
    for column in range(3):
        theirs = captum.IntegratedGradients(CNN).attribute(images(), target=targets[:, column], n_steps=20)
        close(found.values[0][:, column], theirs)


def test_two_inputs_and_a_lone_output():
    inputs = (torch.randn(2, 3), torch.randn(2, 2))
    found = run("integrated_gradients", PAIR, examples(inputs, [0, 0]), n_steps=30)
    for ours, theirs in zip(
        found.values, captum.IntegratedGradients(PAIR).attribute(inputs, n_steps=30), strict=True
    ):
        close(ours, theirs)


@pytest.mark.parametrize("absolute", [True, False])
def test_saliency(cnn, absolute):
    targets = torch.tensor([1, 0, 2])
    found = run("saliency", cnn, examples(images(), targets), abs=absolute)
    close(found.values[0], captum.Saliency(CNN).attribute(images().requires_grad_(), targets, abs=absolute))


def test_input_x_gradient(cnn):
    targets = torch.tensor([1, 0, 2])
    found = run("input_x_gradient", cnn, examples(images(), targets), CHUNKED)
    close(found.values[0], captum.InputXGradient(CNN).attribute(images().requires_grad_(), targets))


def test_probabilities(cnn):
    targets = torch.tensor([1, 0, 2])

    def probability(image):
        return torch.softmax(CNN(image), dim=1)

    found = run("integrated_gradients", cnn, examples(images(), targets), probability=True, n_steps=25)
    close(
        found.values[0],
        captum.IntegratedGradients(probability).attribute(images(), target=targets, n_steps=25),
    )


def test_gradient_shap(cnn, monkeypatch):
    targets, background = torch.tensor([1, 0, 2]), images(5, seed=4)
    batch = examples(images(), targets, background=(background,))
    np.random.seed(3)  # Captum draws from numpy's global state: first baselines, then places
    chosen = np.random.choice(5, 3 * 10).tolist()
    places = np.random.uniform(0.0, 1.0, 3 * 10)
    draws = iter(np.split(np.array(places), 3))
    picks = iter(np.split(np.array(chosen), 3))
    monkeypatch.setattr(gradients.torch, "rand", lambda *a, **k: torch.tensor(next(draws)))
    monkeypatch.setattr(gradients.torch, "randint", lambda *a, **k: torch.tensor(next(picks)))
    found = run("gradient_shap", cnn, batch, n_samples=10)
    monkeypatch.undo()
    np.random.seed(3)
    close(
        found.values[0],
        captum.GradientShap(CNN).attribute(images(), background, n_samples=10, target=targets),
    )


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize(
    ("method", "other"), [("saliency", captum.Saliency), ("input_x_gradient", captum.InputXGradient)]
)
def test_noise(cnn, kind, method, other, monkeypatch):
    image, target = images(1), torch.tensor([1])
    stdev = 0.2
    scale = float(image.max() - image.min()) * stdev
    torch.manual_seed(5)
    noise = torch.normal(0, torch.full((6, *image.shape[1:]), scale)) / scale
    monkeypatch.setattr(smoothing, "noise", lambda *a: noise)
    found = run(method, cnn, examples(image, target), noise_samples=6, noise_stdev=stdev, noise_type=kind)
    torch.manual_seed(5)
    tunnel = captum.NoiseTunnel(other(CNN))
    close(found.values[0], tunnel.attribute(image, nt_type=kind, nt_samples=6, stdevs=scale, target=target))


@pytest.mark.parametrize("limits", [CHUNKED, Limits()], ids=["chunked", "whole"])
def test_deep_lift(limits):
    targets, baseline = torch.tensor([1, 0, 2]), images(seed=9)
    found = run("deep_lift", CNN, examples(images(), targets, (baseline,)), limits)
    close(found.values[0], captum.DeepLift(make(SmallCnn)).attribute(images(), baseline, targets))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_grad_cam(relu, mode):
    targets = torch.tensor([1, 0, 2])
    found = run("grad_cam", CNN, examples(images(), targets), CHUNKED, relu=relu, interpolate=mode)
    maps = captum.LayerGradCam(CNN, CNN.conv2).attribute(images(), targets, relu_attributions=relu)
    close(found.values[0], captum.LayerAttribution.interpolate(maps, (12, 12), mode))


def test_grad_cam_of_another_layer():
    found = run("grad_cam", CNN, examples(images(), [1, 0, 2]), layer="conv1", relu=False)
    close(found.values[0], captum.LayerGradCam(CNN, CNN.conv1).attribute(images(), torch.tensor([1, 0, 2])))


@pytest.mark.parametrize("limits", [CHUNKED, Limits()], ids=["chunked", "whole"])
def test_feature_ablation(cnn, limits):
    targets, baseline = torch.tensor([1, 0, 2]), images(seed=9)
    mask = (torch.arange(12) // 4).reshape(12, 1) * 3 + (torch.arange(12) // 4)
    batch = examples(images(), targets, (baseline,), groups=[mask.expand(3, 2, 12, 12)])
    found = run("feature_ablation", cnn, batch, limits)
    theirs = captum.FeatureAblation(CNN).attribute(
        images(), baseline, targets, feature_mask=mask.expand(1, 2, 12, 12)
    )
    close(found.values[0], theirs)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (3, 1), (12, 12)])
@pytest.mark.parametrize("limits", [CHUNKED, Limits()], ids=["chunked", "whole"])
def test_occlusion(cnn, window, stride, limits):
    targets = torch.tensor([1, 0, 2])
    found = run("occlusion", cnn, examples(images(), targets), limits, window=window, stride=stride)
    theirs = captum.Occlusion(CNN).attribute(
        images(), (2, window, window), (2, stride, stride), baselines=0, target=targets
    )
    close(found.values[0], theirs)


def test_exact_shapley_values():
    targets, baseline = torch.tensor([1, 0, 2, 1]), features(seed=8)
    found = run("shapley_exact", MLP, examples(features(), targets, (baseline,)), CHUNKED)
    close(found.values[0], captum.ShapleyValues(MLP).attribute(features(), baseline, targets))


def test_exact_shapley_values_of_two_inputs():
    inputs = (torch.randn(2, 3), torch.randn(2, 2))
    found = run("shapley_exact", PAIR, examples(inputs, [0, 0]))
    for ours, theirs in zip(found.values, captum.ShapleyValues(PAIR).attribute(inputs), strict=True):
        close(ours, theirs)


def test_kernel_shap():
    target = torch.tensor([1])
    keep = draw_coalitions(6, 100, torch.Generator().manual_seed(0))

    class OurCoalitions(captum.KernelShap):
        def kernel_shap_perturb_generator(self, original_inp, **kwargs):
            yield from keep.long().unsqueeze(1)

    found = run("kernel_shap", MLP, examples(features(1), target), n_samples=100)
    theirs = OurCoalitions(MLP).attribute(features(1), target=target, n_samples=100)
    # Captum meets all and none with a great weight, we exactly.
    close(found.values[0], theirs, 2e-5)


def test_kernel_shap_of_all_coalitions_is_exact(monkeypatch):
    """With every coalition as often as its weight says, the estimate is the Shapley value."""
    from predictor.explain import shapley

    sizes = {1: 10, 2: 6, 3: 6, 4: 6, 5: 10}  # proportional to weight per coalition, times comb(6, size)
    rows = [[True] * 6, [False] * 6]
    for number in range(1, 63):
        members = [bool(number >> bit & 1) for bit in range(6)]
        size = sum(members)
        times = {1: 60, 2: 15, 3: 10, 4: 15, 5: 60}[size] * sizes[size] // sizes[size]
        rows += [members] * times
    monkeypatch.setattr(shapley, "draw_coalitions", lambda *a: torch.tensor(rows))
    batch = examples(features(), [0, 1, 2, 0])
    weights = {1: 5 / (6 * 1 * 5), 2: 5 / (15 * 2 * 4), 3: 5 / (20 * 3 * 3)}
    assert weights[1] / weights[2] == pytest.approx(60 / 15)
    assert weights[2] / weights[3] == pytest.approx(15 / 10)
    close(run("kernel_shap", MLP, batch).values[0], run("shapley_exact", MLP, batch).values[0][:, 0])


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("saliency", lambda x, target: captum.Saliency(CNN).attribute(x, target)),
        (
            "integrated_gradients",
            lambda x, target: captum.IntegratedGradients(CNN).attribute(x, target=target),
        ),
        (
            "occlusion",
            lambda x, target: captum.Occlusion(CNN).attribute(x, (2, 4, 4), (2, 2, 2), target=target),
        ),
    ],
)
def test_sensitivity(method, theirs):
    targets = torch.tensor([1, 0, 2])
    batch = examples(images(), targets)
    args = {"integrated_gradients": {"n_steps": 50}, "occlusion": {"window": 4, "stride": 2}}.get(method, {})
    found = run(method, CNN, batch, **args)
    ours = quality.sensitivity(lambda noisy: run(method, CNN, noisy, **args), batch, found)
    expected = sensitivity_max(
        theirs, images(), lambda _: quality.moved_inputs(batch)[0], n_perturb_samples=10, target=targets
    )
    assert ours == pytest.approx(expected.tolist(), rel=1e-4)
    assert all(0 < number < 2 for number in ours)


def test_sensitivity_comes_from_the_seed_of_the_row():
    def measure(seeds):
        batch = examples(images(), [1, 1, 1], seeds=seeds)
        found = run("saliency", CNN, batch)
        return quality.sensitivity(lambda noisy: run("saliency", CNN, noisy), batch, found)

    assert measure([4, 5, 6])[0] == pytest.approx(measure([4, 9, 9])[0], rel=1e-5)
    assert measure([4, 5, 6])[0] != pytest.approx(measure([7, 5, 6])[0], rel=1e-3)


def test_sensitivity_of_attributions_that_are_nothing_is_nothing():
    batch = examples(torch.zeros(1, 2, 12, 12), [1])
    nothing = Attributed((torch.zeros(1, 1, 2, 12, 12),))
    assert quality.sensitivity(
        lambda noisy: Attributed((torch.zeros(10, 1, 2, 12, 12),)), batch, nothing
    ) == [0]


def test_sensitivity_moves_the_input_by_two_hundredths_of_its_range():
    batch = examples(images(), [1, 0, 2])
    (moved,) = quality.moved_inputs(batch)
    distance = (moved.reshape(3, 10, 2, 12, 12) - images().unsqueeze(1)).abs().amax(dim=(1, 2, 3, 4))
    spread = images().flatten(1).amax(dim=1) - images().flatten(1).amin(dim=1)
    torch.testing.assert_close(distance, 0.02 * spread, rtol=0.01, atol=0)
