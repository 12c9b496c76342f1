// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Making elements. What came over the wire is only ever text or an attribute's value: nothing here parses HTML.

// The characters that turn a line around, and with them the scripts that run from right to left (UAX #9).
const MARKS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const TURNING = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const PROPERTIES = new Set(["value", "disabled", "checked", "hidden", "open"]);

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...nodes(children));
  return element;
}

export function put(parent, ...children) {
  parent.replaceChildren(...nodes(children));
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map(alone);
}

// What a text does to the direction of writing ends with it. A stray U+2069 ends even what a <bdi> begins, so that is a box
// of its own in style.css.
function alone(child) {
  if (typeof child !== "string" || !TURNING.test(child)) return child;
  const element = document.createElement("bdi");
  element.textContent = child;
  return element;
}

// Set an attribute only when it differs, so that nothing is laid out or read aloud anew for nothing.
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// A text, or several that stand side by side.
export function text(element, value) {
  if (element.textContent !== [value].flat().join("")) put(element, value);
}

// The page's own title, where nothing can be a box.
export function title(...parts) {
  document.title = parts.join(" · ").replace(MARKS, "");
}

// Keep a container's children in step with a list: existing ones are updated and moved, never made again, so that focus
// and scroll position stay. make(item) returns an element, update(element, item) brings it up to date.
export function keyed(container, items, keyOf, make, update) {
  const known = container.known ?? (container.known = new Map());
  const wanted = new Set();
  let at = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    wanted.add(key);
    let element = known.get(key);
    if (!element) {
      element = make(item);
      known.set(key, element);
    }
    update?.(element, item);
    if (element === at) at = at.nextElementSibling;
    else container.insertBefore(element, at);
  }
  for (const [key, element] of known) {
    if (!wanted.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
}

// Call fn at most once a frame, however often it is asked for.
export function eachFrame(fn) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    const go = () => {
      waiting = false;
      fn();
    };
    // A hidden tab has no frames; it must not pile up work, nor stop for ever.
    if (document.hidden) setTimeout(go, 500);
    else requestAnimationFrame(go);
  };
}

export function announce(message) {
  document.getElementById("announce").textContent = message;
}

export function dialog(title, ...body) {
  const box = document.getElementById("dialog");
  const close = h("button", { class: "plain", type: "button", "aria-label": "Close", onclick: () => box.close() }, "✕");
  put(box, h("header", {}, h("h2", { id: "dialog-title" }, title), close), h("div", { class: "body" }, ...body));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
  return box.querySelector(".body");
}
