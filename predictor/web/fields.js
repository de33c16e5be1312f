// The form of one model: a field for each declared input, and from them the request to send.
//
// A field is {element, set(value), read()}. read() gives null where nothing was filled in, for the server to say
// what it misses; else {json}, the value as JSON text, and `shell` where that should not stand in a command.
// A request is {method, path, headers, body, curl}; curl is the part of the command before the address.

import { escape, labelled, make, quote } from "./dom.js";
import { pictureField } from "./picture.js";

/** Build the form of `model` from its declared inputs: {elements, fill(example), request(), explanation(wish)}. */
export function buildForm(model, inputs) {
  if (inputs.length === 0) return handlerForm(model);
  const fields = inputs.map((spec) => [spec.name, fieldFor(spec)]);
  const [, first] = fields[0];
  const onlyPicture = fields.length === 1 && inputs[0].kind === "image";
  return {
    elements: [make("div", { className: "grid" }, ...fields.map(([, field]) => field.element))],
    fill(example) {
      if (example.kind === "json") for (const [name, field] of fields) field.set(example.value[name] ?? "");
      else first.set(example.value);
    },
    request: () => (onlyPicture ? pictureRequest(model, first) : namedRequest(model, fields)),
    explanation: (wish) => explanationRequest(model, fields, wish),
  };
}

async function pictureRequest(model, field) {
  const file = await field.file();
  if (file === null) throw new Error("There is no picture yet: choose one or drop one.");
  return fileRequest(model, file);
}

/** Send a file as `curl -T` does: as it is, and without a Content-Type (so the File becomes a Blob). */
function fileRequest(model, file) {
  const literal = /[[\]{}]/.test(file.name) ? "-g " : "";
  const curl = `${literal}-T ${quote(file.name)}`;
  return { method: "PUT", path: `predictions/${encode(model)}`, headers: {}, body: new Blob([file]), curl };
}

async function namedRequest(model, fields) {
  const { body, shell } = await namedValues(fields);
  return post(`predict/${encode(model)}`, "application/json", body, `-d '${shell}'`);
}

/** Ask V1 why; `texts` are what was written into fields of text, by input. */
async function explanationRequest(model, fields, wish) {
  const { body, shell } = await namedValues(fields);
  const around = (instance, explain) => `{"instances": [${instance}], "explain": ${explain}}`;
  const request = post(`v1/models/${encode(model)}:explain`, "application/json", around(body, wish), `-d '${around(shell, escape(wish))}'`);
  return { ...request, texts: Object.fromEntries(fields.map(([name, field]) => [name, field.text?.()])) };
}

/** The object of all values as JSON, and the same for a shell. */
async function namedValues(fields) {
  const body = [];
  const shell = [];
  for (const [name, field] of fields) {
    const value = await field.read();
    if (value === null) continue;
    const key = JSON.stringify(name);
    body.push(`${key}: ${value.json}`);
    shell.push(`${escape(key)}: ${value.shell ?? escape(value.json)}`);
  }
  return { body: `{${body.join(", ")}}`, shell: `{${shell.join(", ")}}` };
}

function post(path, type, body, data) {
  return { method: "POST", path, headers: { "Content-Type": type }, body, curl: `-H 'Content-Type: ${type}' ${data}` };
}

/** A model that declares no inputs is sent what its handler understands: JSON, text or a file. */
function handlerForm(model) {
  const area = make("textarea", { id: "body", rows: 8, spellcheck: false, className: "code", value: "{}" });
  const file = make("input", { id: "file", type: "file" });
  const kind = make("select", { id: "kind" }, ...["JSON", "Text", "File"].map((name) => make("option", {}, name)));
  const written = labelled("Body", area);
  const chosen = labelled("File", file);
  const update = () => {
    written.hidden = kind.value === "File";
    chosen.hidden = kind.value !== "File";
  };
  kind.addEventListener("change", update);
  update();
  const note = "This model declares no inputs: what you give here is sent to its handler as it is.";
  return {
    elements: [labelled("Send", kind, note), written, chosen],
    fill(example) {
      kind.value = { json: "JSON", text: "Text", image: "File" }[example.kind];
      if (example.kind === "image") file.files = listOf(example.value);
      else area.value = example.kind === "json" ? JSON.stringify(example.value, null, 2) : example.value;
      update();
    },
    request() {
      const path = `predictions/${encode(model)}`;
      const data = `--data-raw ${quote(area.value)}`;
      if (kind.value === "JSON") return post(path, "application/json", area.value, data);
      if (kind.value === "Text") return post(path, "text/plain", area.value, data);
      if (file.files.length === 0) throw new Error("There is no file yet: choose one.");
      return fileRequest(model, file.files[0]);
    },
  };
}

function listOf(file) {
  const transfer = new DataTransfer();
  transfer.items.add(file);
  return transfer.files;
}

function encode(model) {
  return encodeURIComponent(model).replaceAll("'", "%27");
}

function fieldFor(spec) {
  // The first axis is the batch's: the form holds one example, which goes without it.
  const shape = spec.shape.slice(1);
  if (spec.kind === "image") return pictureField(spec, shape);
  if (spec.kind === "text" || spec.type === "string") return textField(spec);
  if (shape.length > 0) return arrayField(spec, shape);
  return spec.type === "bool" ? booleanField(spec) : numberField(spec);
}

function textField(spec) {
  const input = make("textarea", { id: `input-${spec.name}`, rows: 4 });
  return {
    element: labelled(spec.name, input, spec.description, "wide"),
    set: (value) => void (input.value = value),
    read: () => ({ json: JSON.stringify(input.value) }),
    text: () => input.value,
  };
}

function numberField(spec) {
  const step = /int/.test(spec.type) ? "1" : "any";
  const input = make("input", { id: `input-${spec.name}`, type: "number", step, autocomplete: "off" });
  return {
    element: labelled(spec.name, input, spec.description),
    set: (value) => void (input.value = value),
    read() {
      if (input.value === "") return null;
      // Whole numbers keep the digits that a JavaScript number would lose.
      return { json: String(/^-?\d+$/.test(input.value) ? BigInt(input.value) : Number(input.value)) };
    },
  };
}

function booleanField(spec) {
  const input = make("select", { id: `input-${spec.name}` }, make("option", {}, "false"), make("option", {}, "true"));
  return {
    element: labelled(spec.name, input, spec.description),
    set: (value) => void (input.value = String(value === true)),
    read: () => ({ json: input.value }),
  };
}

function arrayField(spec, shape) {
  const input = make("textarea", { id: `input-${spec.name}`, rows: 4, spellcheck: false, className: "code" });
  const lengths = shape.map((length) => (length < 0 ? "any" : length));
  const hint = `Nested lists of ${spec.type}, shape [${lengths.join(", ")}]. ${spec.description}`;
  const check = () => input.setCustomValidity(isJson(input.value) ? "" : "This is not JSON. Write lists like [[1, 2], [3, 4]].");
  input.addEventListener("input", check);
  return {
    element: labelled(spec.name, input, hint, "wide"),
    set(value) {
      input.value = value === "" ? "" : JSON.stringify(value);
      check();
    },
    read: () => (input.value.trim() === "" ? null : { json: input.value }),
  };
}

function isJson(text) {
  try {
    JSON.parse(text || "null");
    return true;
  } catch {
    return false;
  }
}
