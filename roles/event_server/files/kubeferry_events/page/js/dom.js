// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Making elements. What came over the wire is only ever text or an attribute's value: nothing here parses HTML.

// Characters that turn a line around (UAX #9), end it, or can't be seen: with them one name could look like another.
const UNSEEN = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\u{e0000}-\u{e0fff}]/gu;
// The scripts that run from right to left.
const TURNING = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const PROPERTIES = new Set(["value", "disabled", "checked", "hidden", "open"]);

// Such characters as escapes, as Python and the tail write them.
function shown(value) {
  return value.replace(UNSEEN, (letter) => {
    const code = letter.codePointAt(0).toString(16);
    return code.length > 4 ? `\\U${code.padStart(8, "0")}` : code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code}`;
  });
}

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : shown(String(value)));
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

// What a text does to the direction of writing ends with it.
function alone(child) {
  if (typeof child !== "string") return child;
  const said = shown(child);
  if (!TURNING.test(said)) return said;
  const element = document.createElement("bdi");
  element.textContent = said;
  return element;
}

// Set an attribute only when it differs, so that nothing is laid out or read aloud anew for nothing.
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== shown(String(value))) element.setAttribute(name, shown(String(value)));
}

// A text, or several that stand side by side.
export function text(element, value) {
  if (element.textContent !== shown([value].flat().join(""))) put(element, value);
}

// The page's own title, where nothing can be a box.
export function title(...parts) {
  document.title = shown(parts.join(" · "));
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
