// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// One run: its head, its numbers, and the five views of it.

import { announce, eachFrame, h, put, text, title } from "./dom.js";
import { dateTime, number, plural } from "./format.js";
import { KubernetesView } from "./kubernetes.js";
import { MatrixView } from "./matrix.js";
import { Run } from "./model.js";
import { ParityView } from "./parity.js";
import { badge, took } from "./runs.js";
import { TimelineView } from "./timeline.js";
import { TransfersView } from "./transfers.js";

export const TABS = [
  ["timeline", "Timeline", TimelineView],
  ["matrix", "Matrix", MatrixView],
  ["transfers", "Transfers", TransfersView],
  ["parity", "Parity", ParityView],
  ["kubernetes", "Kubernetes", KubernetesView],
];
const TILES = [["ok", "ok"], ["changed", "changed"], ["failed", "failed"], ["unreachable", "unreachable"], ["ignored", "ignored"], ["skipped", "skipped"]];

// A run that was not heard of for so long is asked for anew: a little more than after what the server calls it silent.
const SILENCE = 301000;

export class RunView {
  constructor(root, app, id, tab) {
    Object.assign(this, { root, app, id, tab, run: null, view: null });
    this.draw = eachFrame(() => this.#draw());
    this.title = h("h1", {}, "Run");
    this.status = h("span");
    this.facts = h("div", { class: "facts" });
    this.bar = h("div");
    this.tiles = h("div", { class: "tiles" });
    this.tabs = h("nav", { class: "tabs", "aria-label": "Views of this run" });
    this.body = h("div", { hidden: true });
    this.waiting = h("div", { class: "empty" }, "Reading the run …");
    put(root,
      h("p", { class: "small quiet crumbs" }, h("a", { href: "/", "data-link": true }, "Runs"), " / ", id.slice(0, 8)),
      h("div", { class: "head" }, this.title, this.status), this.facts, this.tiles, this.tabs, this.body, this.waiting);
    this.epoch = null; // names the history that the run was read from
    this.heard = 0;
    this.show(tab);
  }

  show(tab) {
    const [name, , View] = TABS.find(([key]) => key === tab) ?? TABS[0];
    this.tab = name;
    this.view?.close?.();
    put(this.body);
    this.view = new View(this.body, this);
    this.draw();
  }

  close() {
    this.view?.close?.();
  }

  receive(message) {
    if (message.type === "SNAPSHOT" && message.run === this.id) {
      // A server whose history was replaced while it ran shows nothing of a run until it has looked for it.
      if (message.state.summary.updated) this.#snapshot(message);
      else this.#unknown();
    } else if (message.type === "ERROR" && message.code === "unknown_run" && message.request === "SUBSCRIBE" && message.run === this.id) {
      put(this.waiting, h("strong", {}, "No such run"), message.message, " It is shown here as soon as the server has it.");
      this.#unknown();
    } else if (message.type === "ERROR" && message.code === "damaged_run" && message.request === "SUBSCRIBE" && message.run === this.id) {
      // Asking again won't change it.
      this.app.notice("unfollowed", message.message);
      put(this.waiting, "It can't be shown.");
    }
    this.draw();
  }

  #snapshot(message) {
    const another = this.run && this.epoch !== message.epoch;
    const reason = another ? "epoch_changed" : message.resync;
    if (reason) this.app.gapNotice(reason);
    this.run = new Run(message);
    this.epoch = message.epoch;
    this.heard = performance.now();
    this.app.connection.reached(message.epoch, message.seq);
  }

  #unknown() {
    this.app.unfollowed(this.run && "The server has no such run now: its history is another one, or has dropped the run for its age.");
  }

  apply(event) {
    if (!this.run || event.runid !== this.id) return;
    const { summary } = this.run;
    const before = summary.status;
    this.heard = performance.now();
    this.app.connection.reached(event.epoch, Math.max(event.seq, this.run.seq));
    this.run.apply(event);
    if (before !== summary.status) announce(`The run has ${summary.status === "ok" ? "succeeded" : summary.status}.`);
  }

  tick() {
    if (this.run?.summary.status !== "running") return;
    // Whether a run is silent is the server's to say, and it is in snapshots alone.
    if (performance.now() - this.heard > SILENCE) {
      this.heard = performance.now();
      this.app.connection.subscribe({ run: this.id });
    }
    this.draw();
  }

  #draw() {
    if (!this.run) return;
    this.waiting.hidden = true;
    this.body.hidden = false;
    const { summary } = this.run;
    text(this.title, summary.playbook ?? `run ${this.id.slice(0, 8)}`);
    title(summary.playbook ?? "run", "kubeferry");
    if (this.shownStatus !== summary.status) {
      this.shownStatus = summary.status;
      put(this.status, badge(summary.status));
    }
    this.#facts(summary);
    this.#tiles(summary);
    this.#tabs();
    // Beside the tasks, and not only in their own view.
    this.app.clusterEvents.watch(this.run.namespaces);
    this.view.draw(this.run);
  }

  #facts(summary) {
    const facts = [
      summary.started && `started ${dateTime(summary.started)}`, summary.started && `${summary.finished ? "took" : "for"} ${took(summary)}`,
      plural(this.run.hosts.length, "host"), plural(summary.tasks ?? 0, "task") + (this.run.unlisted ? `, the first ${number(this.run.tasks.size)} shown` : ""),
      summary.user && `by ${summary.user}`, summary.controller && `on ${summary.controller}`, summary.job && `job ${summary.job}`,
      summary.check && "check mode: nothing was changed", summary.ansible_version && `ansible-core ${summary.ansible_version}`,
    ].filter(Boolean);
    const line = facts.join("\n");
    if (this.factLine === line) return;
    this.factLine = line;
    put(this.facts, facts.map((fact) => h("span", {}, fact)));
  }

  #tiles(summary) {
    const key = JSON.stringify(summary.counts);
    if (this.tileKey === key) return;
    this.tileKey = key;
    put(this.tiles, TILES.map(([name, word]) => {
      const count = summary.counts[name] ?? 0;
      return h("div", { class: "card tile", "data-s": name, "data-zero": count === 0 }, h("b", {}, number(count)), word);
    }));
  }

  #tabs() {
    const run = this.run;
    const mismatches = run.summary.mismatches ?? 0;
    const notes = {
      timeline: [run.tasks.size], matrix: [run.hosts.length], transfers: [run.progress.size],
      parity: mismatches ? [mismatches, "failed"] : [run.parity.length], kubernetes: [run.namespaces.size],
    };
    const key = JSON.stringify([this.tab, notes]);
    if (this.tabKey === key) return;
    this.tabKey = key;
    const focused = document.activeElement?.getAttribute?.("data-tab");
    put(this.tabs, TABS.map(([name, word], at) => {
      const [count, state] = notes[name];
      return h("a", { href: `/runs/${this.id}/${name}`, "data-link": true, "data-tab": name, title: `${word} (${at + 1})`, "aria-current": name === this.tab ? "page" : null },
        word, count ? h("span", { class: "n", "data-s": state }, number(count)) : null);
    }));
    if (focused) this.tabs.querySelector(`[data-tab="${focused}"]`)?.focus();
  }
}

