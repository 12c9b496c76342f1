// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// What a run did, task by task, with the Kubernetes events of the same moments beside.

import { attribute, h, keyed, put, text } from "./dom.js";
import { CELLS, clock, duration, line, millis, number, plural } from "./format.js";
import { showResult } from "./detail.js";
import { LIMITS } from "./model.js";

const MARKS = ["ok", "changed", "failed", "ignored", "unreachable", "skipped", "running", "retry"];
const WORDS = { running: "running", retry: "retrying" };
const BESIDE = 4; // Kubernetes events shown beside one task

export function countCells(cells) {
  const counts = {};
  for (const letter of cells) {
    const { state } = CELLS[letter];
    if (state !== "none") counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
}

export class TimelineView {
  constructor(root, owner) {
    this.owner = owner;
    this.onlyProblems = false;
    this.search = h("input", { type: "search", placeholder: "Search tasks, modules, roles …", "aria-label": "Search tasks", "data-search": true, oninput: () => owner.draw() });
    this.button = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.toggle() }, "Only problems");
    this.problems = h("section", { class: "card problems", "aria-label": "Problems" });
    // Rows out of sight, whose content the style has left out, are brought up to date only when their task changes.
    this.list = h("ol", { class: "timeline card", oncontentvisibilityautostatechange: ({ target, skipped }) => {
      target.skipped = skipped;
      owner.draw();
    } });
    this.empty = h("div", { class: "card empty" });
    put(root, this.problems, h("div", { class: "tools" }, this.search, this.button), this.list, this.empty);
  }

  toggle() {
    this.onlyProblems = !this.onlyProblems;
    attribute(this.button, "aria-pressed", String(this.onlyProblems));
    this.owner.draw();
  }

  draw(run) {
    this.#drawProblems(run);
    const rows = this.#rows(run);
    const { summary } = run;
    const began = millis(summary.started ?? run.tasks.values().next().value?.started ?? summary.updated);
    const ended = summary.finished ? millis(summary.finished) : summary.status === "running" ? Date.now() : millis(summary.updated);
    const span = Math.max(1, ended - began);
    const kubernetes = this.owner.app.clusterEvents.list();
    keyed(this.list, rows, (row) => row.key, (row) => this.#make(row), (element, row) => {
      if (row.task) this.#update(element, row, { began, span, kubernetes });
      else text(element, row.text);
    });
    attribute(this.list, "data-beside", kubernetes.length ? "" : null);
    this.list.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    put(this.empty, run.tasks.size ? h("strong", {}, "No task matches") : h("strong", {}, "No task has started yet"));
  }

  #rows(run) {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    let play = null;
    for (const task of run.tasks.values()) {
      if (words.length) {
        const about = `${task.name ?? ""} ${task.action ?? ""} ${task.role ?? ""} ${task.path ?? ""}`.toLowerCase();
        if (!words.every((word) => about.includes(word))) continue;
      }
      if (this.onlyProblems && !task.cells.some((letter) => "fiu".includes(letter))) continue;
      if (task.play_id !== play) {
        play = task.play_id;
        const about = run.plays.get(play);
        if (about) rows.push({ key: `play ${play} ${task.task_id}`, text: line(about.name || "Play", about.batch && `batch ${about.batch}`) });
      }
      rows.push({ key: `task ${task.task_id}`, task });
    }
    if (run.unlisted) rows.push({ key: "unlisted", gap: true, text: `Only the first ${number(run.tasks.size)} of ${plural(run.summary.tasks, "task")} are shown.` });
    for (const gap of run.gaps) rows.push({ key: `gap ${gap.seq}`, gap: true, text: ["Gap: ", gap.message ?? "events are missing", gap.count ? ` (${plural(gap.count, "event")})` : ""] });
    if (run.missing.length) rows.push({ key: "missing", gap: true, text: `Gap: ${run.missing.map(([first, last]) => (first === last ? first : `${first}–${last}`)).join(", ")} did not arrive yet.` });
    return rows;
  }

  #make(row) {
    if (!row.task) return h("li", { class: row.gap ? "gap-row" : "play" });
    // By its name: of every snapshot the task is another object.
    const id = row.task.task_id;
    const parts = {
      at: h("span", { class: "at" }), name: h("button", { type: "button", class: "link-like", onclick: () => showResult(this.owner, { task: this.owner.run.taskOf(id) }) }),
      sub: h("div", { class: "quiet small" }), marks: h("div", { class: "marks" }), bar: h("div"), gantt: h("i"), beside: h("div", { class: "beside" }),
    };
    const element = h("li", { class: "step" }, parts.at,
      h("div", { class: "what" }, h("b", {}, parts.name), parts.sub),
      h("div", { class: "span" }, h("div", { class: "gantt", "aria-hidden": "true" }, parts.gantt), parts.marks),
      parts.beside);
    element.parts = parts;
    return element;
  }

  #update(element, { task }, { began, span, kubernetes }) {
    const changed = element.task !== task || element.seq !== task.seq;
    if (!changed && element.skipped) return;
    Object.assign(element, { task, seq: task.seq });
    const parts = element.parts;
    const ended = task.finished ? millis(task.finished) : began + span;
    const seconds = task.duration ?? (ended - millis(task.started)) / 1000;
    text(parts.sub, line(task.handler && "handler", task.action, task.role && `role ${task.role}`, task.no_log && "no_log", duration(seconds)));
    attribute(parts.sub, "title", task.path ?? null);
    parts.gantt.style.left = `${Math.min(99, Math.max(0, ((millis(task.started) - began) / span) * 100))}%`;
    parts.gantt.style.width = `${Math.max(0.5, Math.min(100, ((seconds * 1000) / span) * 100))}%`;
    this.#beside(element, task, kubernetes, ended);
    if (!changed) return;
    text(parts.at, clock(task.started));
    text(parts.name, task.name || task.action || "task");
    const counts = countCells(task.cells);
    const key = JSON.stringify(counts);
    if (element.countKey !== key) {
      element.countKey = key;
      put(parts.marks, MARKS.filter((name) => counts[name]).map((name) => h("span", { class: "mark", "data-s": name }, `${number(counts[name])} ${WORDS[name] ?? name}`)));
    }
  }

  // The Kubernetes events that came while this task ran, the newest first.
  #beside(element, task, events, ended) {
    const from = millis(task.started);
    const during = events.filter((event) => event.at >= from && event.at <= ended);
    const key = during.map((event) => event.key).join();
    if (element.besideKey === key) return;
    element.besideKey = key;
    put(element.parts.beside, during.slice(0, BESIDE).map((event) =>
      h("div", { "data-k": event.type }, h("b", {}, event.reason), " ", h("span", { class: "quiet" }, event.object), h("br"), event.message.slice(0, 160))),
    during.length > BESIDE ? h("span", { class: "quiet" }, `and ${during.length - BESIDE} more in the Kubernetes view`) : null);
  }

  #drawProblems(run) {
    const shown = run.problems.filter((problem) => !problem.ignored).slice(-5).reverse();
    this.problems.hidden = shown.length === 0;
    const key = shown.map((problem) => problem.seq).join();
    if (this.problemKey === key && this.problemRun === run) return;
    Object.assign(this, { problemKey: key, problemRun: run });
    const all = run.problems.filter((problem) => !problem.ignored).length;
    const known = run.problems.length < LIMITS.problems ? plural(all, "problem") : `At least ${plural(all, "problem")}`;
    put(this.problems,
      h("h2", {}, all > shown.length ? `${known}, the newest first` : known),
      h("ul", {}, shown.map((problem) => h("li", {},
        h("button", { type: "button", class: "link-like", onclick: () => showResult(this.owner, { task: run.taskOf(problem.task_id), task_id: problem.task_id, name: problem.task, host: problem.host }) },
          line(problem.task || "task", problem.host, problem.item)),
        h("span", { class: "msg small" }, problem.msg || problem.what)))));
  }
}

