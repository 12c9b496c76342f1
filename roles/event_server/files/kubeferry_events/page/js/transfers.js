// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Copies under way and done: bytes, files, rate, time left, phase.

import { attribute, h, keyed, put, text } from "./dom.js";
import { bytes, clock, duration, line, number } from "./format.js";

const STALE = 15000;

export class TransfersView {
  constructor(root, owner) {
    this.owner = owner;
    this.search = h("input", { type: "search", placeholder: "Search transfers …", "aria-label": "Search transfers", "data-search": true, oninput: () => owner.draw() });
    this.list = h("div", { class: "transfers" });
    this.empty = h("div", { class: "card empty" }, h("strong", {}, "No transfer yet"), "Copies and comparisons show here while they run.");
    put(root, h("div", { class: "tools" }, this.search), this.list, this.empty);
  }

  draw(run) {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = [...run.progress.values()].filter((item) => words.every((word) => `${item.label} ${item.host ?? ""} ${item.phase}`.toLowerCase().includes(word)));
    // What still moves comes first.
    items.sort((a, b) => (a.phase === "end") - (b.phase === "end") || (a.time < b.time ? 1 : -1));
    const reports = new Map(run.parity.map((entry) => [`${entry.task_id} ${entry.host}`, entry.report]));
    keyed(this.list, items, (item) => item.key, () => this.#make(), (element, item) => this.#update(element, item, run, reports.get(`${item.task_id} ${item.host}`)));
    this.empty.hidden = items.length > 0;
  }

  #make() {
    const parts = {
      label: h("b"), host: h("span", { class: "quiet small" }), phase: h("span", { class: "badge" }), fill: h("i"), bytes: h("span"), files: h("span"), rate: h("span"), left: h("span"),
    };
    parts.bar = h("div", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, parts.fill);
    const element = h("article", { class: "card transfer" }, h("div", { class: "top" }, parts.label, parts.host, parts.phase), parts.bar,
      h("div", { class: "numbers" }, parts.bytes, parts.files, parts.rate, parts.left));
    element.parts = parts;
    return element;
  }

  #update(element, item, run, report) {
    const { parts } = element;
    const { done, word, state } = outcome(item, run);
    const over = state !== "running";
    const silent = !over && Date.now() - Date.parse(item.time) > STALE;
    // Hundreds that are over stay as they are while one moves.
    const shown = element.shown ?? {};
    if (shown.item === item && shown.word === word && shown.silent === silent && shown.report === report) return;
    element.shown = { item, word, silent, report };
    const part = done ? 1 : item.bytes_total ? item.bytes / item.bytes_total : item.files_total ? item.files / item.files_total : null;
    const percent = part === null ? null : Math.min(100, Math.round(part * 100));
    const label = item.label || run.taskOf(item.task_id)?.name || "transfer";
    text(parts.label, label);
    text(parts.host, line(item.host, clock(item.time)));
    text(parts.phase, word);
    attribute(parts.phase, "data-s", state);
    attribute(parts.bar, "data-s", over ? state : null);
    attribute(parts.bar, "data-unknown", percent === null && !over ? "" : null);
    attribute(parts.bar, "aria-valuenow", percent);
    attribute(parts.bar, "aria-label", `${label}: ${word}`);
    parts.fill.style.width = percent === null ? "" : `${percent}%`;
    // Where nothing is counted, a nought would only look like a failure.
    const counted = item.bytes || item.files || (!over && (item.bytes_total || item.files_total));
    put(parts.bytes, counted ? [h("b", {}, bytes(item.bytes ?? 0)), item.bytes_total && !done ? ` of ${bytes(item.bytes_total)}` : "", percent !== null && !done ? ` (${percent} %)` : ""] : done && /copy$/.test(run.taskOf(item.task_id)?.action ?? "") ? "nothing had to be sent" : "");
    put(parts.files, counted ? [h("b", {}, number(item.files ?? 0)), item.files_total && !done ? ` of ${number(item.files_total)} files` : item.files === 1 ? " file" : " files"] : "");
    put(parts.rate, item.bytes_per_second ? [h("b", {}, `${bytes(item.bytes_per_second)}/s`)] : "");
    put(parts.left, silent ? "no news for a while" : over ? checked(report) : item.seconds_left ? [h("b", {}, duration(item.seconds_left)), " left"] : "");
  }
}

// A module says that it ends, not how: that is in its result, which comes right after.
function outcome(item, run) {
  const letter = run.taskOf(item.task_id)?.cells[run.hostNumber.get(item.host)];
  if ("fiu".includes(letter ?? " ")) return { done: false, word: "failed", state: "failed" };
  if (item.phase === "end" && !(run.summary.finished && letter === "s")) return { done: true, word: "done", state: "ok" };
  if (run.summary.finished) return { done: false, word: "stopped", state: "failed" };
  return { done: false, word: item.phase, state: "running" };
}

// What the proof says of it.
function checked(report) {
  if (!report) return "";
  const said = [h("b", {}, number(report.matched)), report.matched === 1 ? " path matches" : " paths match"];
  const differing = report.counts.metadata_differences;
  return differing ? [...said, ", ", h("b", {}, number(differing)), " more but for owner, mode or time"] : said;
}
