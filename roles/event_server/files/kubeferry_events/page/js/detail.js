// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// A result in full, fetched from the history when somebody wants to see it.

import { dialog, h, put } from "./dom.js";
import { CELLS, clock, dateTime, duration, line, plural } from "./format.js";
import { Run } from "./model.js";

const STATE = { started: "running", poll: "running", retry: "retry" };

const NEWEST = 200;

let asked = null;

// Of a task, by the identity that a host has of it where one is given; of one that isn't listed by its identity and name.
export function showResult(owner, { task, task_id, name, host }) {
  const title = line(task?.name || name || "Task", host);
  if (task?.joined.size && !host) {
    asked = null;
    dialog(title, facts(task), h("ul", { class: "hosts" }, hostsOf(owner.run, task).map(({ name, cell }) => h("li", {},
      h("span", { class: "badge", "data-s": cell.state }, cell.word), " ",
      h("button", { type: "button", class: "link-like", onclick: () => showResult(owner, { task, host: name }) }, name)))));
    return;
  }
  const body = dialog(title, h("p", { class: "quiet" }, "Reading the history …"));
  const id = task_id ?? (task && host ? Run.owner(task, owner.run.hostNumber.get(host)) ?? task.task_id : task?.task_id);
  asked = { owner, body, task, task_id: id, host, events: [], waiting: true };
  if (!ask()) put(body, h("p", {}, "Not connected now: the result comes here when the page is live again."));
}

export function historyRefused(message) {
  if (!asked) return;
  asked.waiting = false;
  put(asked.body, h("p", {}, message.message));
}

// What was asked for over a connection that was lost is not answered any more.
export function askHistoryAgain() {
  if (!asked?.waiting) return;
  asked.events = [];
  ask();
}

// The newest events, or those before what is there: an answer has as many as the server puts into one.
function ask() {
  const { owner, task_id, host, events } = asked;
  return owner.app.connection.send({ type: "GET_HISTORY", run: owner.id, limit: NEWEST - events.length, ...(task_id ? { task_id } : {}),
    ...(host ? { host } : {}), ...(events.length ? { before_seq: events.at(-1).seq } : {}) });
}

export function receiveHistory(message) {
  if (!asked || message.task_id !== asked.task_id || message.host !== asked.host || message.run !== asked.owner.id) return;
  const older = message.events.filter((event) => event.seq < (asked.events.at(-1)?.seq ?? Infinity));
  if (!older.length && asked.events.length) return; // asked for twice
  asked.events.push(...older);
  if (message.more && asked.events.length < NEWEST && ask()) return;
  asked.waiting = false;
  const results = asked.events.filter((event) => /^kubeferry\.v1\.(host|item)\./.test(event.type) && !event.type.endsWith(".started"));
  put(asked.body,
    asked.task && facts(asked.task),
    results.length === 0 ? h("p", { class: "quiet" }, "No result yet.") : results.map(result),
    message.more ? h("p", { class: "quiet" }, `Only the newest ${plural(asked.events.length, "event")} are shown: choose one host in the matrix.`) : null);
}

// Those first that ask for a look.
function hostsOf(run, task) {
  const found = run.hosts.map((name, number) => ({ name, letter: task.cells[number] ?? "." })).filter(({ letter }) => letter !== ".");
  const order = "fuisrcko";
  return found.sort((a, b) => order.indexOf(a.letter) - order.indexOf(b.letter)).map(({ name, letter }) => ({ name, cell: CELLS[letter] }));
}

function facts(task) {
  return h("dl", { class: "pairs" }, pairs({ Module: task.action, Role: task.role, Defined: task.path, Started: dateTime(task.started), Took: duration(task.duration) }));
}

function pairs(values) {
  return Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "")
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]);
}

function result(event) {
  const { data } = event;
  const state = event.type.split(".").at(-1);
  const flags = [data.ignored && "ignored", data.no_log && "no_log", event.redacted && "redacted", event.truncated && "cut for its size"].filter(Boolean);
  const blocks = [["Message", data.msg], ["Warnings", data.warnings?.join("\n")], ["Standard output", data.stdout], ["Standard error", data.stderr]];
  return h("section", { class: "card", "aria-label": `${data.host}: ${state}` },
    h("div", { class: "body" },
      h("div", { class: "head small" },
        h("span", { class: "badge", "data-s": STATE[state] ?? state }, state), h("b", {}, line(data.host, data.item)),
        h("span", { class: "quiet" }, clock(event.time), data.duration === undefined ? "" : ` · ${duration(data.duration)}`),
        data.delegated_to && h("span", { class: "quiet" }, `on ${data.delegated_to}`),
        data.attempt && h("span", { class: "quiet" }, `attempt ${data.attempt}${data.attempts ? ` of ${data.attempts}` : ""}`),
        flags.map((flag) => h("span", { class: "badge" }, flag))),
      blocks.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("div", { class: "quiet small" }, name), h("pre", { tabindex: "0" }, value))),
      data.result && h("details", {}, h("summary", {}, "Result"), h("pre", { tabindex: "0" }, JSON.stringify(data.result, null, 2)))));
}
