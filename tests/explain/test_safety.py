"""Rules that keep explanations from being wrong, or from harming predictions."""

from __future__ import annotations

import pytest
import torch
from explain_fakes import FunctionalMlp, SmallCnn, examples, features, images, make, run
from torch import nn

from predictor.errors import HandlerStatus, InvalidInput, PayloadTooLarge
from predictor.explain.adopted import Adopted, AdoptedSignature
from predictor.explain.budget import Limits
from predictor.explain.examples import Subject
from predictor.explain.explainer import Explainer
from predictor.explain.shadow import ModelKind, kind_of, shadow_copy
from predictor.ipc.messages import TensorSpec

HOOKED = ["deep_lift", "grad_cam"]
# torch 2.13 finds its own ways of making such models out of date.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.mark.parametrize("method", HOOKED)
def test_methods_that_hook_refuse_what_is_not_eager(method):
    scripted = torch.jit.script(make(SmallCnn))
    with pytest.raises(InvalidInput, match="TorchScript"):
        run(method, scripted, examples(images(), [0, 1, 2]))


def test_deep_lift_refuses_activations_that_it_cannot_see():
    with pytest.raises(InvalidInput, match="does not hold for this model"):
        run("deep_lift", make(FunctionalMlp), examples(features(), [0, 1, 2, 0]))


def test_deep_lift_refuses_a_module_used_twice():
    class Twice(FunctionalMlp):
        def __init__(self):
            super().__init__()
            self.middle = nn.Linear(8, 8)
            self.act = nn.ReLU()

        def forward(self, features):
            return self.second(self.act(self.middle(self.act(self.first(features)))))

    with pytest.raises(InvalidInput):
        run("deep_lift", make(Twice), examples(features(), [0, 1, 2, 0]))


def test_deep_lift_refuses_probabilities():
    with pytest.raises(InvalidInput, match="explain.output must be 'logit'"):
        run("deep_lift", make(SmallCnn), examples(images(), [0, 1, 2]), probability=True)


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InvalidInput, match=r"explain.args.layer must be one of conv1, conv2; got 'relu1'"):
        run("grad_cam", make(SmallCnn), examples(images(), [0, 1, 2]), layer="relu1")


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "gradient_shap"])
def test_a_model_without_gradients_is_told_apart(method):
    class Steps(nn.Module):
        def forward(self, features):
            return (features > 0).float()

    with pytest.raises(InvalidInput, match="no gradients"):
        run(method, Steps(), examples(features(), [0, 1, 2, 0]))


@pytest.mark.parametrize("method", ["integrated_gradients", *HOOKED])
def test_the_serving_model_is_left_as_it_was(method):
    model = make(SmallCnn)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    run(method, model, examples(images(), [0, 1, 2]))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name])


def test_explaining_works_inside_inference_mode():
    model = make(SmallCnn)
    expected = run("saliency", model, examples(images(), [0, 1, 2])).values[0]
    batch = examples(images(), [0, 1, 2])
    with torch.inference_mode():
        assert torch.equal(run("saliency", model, batch).values[0], expected)


def test_a_shadow_shares_weights_and_nothing_else():
    model = make(SmallCnn)
    shadow = shadow_copy(model)
    with torch.no_grad():
        model.conv1.weight.mul_(2)
    assert torch.equal(shadow.conv1.weight, model.conv1.weight)
    assert shadow.conv1.weight.data_ptr() == model.conv1.weight.data_ptr()
    assert shadow.conv1 is not model.conv1


def test_kinds():
    model = make(SmallCnn)
    assert kind_of(model) is ModelKind.EAGER
    assert kind_of(torch.compile(model)) is ModelKind.EAGER
    assert kind_of(torch.jit.script(model)) is ModelKind.TORCHSCRIPT
    assert kind_of(torch.export.export(model, (images(),)).module()) is ModelKind.EXPORTED
    assert kind_of(lambda image: image) is ModelKind.CALLABLE


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("gradient_shap", {"n_samples": 5, "stdev": 0.1}),
        ("saliency", {"noise_samples": 4}),
        ("kernel_shap", {"n_samples": 50}),
        ("integrated_gradients", {}),
        ("occlusion", {"window": 4, "stride": 4}),
    ],
)
def test_a_row_is_answered_alike_alone_and_in_a_batch(method, args):
    model = make(SmallCnn)
    targets = torch.tensor([1, 0, 2])
    batch = run(method, model, examples(images(), targets, seeds=[7, 8, 9]), **args).values[0]
    for row, seed in enumerate([7, 8, 9]):
        alone = examples(images()[row : row + 1], targets[row : row + 1], seeds=[seed])
        torch.testing.assert_close(run(method, model, alone, **args).values[0], batch[row : row + 1])


def test_no_more_rows_in_a_pass_than_allowed():
    seen = []

    class Counting(FunctionalMlp):
        def forward(self, features):
            seen.append(len(features))
            return super().forward(features)

    for method in ("integrated_gradients", "gradient_shap", "shapley_exact", "feature_ablation"):
        run(method, make(Counting), examples(features(), [0, 1, 2, 0]), Limits(rows_per_pass=5))
    assert max(seen) == 5


def test_too_many_rows_are_refused_before_they_are_computed():
    with pytest.raises(PayloadTooLarge, match="65536 rows.*limit is 425.*n_steps"):
        Limits().allow(65536, 3 * 224 * 224, "n_steps")
    Limits().allow(65536, 13, "n_steps")
    with pytest.raises(PayloadTooLarge):
        Limits(max_rows=10).allow(11, 1, "n_steps")


def test_time_is_limited():
    with pytest.raises(HandlerStatus, match="stopped after"):
        run("integrated_gradients", make(SmallCnn), examples(images(), [0, 1, 2]), Limits(seconds=1e-9))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1, 0, 4)])
def test_an_input_without_numbers_is_refused_and_its_model_served(shape):
    spec = TensorSpec("nothing", shape=shape, kind="image" if len(shape) == 3 else "tensor")
    tensors = {"nothing": torch.zeros(shape)}
    handler = Adopted(
        lambda tensor: torch.ones(len(tensor), 2), AdoptedSignature((spec,)), torch.device("cpu"), tensors
    )
    explainer = Explainer(handler, {})
    assert explainer.model.describe()["methods"]
    (answer,) = explainer.explain([{"data": [], "explain": {"method": "feature_ablation"}}], [""])
    assert isinstance(answer, InvalidInput)
    assert answer.message == "Input 'nothing' holds nothing to explain"


class _Adds(nn.Module):
    def forward(self, first, middle=None, last=None):
        total = 2 * first
        total = total if middle is None else total + 3 * middle
        return total if last is None else total + 5 * last


class _Optional(Adopted):
    """A handler whose inputs may be left out, all but the first."""

    def example(self, row):
        return {name: torch.tensor(row[name]) for name in ("first", "middle", "last") if name in row}

    def collate(self, examples):
        names = ("first", "middle", "last")
        return [
            torch.stack([example[name] for example in examples]) if name in examples[0] else None
            for name in names
        ]


@pytest.mark.parametrize("method", ["integrated_gradients", "feature_ablation", "shapley_exact"])
def test_inputs_that_are_left_out_are_not_explained(method):
    specs = tuple(
        TensorSpec(name, shape=(2,), required=name == "first") for name in ("first", "middle", "last")
    )
    handler = _Optional(_Adds(), AdoptedSignature(specs), torch.device("cpu"), {})
    wish = {"method": method, "target": 1}
    rows = [
        {"first": [1.0, 1.0], "explain": wish},
        {"first": [1.0, 1.0], "last": [1.0, 1.0], "explain": wish},
        {"first": [1.0, 1.0], "middle": [1.0, 1.0], "explain": wish},
    ]
    answers = Explainer(handler, {}).explain(rows, [""] * 3)
    found = [{part["name"]: part["attributions"][1] for part in answer["inputs"]} for answer in answers]
    assert found == [
        {"first": pytest.approx(2)},
        {"first": pytest.approx(2), "last": pytest.approx(5)},
        {"first": pytest.approx(2), "middle": pytest.approx(3)},
    ]


def test_outputs_are_brought_to_where_the_inputs_are():
    on_host = Subject(lambda rows: torch.zeros(len(rows), 3), ModelKind.CALLABLE)
    assert on_host.scores([torch.zeros(2, 4, device="meta")]).device.type == "meta"
