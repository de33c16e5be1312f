"""Explanations in the forms that clients get: JSON, TorchServe's shapes, a page, or a picture."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np

from predictor.errors import NotAcceptable
from predictor.explain.explanation import Array, Explanation, InputPart, word_weights
from predictor.explain.pages import render_chart, render_page, render_words
from predictor.explain.rendering import render_picture
from predictor.explain.request import ExplainRequest
from predictor.explain.wishes import HTML, PNG, SVG


class Page:
    """An answer that is no JSON.

    Attributes:
        body: the whole answer.
        headers: its content type, and what a picture cannot say.
    """

    def __init__(self, body: bytes, headers: list[tuple[str, str]]) -> None:
        """Keep the parts."""
        self.body = body
        self.headers = headers


class RichAnswer(dict[str, Any]):
    """An explanation as JSON, which also knows the index that the model predicts."""

    predicted: int = 0


def as_json(explanation: Explanation, request: ExplainRequest) -> dict[str, Any]:
    """Return the parts that the request asks for; arrays stay numpy's, for orjson."""
    returns = request.returns
    result: dict[str, Any] = {
        "method": explanation.method,
        "target": _named(explanation.target, explanation),
    }
    if "prediction" in returns:
        result["prediction"] = _prediction(explanation)
    if "delta" in returns and explanation.has_delta:
        result["delta"] = explanation.delta
        result["relative_delta"] = explanation.relative_delta
    if explanation.n_steps is not None:
        result["n_steps"] = explanation.n_steps
    if explanation.converged is not None:
        result["converged"] = explanation.converged
    inputs = [part_json(part, explanation, request) for part in explanation.inputs]
    if explanation.features:
        if "attributions" in returns:
            result["features"] = [dataclasses.asdict(feature) for feature in explanation.features]
        result.update(_chart(explanation, request))
    else:
        result["inputs"] = inputs
    if "top_features" in returns:
        result["top_features"] = top_features(explanation, request.top_k)
    if "html" in returns:
        result["html"] = render_page(explanation, request.image, request.top_k)
    if explanation.metrics:
        result["metrics"] = dict(explanation.metrics)
    result["cost"] = dict(explanation.cost)
    return result


def _chart(explanation: Explanation, request: ExplainRequest) -> dict[str, Any]:
    chart = render_chart(explanation, request.top_k) if "image" in request.returns else None
    return {"image": {"content_type": SVG, "data": _base64(chart.encode())}} if chart else {}


def part_json(part: InputPart, explanation: Explanation, request: ExplainRequest) -> dict[str, Any]:
    """Return one input's part of the answer."""
    result: dict[str, Any] = {"name": part.name, "kind": part.kind, "shape": list(part.attributions.shape)}
    if part.words and "attributions" in request.returns:
        weights = word_weights(part)
        result["words"] = [word for (word, _, _), _ in weights]
        result["offsets"] = [[start, end] for (_, start, end), _ in weights]
        result["importances"] = [weight for _, weight in weights]
    elif "attributions" in request.returns:
        result["attributions"] = part.attributions
    if part.words and {"html", "image"} & set(request.returns):
        result["html"] = render_words(part)
    if "image" in request.returns and part.kind == "image":
        data = render_picture(part.values, part.attributions, request.image)
        result["image"] = {"content_type": PNG, "data": _base64(data)}
    return result


def top_features(explanation: Explanation, count: int) -> list[dict[str, Any]]:
    """Return the strongest features, words or pixels, strongest first."""
    found: list[dict[str, Any]]
    if explanation.features:
        found = [{"name": item.name, "attribution": item.attribution} for item in explanation.features]
    else:
        found = [item for part in explanation.inputs for item in _strongest(part, count)]
    found.sort(key=lambda item: -abs(item["attribution"]))
    return found[:count]


def _strongest(part: InputPart, count: int) -> list[dict[str, Any]]:
    if part.words:
        return [
            {"input": part.name, "word": word, "offsets": [start, end], "attribution": weight}
            for (word, start, end), weight in word_weights(part)
        ]
    flat = part.attributions.reshape(-1)
    order = np.argsort(-np.abs(flat), kind="stable")[:count]
    places = np.stack(np.unravel_index(order, part.attributions.shape), axis=1)
    return [
        {"input": part.name, "index": place, "attribution": weight}
        for place, weight in zip(places.tolist(), flat[order].tolist(), strict=True)
    ]


def as_torchserve(explanation: Explanation) -> Any:
    """Return what TorchServe's handlers answer: words and importances, or nested lists.

    Several inputs, which TorchServe has no shape for, give an object by their names.
    """
    texts = [part for part in explanation.inputs if part.words or part.text is not None]
    if texts and len(explanation.inputs) == 1:
        weights = texts[0].attributions[: len(texts[0].words)]
        length = float(np.linalg.norm(weights))
        return {
            "words": [word for word, _, _ in texts[0].words],
            "importances": (weights / length if length else weights).tolist(),
            "delta": explanation.delta,
        }
    if explanation.features:
        return {feature.name: feature.attribution for feature in explanation.features}
    if len(explanation.inputs) == 1:
        return _full(explanation.inputs[0])
    return {part.name: _full(part) for part in explanation.inputs}


def _full(part: InputPart) -> Array:
    return (
        np.ascontiguousarray(np.broadcast_to(part.raw, part.values.shape))
        if part.kind == "image"
        else part.raw
    )


def as_page(explanation: Explanation, request: ExplainRequest, media_type: str) -> Page:
    """Draw an explanation.

    Raises:
        NotAcceptable: this model's explanations have no such form.
    """
    headers = [
        ("content-type", media_type if media_type == PNG else f"{media_type}; charset=utf-8"),
        ("x-explain-method", explanation.method),
        ("x-explain-target", str(explanation.target)),
        ("x-explain-target-label", _header(explanation.target_label)),
    ]
    if explanation.has_delta:
        headers.append(("x-explain-delta", f"{explanation.delta:.6g}"))
    if media_type == HTML:
        return Page(render_page(explanation, request.image, request.top_k).encode(), headers)
    if media_type == PNG:
        picture = next((part for part in explanation.inputs if part.kind == "image"), None)
        if picture is not None:
            return Page(render_picture(picture.values, picture.attributions, request.image), headers)
    chart = render_chart(explanation, request.top_k) if media_type == SVG else None
    if chart is None:
        others = f"{HTML} or {PNG}" if media_type == SVG else f"{HTML} or {SVG}"
        raise NotAcceptable(f"This model's explanations cannot be drawn as {media_type}; ask for {others}")
    return Page(chart.encode(), headers)


def _header(text: str) -> str:
    """Return text as a header can carry it."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _named(index: int, explanation: Explanation) -> dict[str, Any]:
    label = explanation.labels[index] if index < len(explanation.labels) else None
    return {"index": index, "label": label}


def _prediction(explanation: Explanation) -> dict[str, Any]:
    result = _named(explanation.predicted, explanation) if explanation.score is not None else {}
    if explanation.score is not None:
        result["score"] = explanation.score
    result["output"] = explanation.output
    result["baseline_output"] = explanation.baseline_output
    result["kind"] = explanation.kind
    return result


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
