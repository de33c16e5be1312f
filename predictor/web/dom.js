// Making elements. Text is only ever set as text: nothing that a model or a file is called is read as HTML.

/** Make an element: `make("p", { className: "note" }, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A control with its label, and a hint that is read out with it. */
export function labelled(name, control, hint = "", className = "") {
  const field = make("div", { className: `field ${className}` });
  field.append(make("label", { htmlFor: control.id }, ...breakable(name)), control);
  if (hint) {
    const note = make("p", { id: `${control.id}-hint`, className: "note" }, hint);
    control.setAttribute("aria-describedby", note.id);
    field.append(note);
  }
  return field;
}

/** A name in pieces between which a line may end: after each underscore. */
export function breakable(name) {
  return name.split(/(?<=_)/).flatMap((piece) => [piece, make("wbr")]);
}

/** Put a word into a shell command. */
export function quote(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${escape(word)}'`;
}

/** Make text fit between the single quotes of a shell. */
export function escape(text) {
  return text.replaceAll("'", "'\\''");
}
