// The part of the page that explains: choose a method and an output, see what speaks for it and what against it.

import { breakable, make } from "./dom.js";

const MAX_FEATURES = 20;
const LARGE_DELTA = 0.05;
const CERTAIN = 0.9995;
const at = (id) => document.getElementById(id);

let offered = null;
let kinds = [];

/** Offer what explains a model: `found` is the answer of `GET .../explain`, null where there is nothing to offer. */
export function offer(found, info) {
  offered = found;
  at("why").hidden = found === null;
  forget();
  if (found === null) return;
  kinds = info.inputs.map((spec) => (spec.kind === "tensor" && spec.shape.length > 1 ? "array" : spec.kind));
  const methods = found.methods.map(({ name }) => make("option", { value: name }, name.replaceAll("_", " ")));
  at("method").replaceChildren(...methods);
  at("method").value = found.default_method;
  const targets = found.labels.map((label, index) => make("option", { value: index }, label));
  at("target").replaceChildren(make("option", { value: "predicted" }, "the answer"), ...targets);
  at("target").parentElement.hidden = targets.length === 0;
  describe();
}

/** Say what the chosen method does, and what it costs. */
export function describe() {
  const { summary, cost } = offered.methods.find(({ name }) => name === at("method").value);
  const rows = cost.forward_rows + 2 * cost.backward_rows;
  at("method-note").textContent = `${summary} At most the work of ${rows} prediction${rows === 1 ? "" : "s"}.`;
}

/** Forget the last explanation. */
export function forget() {
  at("explanation").hidden = true;
  at("why-error").hidden = true;
  at("figures").replaceChildren();
}

/** The `explain` object of the request, as JSON text. */
export function wish() {
  const target = at("target").value;
  const heavy = kinds.some((kind) => kind === "image" || kind === "array");
  const wanted = ["prediction", "delta", "top_features", ...(heavy ? [] : ["attributions"])];
  if (kinds.includes("image")) wanted.push("image");
  return JSON.stringify({
    method: at("method").value,
    target: target === "predicted" || target === "" ? "predicted" : Number(target),
    return: wanted,
    top_k: MAX_FEATURES,
  });
}

export function fail(message) {
  forget();
  at("why-error").textContent = message;
  at("why-error").hidden = false;
}

/** Show one explanation; `texts` are the texts that were sent, by input. */
export async function show(found, texts) {
  forget();
  at("question").textContent = question(found);
  const figures = [];
  for (const part of found.inputs ?? []) {
    if (part.image) figures.push(await picture(part, found));
    else if (part.words) figures.push(words(part, texts[part.name] ?? ""));
  }
  const bars = features(found);
  if (bars.length) figures.push(chart(bars));
  at("figures").replaceChildren(...figures);
  at("why-note").textContent = smallPrint(found);
  at("explanation").hidden = false;
  at("question").scrollIntoView({ block: "nearest" });
}

function question({ target, prediction }) {
  if (target.label === null) return `Why ${number(prediction.output)}?`;
  if (prediction.score === undefined) return `Why is '${target.label}' ${number(prediction.output)}?`;
  const isAnswer = prediction?.index === target.index;
  if (!isAnswer) return `What speaks for '${target.label}'? The answer is '${prediction.label}' (${chance(prediction.score)}).`;
  return `Why '${target.label}' (${chance(prediction.score)})?`;
}

const chance = (score) => (score > CERTAIN ? "over 99.9 %" : `${(100 * score).toFixed(1)} %`);

async function picture(part, found) {
  const bytes = Uint8Array.from(atob(part.image.data), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: part.image.content_type }));
  const canvas = make("canvas", { width: bitmap.width, height: bitmap.height, role: "img" });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const label = found.target.label ?? "a higher output";
  canvas.setAttribute("aria-label", `${part.name} with the parts marked that speak for and against '${label}'`);
  return make("figure", {}, canvas);
}

/** A text with its words marked; what stands between them stays. */
function words(part, text) {
  const top = Math.max(...part.importances.map(Math.abs), 1e-30);
  const letters = [...text];
  const pieces = [];
  let end = 0;
  part.offsets.forEach(([start, stop], index) => {
    const weight = part.importances[index];
    const mark = make("mark", { className: side(weight), title: signed(weight) }, letters.slice(start, stop).join(""));
    mark.style.setProperty("--strength", `${Math.round(75 * (Math.abs(weight) / top))}%`);
    pieces.push(letters.slice(end, start).join(""), mark);
    end = stop;
  });
  return make("p", { className: "words" }, ...pieces, letters.slice(end).join(""));
}

/** [name, what it is compared with, attribution] of the strongest features, strongest first. */
function features(found) {
  const rows = found.features
    ? found.features.map(({ name, value, baseline, attribution }) => [name, compared(value, baseline), attribution])
    : found.top_features.filter(({ input }) => !isPicture(found, input)).map((item) => [item.word ?? place(item), "", item.attribution]);
  return rows.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, MAX_FEATURES);
}

const isPicture = (found, name) => found.inputs.some((part) => part.name === name && part.image);
const place = ({ input, index }) => (index.length ? `${input}[${index.join(", ")}]` : input);

function compared(value, baseline) {
  const uses = offered.methods.find(({ name }) => name === at("method").value)?.uses_baseline;
  return uses ? `${number(value)} instead of ${number(baseline)}` : number(value);
}

/** Bars to the right for what speaks for the output, to the left for what speaks against it. */
function chart(rows) {
  const top = Math.max(...rows.map(([, , weight]) => Math.abs(weight)), 1e-30);
  const items = rows.map(([name, note, weight]) => {
    const bar = make("span", { className: `side ${side(weight)}` });
    bar.style.width = `${50 * (Math.abs(weight) / top)}%`;
    const label = make("span", { className: "feature" }, make("span", {}, ...breakable(name)));
    if (note) label.append(make("span", { className: "note" }, note));
    return make("li", {}, label, make("span", { className: "balance" }, bar), make("span", { className: "percent" }, signed(weight)));
  });
  const list = make("ol", { className: "features" }, ...items);
  list.setAttribute("aria-label", "What each part contributed, strongest first");
  return list;
}

const side = (weight) => (weight < 0 ? "against" : "for");
const signed = (weight) => `${weight < 0 ? "−" : "+"}${number(Math.abs(weight))}`;
const number = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–");

function smallPrint(found) {
  const { output, baseline_output: before } = found.prediction;
  const kind = found.prediction.kind ?? "output";
  const what = kind === "logit" ? "logit (its number for the answer, from which the probability is made)" : kind;
  const lines = [];
  if (found.delta !== undefined) {
    lines.push(`The model's ${what} is ${number(output)} here and ${number(before)} for what the input is compared with; the parts add up to the difference, but for ${number(Math.abs(found.delta))}.`);
    if (found.relative_delta > LARGE_DELTA) lines.push("Caution: that is much. Another method, or more steps, will tell more exactly.");
  }
  if (at("method").value === "saliency") lines.push("Saliency has no sign: it tells how strongly the answer reacts to each part, not in which direction.");
  const hidden = (found.features?.length ?? 0) - MAX_FEATURES;
  if (hidden > 0) lines.push(`${hidden} weaker features are not shown.`);
  lines.push("It shows what the model looks at, not what is true.");
  return lines.join(" ");
}
