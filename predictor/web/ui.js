// The page: choose a model, fill in its form, send the request, show the answer.

import { breakable, make, quote } from "./dom.js";
import * as why from "./explain.js";
import { buildForm } from "./fields.js";
import { ask, tokenOption } from "./token.js";

// The page may live behind a path prefix, so every address starts from where this file lies.
const ROOT = new URL("..", import.meta.url);
const POLL_MS = 2000;
const MAX_BARS = 12;
const MAX_VALUES = 3;
const MAX_LABEL = 200;
const MAX_SHOWN = 20_000;
const at = (id) => document.getElementById(id);

let models = [];
let form = null;
let info = null;
let shown = "";
let fresh = false;

start();

async function start() {
  at("model").addEventListener("change", () => choose(at("model").value));
  at("form").addEventListener("submit", predict);
  at("copy").addEventListener("click", copy);
  at("explain").addEventListener("click", explain);
  at("method").addEventListener("change", why.describe);
  for (const kind of ["input", "pointerup", "drop"]) at("form").addEventListener(kind, () => (fresh = false));
  window.addEventListener("hashchange", chooseFromAddress);
  try {
    await refresh();
  } catch (error) {
    at("failure").textContent = `The list of models could not be read: ${error.message}`;
    at("failure").hidden = false;
  }
}

/** Read which models there are and how they are, again while one of them is still coming. */
async function refresh() {
  ({ models } = await getJson("ui/models"));
  if (models.length === 0) throw new Error("no model is loaded.");
  listModels();
  if (form === null || shown !== signature()) await chooseFromAddress();
  else showState();
  at("main").hidden = false;
  if (models.some((model) => !model.ready && model.state !== "idle")) setTimeout(() => refresh().catch(retry), POLL_MS);
}

/** Bring the list of models up to date, without closing it under someone's hands for nothing. */
function listModels() {
  const select = at("model");
  const options = models.map((model) => make("option", { value: model.name }, title(model)));
  if (options.every((option, index) => select.options[index]?.isEqualNode(option)) && select.length === options.length) return;
  const selected = select.value;
  select.replaceChildren(...options);
  if (models.some((model) => model.name === selected)) select.value = selected;
}

function retry() {
  setTimeout(() => refresh().catch(retry), POLL_MS);
}

const title = (model) => (model.ready ? model.name : `${model.name} (${model.state})`);
const chosen = () => models.find((model) => model.name === at("model").value);
const signature = () => `${at("model").value} ${chosen()?.version} ${chosen()?.ready}`;

/** The name behind the # of the address; one that cannot be decoded is taken as it stands. */
function nameInAddress() {
  const name = location.hash.slice(1);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function chooseFromAddress() {
  const wanted = nameInAddress();
  const found = models.find((model) => model.name === wanted) ?? chosen() ?? models[0];
  return choose(found.name);
}

async function choose(name) {
  at("model").value = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  const explains = chosen().explains ? getJson(`v1/models/${encodeURIComponent(name)}/explain`) : null;
  const [told, methods] = await Promise.all([getJson(`info/${encodeURIComponent(name)}`), explains]);
  if (name !== at("model").value) return;
  info = told;
  shown = signature();
  form = buildForm(name, info.inputs);
  at("description").textContent = info.description;
  at("fields").replaceChildren(...form.elements);
  const buttons = chosen().examples.map((example) => exampleButton(name, example));
  at("examples").replaceChildren(...buttons);
  at("examples").parentElement.hidden = buttons.length === 0;
  const [first] = chosen().examples;
  if (first && first.kind !== "image") form.fill(first);
  why.offer(methods, info);
  clearAnswer();
  showState();
}

function showState() {
  const model = chosen();
  const failure = model.failure ? `: ${model.failure}` : "";
  at("state").textContent = `Version ${model.version}, ${model.state}${model.ready ? "" : failure}`;
  at("state").classList.toggle("ready", model.ready);
}

function exampleButton(name, example) {
  const button = make("button", { type: "button", className: "quiet example", title: example.name });
  const address = new URL(`ui/examples/${encodeURIComponent(name)}/${encodeURIComponent(example.name)}`, ROOT);
  if (example.kind === "image") button.append(make("img", { src: address.href, alt: "", width: 40, height: 40 }));
  button.append(make("span", {}, example.name));
  button.addEventListener("click", async () => {
    fresh = false;
    if (example.kind !== "image") return form.fill(example);
    const response = await ask(address);
    form.fill({ kind: "image", value: new File([await response.blob()], example.name) });
  });
  return button;
}

async function predict(event) {
  event.preventDefault();
  if (at("predict").ariaDisabled === "true") return;
  working(true);
  try {
    const request = await form.request();
    const started = performance.now();
    const response = await send(request);
    const text = await response.text();
    showAnswer(request, response, text, performance.now() - started);
  } catch (error) {
    clearAnswer();
    showError("", error.message);
  }
  working(false);
}

/** Explain what the form holds, after predicting it if that has not been done. */
async function explain() {
  if (at("explain").ariaDisabled === "true") return;
  if (!fresh) await predict(new Event("submit"));
  if (!fresh) return;
  explaining(true);
  why.forget();
  try {
    const request = await form.explanation(why.wish());
    const started = performance.now();
    const response = await send(request);
    const text = await response.text();
    showRequest(request, response, text, performance.now() - started);
    const answer = parse(text);
    if (response.ok) await why.show(answer.explanations[0], request.texts);
    else why.fail(answer?.error ?? text);
  } catch (error) {
    why.fail(error.message);
  }
  explaining(false);
}

function explaining(busy) {
  at("explain").ariaDisabled = String(busy);
  at("explain").textContent = busy ? "Explaining…" : "Explain";
  at("why").ariaBusy = String(busy);
}

async function send({ path, method, headers, body }) {
  try {
    return await ask(new URL(path, ROOT), { method, headers, body });
  } catch (error) {
    throw new Error(`The server did not answer (${error.message}).`);
  }
}

function working(busy) {
  at("predict").ariaDisabled = String(busy);
  at("predict").textContent = busy ? "Predicting…" : "Predict";
  at("answer").ariaBusy = String(busy);
}

/** Forget the last answer; the classes that are known keep their places. */
function clearAnswer() {
  at("summary").replaceChildren();
  at("summary").hidden = false;
  at("error").hidden = true;
  at("details").hidden = true;
  fresh = false;
  why.forget();
  showBars(info.classes.slice(0, MAX_BARS).map((label) => [label, null]));
}

function showAnswer(request, response, text, milliseconds) {
  clearAnswer();
  const answer = parse(text);
  fresh = response.ok;
  if (response.ok) showPrediction(answer);
  else showError(status(response), answer?.detail ?? answer?.error ?? answer?.message ?? text);
  showRequest(request, response, text, milliseconds);
  at("details").hidden = false;
  // On a narrow screen the answer lies below the form.
  if (at("answer").getBoundingClientRect().top > innerHeight / 2) at("answer").scrollIntoView();
}

/** Show the command of the last request, its answer, and how long that took. */
function showRequest(request, response, text, milliseconds) {
  const duration = milliseconds < 100 ? milliseconds.toFixed(1) : Math.round(milliseconds);
  at("timing").textContent = `${response.ok ? `${status(response)}, ` : ""}${duration} ms there and back`;
  const readable = parse(text) === null || text.includes("\n") ? text : spaced(text);
  at("raw").textContent = readable.length > MAX_SHOWN ? `${readable.slice(0, MAX_SHOWN)} …` : readable;
  at("curl").textContent = `curl ${tokenOption()}${request.curl} ${quote(new URL(request.path, ROOT).href)}`;
}

/** TorchServe's predictions, and HTTP/2, have no reason phrase. */
const status = (response) => `Status ${response.status} ${response.statusText}`.trim();

function showError(title, message) {
  at("bars").replaceChildren();
  at("summary").hidden = true;
  at("error").replaceChildren(...(title ? [make("strong", {}, title)] : []), make("span", {}, String(message)));
  at("error").hidden = false;
}

function showPrediction(answer) {
  const chances = probabilities(answer);
  const best = chances?.reduce((a, b) => (b[1] > a[1] ? b : a));
  const label = typeof answer?.label === "string" ? answer.label : best?.[0];
  if (label === undefined) return showValues(answer);
  at("summary").append(make("strong", {}, label));
  if (best) at("summary").append(" ", make("span", {}, percent(best[1])));
  if (chances) showBars(most(chances), label);
}

/** Show an answer that is no class: its first few single values by name, the rest being in the raw answer. */
function showValues(answer) {
  const single = Object.entries(answer ?? {}).filter(([, value]) => value === null || typeof value !== "object");
  const items = typeof answer === "object" ? single.slice(0, MAX_VALUES) : [];
  if (items.length === 0) at("summary").textContent = "Answered; the answer is below.";
  for (const [name, value] of items) at("summary").append(make("strong", {}, short(value)), make("span", {}, ...breakable(name)));
}

const short = (value) => String(typeof value === "number" ? Number(value.toPrecision(6)) : value).slice(0, MAX_LABEL);

/** Find [label, probability] pairs in an answer: our classifiers' lists, or TorchServe's label -> probability. */
function probabilities(answer) {
  const list = answer?.probabilities;
  if (Array.isArray(list) && list.length > 0 && list.every((value) => typeof value === "number"))
    return list.map((value, index) => [info.classes[index] ?? String(index), value]);
  if (info.outputs.length > 0 || answer === null || typeof answer !== "object") return null;
  const pairs = Object.entries(answer);
  const plausible = pairs.length > 1 && pairs.every(([, value]) => typeof value === "number" && value >= 0 && value <= 1);
  return plausible ? pairs : null;
}

/** All classes in their order, or the most probable ones where they are many. */
function most(chances) {
  return chances.length <= MAX_BARS ? chances : [...chances].sort((a, b) => b[1] - a[1]).slice(0, MAX_BARS);
}

function showBars(chances, best) {
  const rows = chances.map(([label, value]) => {
    const bar = make("span", { className: "bar" });
    bar.style.width = `${100 * (value ?? 0)}%`;
    const row = make("li", { className: label === best ? "best" : "" });
    row.append(make("span", { className: "class" }, ...breakable(label)), make("span", { className: "track" }, bar));
    row.append(make("span", { className: "percent" }, value === null ? "–" : percent(value)));
    return row;
  });
  at("bars").replaceChildren(...rows);
}

/** JSON text with room for line breaks; its numbers and strings stay as they were sent. */
const spaced = (json) => json.replace(/"(?:[^"\\]|\\.)*"|[,:]/g, (token) => (token.length === 1 ? `${token} ` : token));

const percent = (value) => (value > 0.9995 ? "over 99.9 %" : `${(100 * value).toFixed(1)} %`);

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Copy the command; browsers allow it on https and localhost only, so elsewhere it is selected instead. */
async function copy() {
  if (navigator.clipboard) await navigator.clipboard.writeText(at("curl").textContent);
  else getSelection().selectAllChildren(at("curl"));
  at("copy").textContent = navigator.clipboard ? "Copied" : "Selected";
  setTimeout(() => (at("copy").textContent = "Copy"), POLL_MS);
}

async function getJson(path) {
  const response = await ask(new URL(path, ROOT));
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? body.error ?? response.statusText);
  return body;
}
