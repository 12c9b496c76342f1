// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// The proof: what matched, and every file that did not.

import { attribute, h, keyed, put } from "./dom.js";
import { bytes, clock, duration, line, number, plural, word } from "./format.js";

const KINDS = { missing: "missing at the target", mismatched: "different", unreadable: "unreadable", metadata_differences: "other mode, owner or time", extra: "only at the target", changed_at_source: "didn't rest at the source" };
const STATE = { missing: "failed", mismatched: "failed", unreadable: "failed", metadata_differences: "changed", extra: "skipped", changed_at_source: "changed" };

// Both values of an attribute, where it has two.
function difference([name, both], at) {
  return [at ? ", " : "", name, ...(Array.isArray(both) ? [" ", word(both[0]), " → ", word(both[1])] : [])];
}

function rows(report) {
  const list = (name, fn) => (report[name] ?? []).map((item) => ({ kind: name, ...fn(item) }));
  return [
    ...list("missing", (path) => ({ path, how: "" })),
    ...list("mismatched", (item) => ({ path: item.path, how: (item.differs ?? []).join(", ") })),
    ...list("unreadable", (item) => ({ path: item.path, how: item.reason ?? "" })),
    ...list("metadata_differences", (item) => ({ path: item.path, how: Object.entries(item.differs ?? {}).map(difference) })),
    ...list("extra", (path) => ({ path, how: "" })),
    ...list("changed_at_source", (item) => ({ path: item.path, how: item.what ?? "" })),
  ];
}

export class ParityView {
  constructor(root, owner) {
    this.owner = owner;
    this.search = h("input", { type: "search", placeholder: "Search paths …", "aria-label": "Search paths", "data-search": true, oninput: () => owner.draw() });
    this.onlyProblems = false;
    this.run = null;
    this.snapshots = 0;
    this.button = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.toggle() }, "Only mismatches");
    this.list = h("div", { class: "reports" });
    this.empty = h("div", { class: "card empty" });
    put(root, h("div", { class: "tools" }, this.search, this.button), this.list, this.empty);
  }

  toggle() {
    this.onlyProblems = !this.onlyProblems;
    attribute(this.button, "aria-pressed", String(this.onlyProblems));
    this.owner.draw();
  }

  draw(run) {
    // A new snapshot may have other reports in the same places.
    if (this.run !== run) this.snapshots += 1;
    this.run = run;
    const query = this.search.value.toLowerCase();
    const reports = run.parity.map((entry, at) => ({ ...entry, at, name: entry.item || entry.task || run.taskOf(entry.task_id)?.name || "comparison" }));
    const shown = reports.map((entry) => ({ ...entry, rows: rows(entry.report).filter((row) => row.path.toLowerCase().includes(query)) }))
      .filter((entry) => (!query || entry.rows.length) && (!this.onlyProblems || entry.rows.some((row) => STATE[row.kind] === "failed")));
    keyed(this.list, shown, (entry) => `${this.snapshots} ${entry.at} ${query}`, (entry) => this.#make(entry));
    this.empty.hidden = shown.length > 0;
    put(this.empty, run.parity.length ? h("strong", {}, "No report matches") : [h("strong", {}, "No parity report yet"), "Each copy and each comparison leaves one when it ends."]);
  }

  #make({ report, name, host, time, rows: found }) {
    const { counts } = report;
    const broken = (counts.missing ?? 0) + (counts.mismatched ?? 0) + (counts.unreadable ?? 0);
    const whole = report.whole ?? !broken;
    const verdict = broken ? plural(broken, "mismatch", "mismatches") : whole ? "every byte arrived" : "not a whole copy";
    const about = [report.files !== undefined && plural(report.files, "file"), report.bytes !== undefined && bytes(report.bytes), report.checksum, report.transport && `by ${report.transport}`, report.route && `route ${report.route}`, duration(report.seconds)].filter(Boolean);
    return h("article", { class: "card report" },
      h("header", {}, h("h2", {}, name), h("span", { class: "quiet small" }, line(host, clock(time))), h("span", { class: "badge", "data-s": whole ? "ok" : "failed" }, `${whole ? "✓" : "✕"} ${verdict}`)),
      report.source && report.target ? h("p", { class: "ends" }, report.source, h("span", { "aria-label": "compared with" }, " → "), report.target) : null,
      about.length ? h("p", { class: "ends" }, line(about)) : null,
      h("div", { class: "ratio" }, h("span", {}, h("b", {}, number(counts.matched ?? report.matched)), " matched"),
        Object.keys(KINDS).filter((kind) => counts[kind]).map((kind) => h("span", {}, h("b", {}, number(counts[kind])), ` ${KINDS[kind]}`))),
      found.length > 0 && h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `What does not match: ${name}` }, h("table", {},
        h("thead", {}, h("tr", {}, ["Path", "What", "How"].map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, found.map((row) => h("tr", {}, h("td", { class: "mono" }, row.path), h("td", { class: "nowrap" }, h("span", { class: "badge", "data-s": STATE[row.kind] }, KINDS[row.kind])), h("td", { class: "quiet" }, row.how)))))),
      report.truncated ? h("p", { class: "ratio" }, "The lists are cut; the report file has all of them.") : null);
  }
}
