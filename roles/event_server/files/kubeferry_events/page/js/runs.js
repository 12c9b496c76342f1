// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// The list of runs.

import { attribute, h, keyed, put, text } from "./dom.js";
import { STATUS, ago, dateTime, duration, line, millis, plural } from "./format.js";

const ORDER = ["ok", "changed", "skipped", "ignored", "failed", "unreachable"];
const FILTERS = [["", "All"], ["running", "Running"], ["failed", "Failed"], ["ok", "Succeeded"]];

export function countsBar(counts) {
  const total = ORDER.reduce((sum, name) => sum + (counts?.[name] ?? 0), 0);
  const words = ORDER.filter((name) => counts?.[name]).map((name) => `${counts[name]} ${name}`).join(", ");
  const bar = h("div", { class: "counts", role: "img", "aria-label": words || "no results yet" });
  for (const name of ORDER) {
    if (!counts?.[name]) continue;
    const part = h("span", { "data-s": name });
    part.style.flexGrow = counts[name] / total;
    bar.append(part);
  }
  return bar;
}

export function badge(status) {
  return h("span", { class: `badge${status === "running" ? " live" : ""}`, "data-s": status }, STATUS[status] ?? status);
}

export function took(row) {
  if (row.duration !== undefined) return duration(row.duration);
  const end = row.finished ? millis(row.finished) : row.status === "running" ? Date.now() : millis(row.updated);
  return duration((end - millis(row.started)) / 1000);
}

export class RunsView {
  constructor(root) {
    this.rows = new Map();
    this.filter = "";
    this.search = h("input", { type: "search", placeholder: "Search playbooks, users, run ids …", "aria-label": "Search runs", "data-search": true, oninput: () => this.draw() });
    this.buttons = FILTERS.map(([status, word]) =>
      h("button", { type: "button", class: "plain", "aria-pressed": String(status === ""), onclick: () => this.choose(status) }, word));
    this.list = h("ul", { class: "runs", "aria-label": "Runs" });
    this.empty = h("div", { class: "empty" });
    this.card = h("div", { class: "card" }, this.list, this.empty);
    put(root, h("div", { class: "head" }, h("h1", {}, "Runs")), h("div", { class: "tools" }, this.search, this.buttons), this.card);
    this.ready = false;
    this.draw();
  }

  choose(status) {
    this.filter = status;
    FILTERS.forEach(([value], at) => attribute(this.buttons[at], "aria-pressed", String(value === status)));
    this.draw();
  }

  receive(message) {
    if (message.type === "SNAPSHOT" && message.state.runs) {
      this.rows = new Map(message.state.runs.map((row) => [row.run, row]));
      this.ready = true;
    } else if (message.type === "RUNS") {
      for (const row of message.runs) this.rows.set(row.run, row);
      for (const run of message.removed ?? []) this.rows.delete(run);
    } else return;
    this.draw();
  }

  tick() {
    this.draw();
  }

  draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...this.rows.values()].filter((row) => {
      if (this.filter && row.status !== this.filter) return false;
      const about = `${row.playbook ?? ""} ${row.controller ?? ""} ${row.user ?? ""} ${row.job ?? ""} ${row.run} ${row.task ?? ""}`.toLowerCase();
      return words.every((word) => about.includes(word));
    });
    rows.sort((a, b) => ((a.started ?? a.updated) < (b.started ?? b.updated) ? 1 : -1));
    keyed(this.list, rows, (row) => row.run, (row) => this.make(row), (element, row) => this.update(element, row));
    this.list.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    if (!rows.length) this.explain();
  }

  explain() {
    if (!this.ready) put(this.empty, "Waiting for the list of runs …");
    else if (this.rows.size) put(this.empty, h("strong", {}, "No run matches"), "Clear the search or choose All.");
    else put(this.empty, h("strong", {}, "No runs yet"), "Enable the callback kubeferry.pvc.events where your playbooks run, and they appear here by themselves.");
  }

  make(row) {
    const parts = {
      status: h("div"), title: h("div", { class: "title" }), sub: h("div", { class: "quiet small clip" }),
      bar: h("div"), note: h("div", { class: "quiet small clip" }), when: h("div"), took: h("div", { class: "quiet small" }),
    };
    const link = h("a", { class: "run", href: `/runs/${row.run}`, "data-link": true },
      parts.status,
      h("div", { class: "names" }, parts.title, parts.sub),
      h("div", { class: "bars" }, parts.bar, parts.note),
      h("div", { class: "when" }, parts.when, parts.took));
    const element = h("li", {}, link);
    element.parts = parts;
    return element;
  }

  update(element, row) {
    const parts = element.parts;
    if (element.status !== row.status) {
      element.status = row.status;
      put(parts.status, badge(row.status));
    }
    text(parts.title, row.playbook ?? `run ${row.run.slice(0, 8)}`);
    text(parts.sub, line(row.check && "check mode", row.user, row.controller, row.job && `job ${row.job}`));
    text(parts.when, ago(row.started ?? row.updated));
    attribute(parts.when, "title", dateTime(row.started ?? row.updated));
    text(parts.took, `${row.status === "running" ? "for" : "took"} ${took(row)}`);
    if (element.row === row) return;
    element.row = row;
    put(parts.bar, countsBar(row.counts));
    const notes = [plural(row.hosts ?? 0, "host"), plural(row.tasks ?? 0, "task")];
    if (row.mismatches) notes.push(h("span", { class: "alert" }, plural(row.mismatches, "mismatch", "mismatches")));
    if (row.gaps) notes.push(plural(row.gaps, "gap"));
    if (row.status === "running" && row.task) notes.push(row.task);
    put(parts.note, line(notes));
  }
}
