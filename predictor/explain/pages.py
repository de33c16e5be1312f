"""An explanation as a page, or a part of one, that somebody reads who has never heard of any method."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from predictor.explain.bars import Bar, css_colour, render_bars
from predictor.explain.explanation import Explanation, Feature, InputPart, word_weights
from predictor.explain.methods import METHODS
from predictor.explain.rendering import render_picture
from predictor.explain.request import ImageStyle

# A gap between attributions and output above this is said in words.
_LARGE_DELTA = 0.05
_MAX_BARS = 30
# What not everybody knows.
_KINDS = {"logit": "logit (the model's number for it, from which the probability is made)"}
# Nobody should read 100 % for what is a little less.
_CERTAIN = 0.999

_STYLE = (
    "body{font:16px/1.5 system-ui,'Segoe UI',Helvetica,Arial,sans-serif;max-width:52rem;margin:2rem auto;"
    "padding:0 1rem;color:#111;background:#fff}h1{font-size:1.3rem;margin:0 0 .3rem}p{margin:.5rem 0}"
    ".note{color:#555;font-size:.88rem}figure{margin:1rem 0}img,svg{max-width:100%;height:auto}"
    ".words{line-height:2.1;font-size:1.05rem}.words mark{color:inherit;padding:.15em .25em;"
    "border-radius:.25em}"
    ".for{color:#d02030;font-weight:600}.against{color:#1c5cc8;font-weight:600}"
)


def render_page(explanation: Explanation, style: ImageStyle, top_k: int) -> str:
    """Return an HTML document without scripts or links, whose every text is escaped."""
    title = question(explanation)
    figures = _figures(explanation, style)
    bars, count = _bars(explanation, top_k)
    if bars:
        figures.append(render_bars(title, "", bars, headed=False))
    parts = [f"<figure>{figure}</figure>" for figure in figures]
    if len(bars) < count:
        parts.append(f"<p class='note'>The bars are the {len(bars)} strongest of {count}.</p>")
    body = "\n".join(
        (f"<h1>{escape(title)}</h1>", *_sentences(explanation), *parts, _small_print(explanation))
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def render_words(part: InputPart) -> str:
    """Return a text as HTML with its words marked: red for the target, blue against it, strong for much."""
    weights = word_weights(part)
    text = part.text or ""
    top = max((abs(weight) for _, weight in weights), default=0.0) or 1.0
    pieces = []
    end = 0
    for (_, start, stop), weight in weights:
        pieces.append(escape(text[end:start]))
        share = weight / top
        pieces.append(
            f"<mark style='background:{css_colour(share, 0.75 * abs(share))}' title='{weight:+.3g}'>"
            f"{escape(text[start:stop])}</mark>"
        )
        end = stop
    pieces.append(escape(text[end:]))
    return f"<span class='words'>{''.join(pieces)}</span>"


def render_chart(explanation: Explanation, top_k: int) -> str | None:
    """Return the strongest features, words or numbers as a bar chart in SVG, None for pictures."""
    shown, count = _bars(explanation, top_k)
    if not shown:
        return None
    rest = f"; the {len(shown)} strongest of {count}" if len(shown) < count else ""
    return render_bars(question(explanation), f"red speaks for it, blue against it{rest}", shown)


def _bars(explanation: Explanation, top_k: int) -> tuple[list[Bar], int]:
    """Return the strongest of what has a name, and how many there are of it."""
    method = explanation.method
    bars = [_feature_bar(feature, method) for feature in explanation.features]
    count = len(bars)
    for part in explanation.inputs:
        if part.kind == "tensor":
            bars += _number_bars(part, method)
            count += part.attributions.size
        else:
            words = word_weights(part)
            bars += [(word[0], "", weight) for word, weight in words]
            count += len(words)
    bars.sort(key=lambda bar: -abs(bar[2]))
    return bars[: min(top_k, _MAX_BARS)], count


def _number_bars(part: InputPart, method: str) -> list[Bar]:
    """Return the strongest numbers of a tensor, such as `features[3]`."""
    weights, values, baseline = (some.reshape(-1) for some in (part.attributions, part.values, part.baseline))
    bars = []
    for index in np.argsort(-np.abs(weights), kind="stable")[:_MAX_BARS]:
        place = ", ".join(map(str, np.unravel_index(index, part.values.shape)))
        name = f"{part.name}[{place}]" if place else part.name
        numbers = (float(some[index]) for some in (values, baseline, weights))
        bars.append(_feature_bar(Feature(name, *numbers), method))
    return bars


def question(explanation: Explanation) -> str:
    """Return the question that an explanation answers, such as "Why 'cat' (91 %)?"."""
    label = explanation.target_label
    if explanation.target_score is None:
        number = f"{explanation.output:.4g}"
        return f"Why is '{label}' {number}?" if explanation.labels else f"Why {number}?"
    verb = "Why" if explanation.target == explanation.predicted else "What speaks for"
    return f"{verb} '{label}' ({_percent(explanation.target_score)})?"


def _percent(share: float) -> str:
    if share > _CERTAIN:
        return f"over {_CERTAIN:.1%}".replace("%", " %")
    if share < 1 - _CERTAIN:
        return f"under {1 - _CERTAIN:.1%}".replace("%", " %")
    return f"{share:.1%}".replace("%", " %")


def _feature_bar(feature: Feature, method: str) -> Bar:
    compared = f" instead of {feature.baseline:.4g}" if METHODS[method].uses_baseline else ""
    return (feature.name, f"{feature.value:.4g}{compared}", feature.attribution)


def _sentences(explanation: Explanation) -> list[str]:
    sentences = []
    if explanation.score is not None and explanation.target != explanation.predicted:
        sentences.append(
            f"<p>The model's own answer is '{escape(explanation.predicted_label)}' "
            f"({_percent(explanation.score)}).</p>"
        )
    what = f"'{escape(explanation.target_label)}'" if explanation.labels else "output"
    what = f"a higher {what}" if explanation.score is None else what
    sentences.append(
        f"<p>What is <span class='for'>red</span> speaks for {what}, what is "
        f"<span class='against'>blue</span> against it; the stronger the colour, the more.</p>"
    )
    return sentences


def _small_print(explanation: Explanation) -> str:
    lines = [f"{explanation.method}: {METHODS[explanation.method].summary}"]
    if METHODS[explanation.method].uses_baseline:
        # Nobody should read -0.
        here, there = (f"{value + 0.0:.4g}" for value in (explanation.output, explanation.baseline_output))
        what = _KINDS.get(explanation.kind, explanation.kind)
        lines.append(f"The {what} is {here} here, and {there} at the baseline it is compared with.")
    if explanation.has_delta and explanation.relative_delta > _LARGE_DELTA:
        share = f"{explanation.relative_delta:.0%}"
        lines.append(f"Caution: the parts miss {share} of that difference; ask for more steps.")
    return "".join(f"<p class='note'>{escape(line)}</p>" for line in lines)


def _figures(explanation: Explanation, style: ImageStyle) -> list[str]:
    """Return the pictures and the marked texts."""
    figures = []
    for part in explanation.inputs:
        if part.kind == "image":
            data = base64.b64encode(render_picture(part.values, part.attributions, style)).decode("ascii")
            figures.append(f"<img alt='{escape(part.name, quote=True)}' src='data:image/png;base64,{data}'>")
        elif part.words and part.text is not None:
            figures.append(f"<p>{render_words(part)}</p>")
    return figures
