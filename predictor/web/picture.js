// A picture as input: a file that is dropped or chosen, or, where the model reads one channel, a drawing.

import { breakable, make, quote } from "./dom.js";

const SIZE = 280;
const PEN = 22;
const DRAWING = "drawing.png";

/** The field of one picture: {element, set(file), read(), file()}; the last gives a File, or null for none. */
export function pictureField(spec, shape) {
  const drawable = shape.length === 2 || (shape.length === 3 && (shape[0] === 1 || shape[2] === 1));
  const canvas = make("canvas", { width: SIZE, height: SIZE, role: "img" });
  const paper = canvas.getContext("2d");
  const hint = make("p", { className: "hint" }, drawable ? "Drop a picture here, or draw" : "Drop a picture here");
  const stage = make("div", { className: drawable ? "stage drawable" : "stage" }, canvas, hint);
  const input = make("input", { id: `input-${spec.name}`, type: "file", accept: "image/*", className: "unseen" });
  const choose = make("label", { htmlFor: input.id, className: "button quiet" }, "Choose a file");
  const clear = make("button", { type: "button", className: "quiet" }, "Clear");
  const caption = make("p", { className: "note caption" });
  const save = make("a", { download: DRAWING }, "Save it");
  const tools = make("div", { className: "tools" }, input, choose, clear, caption);
  const note = make("p", { className: "note", id: `${input.id}-hint` }, spec.description);
  input.setAttribute("aria-describedby", note.id);
  let current = null;
  let pending = Promise.resolve();

  function show(file, text) {
    current = file;
    caption.textContent = text;
    hint.hidden = file !== null;
    canvas.setAttribute("aria-label", text || "No picture yet");
  }

  function wipe() {
    paper.fillStyle = "white";
    paper.fillRect(0, 0, SIZE, SIZE);
    input.value = "";
    show(null, "");
  }

  async function take(file) {
    wipe();
    show(file, `${file.name}, ${(file.size / 1024).toFixed(1)} kB`);
    try {
      const bitmap = await createImageBitmap(file);
      const scale = SIZE / Math.max(bitmap.width, bitmap.height);
      const [width, height] = [bitmap.width * scale, bitmap.height * scale];
      paper.imageSmoothingEnabled = scale < 1;
      paper.drawImage(bitmap, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
    } catch {
      // The server reads formats that browsers do not, and says so if it cannot; the file is sent all the same.
      show(file, `${file.name}, which this browser cannot show`);
    }
  }

  async function keepDrawing() {
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    show(new File([blob], DRAWING), "Your drawing");
    // The curl line sends a file, so the drawing can be made one.
    URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(blob);
    caption.append(" ", save);
  }

  input.addEventListener("change", () => input.files.length && take(input.files[0]));
  clear.addEventListener("click", wipe);
  acceptDrops(stage, take);
  if (drawable) {
    acceptStrokes(canvas, paper, {
      begin: () => (current && current.name !== DRAWING ? wipe() : (hint.hidden = true)),
      end: () => (pending = keepDrawing()),
    });
  }
  wipe();

  async function file() {
    await pending;
    return current;
  }
  return {
    element: make("fieldset", { className: "field wide" }, make("legend", {}, ...breakable(spec.name)), make("div", { className: "picture" }, stage, tools), note),
    set: (value) => (value instanceof File ? take(value) : wipe()),
    file,
    async read() {
      const picture = await file();
      if (picture === null) return null;
      return { json: `"${await base64(picture)}"`, shell: `"'"$(base64 < ${quote(picture.name)} | tr -d '\\n')"'"` };
    },
  };
}

function acceptDrops(stage, take) {
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    stage.addEventListener(kind, (event) => {
      event.preventDefault();
      stage.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    });
  }
}

function acceptStrokes(canvas, paper, { begin, end }) {
  const draw = (event) => {
    const box = canvas.getBoundingClientRect();
    paper.lineTo(((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height);
    paper.stroke();
  };
  let drawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    begin();
    Object.assign(paper, { strokeStyle: "black", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    paper.beginPath();
    draw(event);
  });
  canvas.addEventListener("pointermove", (event) => drawing && event.getCoalescedEvents().forEach(draw));
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, () => {
      if (drawing) end();
      drawing = false;
    });
  }
}

async function base64(file) {
  const reader = new FileReader();
  await new Promise((done, failed) => {
    Object.assign(reader, { onload: done, onerror: () => failed(reader.error) });
    reader.readAsDataURL(file);
  });
  return reader.result.slice(reader.result.indexOf(",") + 1);
}
