// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Hosts × tasks. A thousand hosts and hundreds of tasks are hundreds of thousands of cells: only those in sight exist.

import { attribute, h, put, text } from "./dom.js";
import { CELLS, line, plural } from "./format.js";
import { showResult } from "./detail.js";

const STEP = 26;
const HEAD = 34;
const ROLES = { corner: "columnheader", col: "columnheader", row: "rowheader", cell: "gridcell" };
const SPARE = 4; // rows and columns beyond the edge

export class MatrixView {
  constructor(root, owner) {
    Object.assign(this, { owner, hosts: [], tasks: [], at: { row: 0, col: 0 }, onlyProblems: false, cells: new Map(), lines: new Map() });
    this.search = h("input", { type: "search", placeholder: "Search hosts …", "aria-label": "Search hosts", "data-search": true, oninput: () => owner.draw() });
    this.button = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.toggle() }, "Only hosts with problems");
    this.canvas = h("div", { class: "canvas", role: "presentation" });
    this.box = h("div", {
      class: "matrix", role: "grid", tabindex: "0", "aria-label": "Tasks by host. Arrow keys move, Enter opens a result.",
      onscroll: () => this.#paint(), onkeydown: (event) => this.#key(event), onclick: (event) => this.#click(event), onpointermove: (event) => this.#hover(event),
    }, this.canvas);
    this.reading = h("div", { class: "reading", role: "status" });
    this.empty = h("div", { class: "empty" });
    const legend = Object.values(CELLS).filter((cell) => cell.sign).map((cell) =>
      h("span", {}, h("span", { class: "cell", "data-s": cell.state, "aria-hidden": "true" }, cell.sign), cell.word));
    put(root, h("div", { class: "tools" }, this.search, this.button), h("div", { class: "card" }, this.reading, this.box, this.empty), h("div", { class: "legend" }, legend));
    this.observer = new ResizeObserver(() => this.#paint());
    this.observer.observe(this.box);
  }

  close() {
    this.observer.disconnect();
  }

  toggle() {
    this.onlyProblems = !this.onlyProblems;
    attribute(this.button, "aria-pressed", String(this.onlyProblems));
    this.owner.draw();
  }

  draw(run) {
    this.run = run;
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.tasks = [...run.tasks.values()];
    const troubled = this.onlyProblems ? this.#troubled() : null;
    this.hosts = run.hosts.map((name, index) => ({ name, index }))
      .filter(({ name, index }) => words.every((word) => name.toLowerCase().includes(word)) && (!troubled || troubled.has(index)));
    this.box.hidden = this.hosts.length === 0 || this.tasks.length === 0;
    this.empty.hidden = !this.box.hidden;
    put(this.empty, h("strong", {}, run.hosts.length && this.tasks.length ? "No host matches" : "No results yet"));
    this.names = Math.min(260, Math.max(120, 34 + 8 * Math.max(4, ...this.hosts.slice(0, 2000).map(({ name }) => name.length))));
    if (window.innerWidth < 640) this.names = Math.min(this.names, 130);
    this.canvas.style.width = `${this.names + this.tasks.length * STEP + 12}px`;
    this.canvas.style.height = `${HEAD + this.hosts.length * STEP + 12}px`;
    this.box.style.height = `${Math.min(HEAD + this.hosts.length * STEP + 16, Math.max(240, Math.min(760, window.innerHeight * 0.68)))}px`;
    attribute(this.box, "aria-rowcount", this.hosts.length + 1);
    attribute(this.box, "aria-colcount", this.tasks.length + 1);
    this.#paint();
    this.#read();
  }

  #troubled() {
    const found = new Set();
    for (const task of this.tasks) task.cells.forEach((letter, index) => "fiu".includes(letter) && found.add(index));
    return found;
  }

  #paint() {
    if (!this.run || this.box.hidden) return;
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.box;
    const rows = [Math.max(0, Math.floor(scrollTop / STEP) - SPARE), Math.min(this.hosts.length, Math.ceil((scrollTop + clientHeight) / STEP) + SPARE)];
    const cols = [Math.max(0, Math.floor(scrollLeft / STEP) - SPARE), Math.min(this.tasks.length, Math.ceil((scrollLeft + clientWidth) / STEP) + SPARE)];
    const wanted = new Map();
    wanted.set("corner", { line: -1, kind: "corner", x: scrollLeft, y: scrollTop, w: this.names, label: "host ↓ task →" });
    for (let col = cols[0]; col < cols[1]; col += 1) {
      wanted.set(`c${col}`, { line: -1, kind: "col", x: this.names + col * STEP, y: scrollTop, w: STEP, label: String(col + 1), at: col === this.at.col, title: this.tasks[col].name });
    }
    for (let row = rows[0]; row < rows[1]; row += 1) {
      wanted.set(`r${row}`, { line: row, kind: "row", x: scrollLeft, y: HEAD + row * STEP, w: this.names, label: this.hosts[row].name, at: row === this.at.row, title: this.hosts[row].name });
      for (let col = cols[0]; col < cols[1]; col += 1) {
        const cell = CELLS[this.tasks[col].cells[this.hosts[row].index] ?? "."];
        wanted.set(`${row},${col}`, { line: row, kind: "cell", x: this.names + col * STEP + 2, y: HEAD + row * STEP + 2, cell, row, col, active: row === this.at.row && col === this.at.col });
      }
    }
    this.#reconcile(wanted);
  }

  #reconcile(wanted) {
    for (const [key, element] of this.cells) {
      if (!wanted.has(key)) {
        element.remove();
        this.cells.delete(key);
      }
    }
    for (const [key, want] of wanted) {
      let element = this.cells.get(key);
      if (!element) {
        element = h("div", { class: want.kind, role: ROLES[want.kind] });
        if (want.kind === "cell") {
          element.id = `cell-${want.row}-${want.col}`;
          element.setAttribute("aria-colindex", want.col + 2);
        }
        this.cells.set(key, element);
        this.#line(want.line).append(element);
      }
      element.style.transform = `translate(${want.x}px, ${want.y}px)`;
      if (want.w) element.style.width = `${want.w}px`;
      if (want.kind === "cell") {
        attribute(element, "data-s", want.cell.state);
        attribute(element, "data-active", want.active ? "" : null);
        attribute(element, "aria-label", `${this.hosts[want.row].name}, ${this.tasks[want.col].name || `task ${want.col + 1}`}: ${want.cell.word}`);
        element.row = want.row;
        element.col = want.col;
        text(element, want.cell.sign);
      } else {
        attribute(element, "data-at", want.at ? "" : null);
        attribute(element, "title", want.title);
        text(element, want.label);
      }
    }
    for (const [row, line] of this.lines) {
      if (!line.firstChild) {
        line.remove();
        this.lines.delete(row);
      }
    }
    attribute(this.box, "aria-activedescendant", `cell-${this.at.row}-${this.at.col}`);
  }

  // The row that a cell belongs to, for those who can't see that it does; it has no place of its own on the screen.
  #line(row) {
    let line = this.lines.get(row);
    if (!line) {
      line = h("div", { role: "row", "aria-rowindex": row + 2 });
      this.lines.set(row, line);
      this.canvas.append(line);
    }
    return line;
  }

  #key(event) {
    const page = Math.max(1, Math.floor((this.box.clientHeight - HEAD) / STEP) - 1);
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-page, 0], PageDown: [page, 0], Home: [0, -1e9], End: [0, 1e9] };
    if (event.key === "Enter" || event.key === " ") this.#open();
    else if (moves[event.key]) this.#move(this.at.row + moves[event.key][0], this.at.col + moves[event.key][1], true);
    else return;
    event.preventDefault();
  }

  #move(row, col, scroll) {
    this.at = { row: Math.min(this.hosts.length - 1, Math.max(0, row)), col: Math.min(this.tasks.length - 1, Math.max(0, col)) };
    if (scroll) {
      const [x, y] = [this.at.col * STEP, this.at.row * STEP];
      const [width, height] = [this.box.clientWidth - this.names - STEP, this.box.clientHeight - HEAD - STEP];
      this.box.scrollTop = Math.min(y, Math.max(this.box.scrollTop, y - height));
      this.box.scrollLeft = Math.min(x, Math.max(this.box.scrollLeft, x - width));
    }
    this.#paint();
    this.#read();
  }

  #hover(event) {
    if (event.pointerType === "mouse" && event.target.row !== undefined) this.#move(event.target.row, event.target.col, false);
  }

  #click(event) {
    if (event.target.row === undefined) return;
    this.#move(event.target.row, event.target.col, false);
    this.#open();
  }

  #open() {
    const [host, task] = [this.hosts[this.at.row], this.tasks[this.at.col]];
    if (host && task) showResult(this.owner, { task, host: host.name });
  }

  #read() {
    const [host, task] = [this.hosts[this.at.row], this.tasks[this.at.col]];
    if (!host || !task) return text(this.reading, `${plural(this.run.hosts.length, "host")}, ${plural(this.tasks.length, "task")}`);
    const cell = CELLS[task.cells[host.index] ?? "."];
    return text(this.reading, line(host.name, `${this.at.col + 1}. ${task.name || "task"}`, cell.word));
  }
}
