"""From a method's name to the attributions that it finds."""

from __future__ import annotations

import torch

from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject
from predictor.explain.gradients import gradient_shap, input_x_gradient, integrated_gradients, saliency
from predictor.explain.layers import deep_lift, grad_cam
from predictor.explain.methods import Args, Method
from predictor.explain.perturbation import feature_ablation, occlusion
from predictor.explain.precision import full_precision
from predictor.explain.shapley import kernel_shap, shapley_exact
from predictor.explain.smoothing import Attribute, smooth

_FUNCTIONS: dict[str, Attribute] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "gradient_shap": gradient_shap,
    "deep_lift": deep_lift,
    "grad_cam": grad_cam,
    "feature_ablation": feature_ablation,
    "occlusion": occlusion,
    "shapley_exact": shapley_exact,
    "kernel_shap": kernel_shap,
}


def attribute(method: Method, subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Find out how much each number of the inputs speaks for the targets.

    Rows do not know of each other: an example is answered alike alone and in any batch, up to the
    rounding that batches of different sizes bring.

    Args:
        args: all arguments of the method, as `Method.arguments` returns them.

    Raises:
        InvalidInput: the method cannot be used on this model.
        HandlerStatus: the time is over.
    """
    function = _FUNCTIONS[method.name]
    # Tensors made under inference mode can never have gradients.
    with torch.inference_mode(False), full_precision():
        if args.get("noise_samples"):
            return smooth(function, subject, examples, budget, args)
        return function(subject, examples, budget, args)
