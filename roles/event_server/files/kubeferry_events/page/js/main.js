// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// The page as a whole: who is looking, at what, and how the connection is.

import { Connection } from "./connection.js";
import { askHistoryAgain, historyRefused, receiveHistory } from "./detail.js";
import { announce, attribute, dialog, h, put, text } from "./dom.js";
import { plural } from "./format.js";
import { ClusterEvents } from "./kubernetes.js";
import { RunView, TABS } from "./run.js";
import { RunsView } from "./runs.js";

const TOKEN = "kubeferry-view-token";
const THEME = "kubeferry-theme";
const LINKS = { live: "live", connecting: "connecting", reconnecting: "reconnecting …", asking: "asking again …", refused: "not signed in" };
const GAPS = {
  slow_viewer: "Gap: this page could not keep up and was given a new snapshot. Nothing is missing from what it shows.",
  epoch_changed: "Gap: the server's history is another one. What it had of this run before may be missing.",
  retention: "Gap: older events were dropped from the history.",
};
// Why a run can't be followed while others can: its view says so.
const OF_ONE_RUN = ["unknown_run", "damaged_run"];
const KEYS = [["/", "search"], ["1 – 5", "views of a run"], ["g", "back to the list of runs"], ["t", "light or dark"], ["Arrows, Enter", "move in the matrix, open a result"], ["Esc", "close"], ["?", "this list"]];

const main = document.getElementById("main");
const notices = document.getElementById("notices");

class App {
  constructor() {
    this.view = null;
    this.unshown = 0;
    this.connection = new Connection();
    this.clusterEvents = new ClusterEvents(this);
    this.connection.addEventListener("link", ({ detail }) => this.#link(detail.state));
    this.connection.addEventListener("welcome", ({ detail }) => this.#welcome(detail));
    this.connection.addEventListener("refused", ({ detail }) => this.#refused(detail));
    this.connection.addEventListener("message", ({ detail }) => this.#receive(detail));
    setInterval(() => !document.hidden && this.view?.tick?.(), 1000);
  }

  start() {
    this.connection.open(sessionStorage.getItem(TOKEN) ?? "");
  }

  route() {
    const [, runs, id, tab] = location.pathname.split("/");
    if (!this.connection.welcome && !this.view) return; // #welcome comes back here
    if (runs === "runs" && /^[0-9a-f-]{36}$/.test(id ?? "")) {
      if (this.view instanceof RunView && this.view.id === id) {
        this.view.show(tab);
        return;
      }
      this.#open(new RunView(main, this, id, tab), { run: id });
    } else if (!(this.view instanceof RunsView)) {
      document.title = "kubeferry";
      this.#open(new RunsView(main), { summaries: true });
    }
  }

  go(path) {
    if (path !== location.pathname) history.pushState(null, "", path);
    this.route();
    window.scrollTo(0, 0);
  }

  #open(view, subscription) {
    // On the way from one view to the next; when the page opens, its top comes first.
    if (this.view) main.focus({ preventScroll: true });
    this.view?.close?.();
    this.view = view;
    this.unshown = 0;
    for (const kind of ["unshown", "gap", "unfollowed"]) this.clear(kind);
    if (this.connection.welcome) this.#link("live");
    this.connection.subscribe(subscription);
  }

  // Take in a batch. One that can't be taken in is counted, and keeps none of the others from being shown.
  each(items, take) {
    const before = this.unshown;
    for (const item of items) {
      try {
        take(item);
      } catch (error) {
        this.unshown += 1;
        console.warn("An event could not be shown:", error);
      }
    }
    if (this.unshown > before) this.notice("unshown", `${plural(this.unshown, "event")} could not be shown: the browser's console says why.`);
  }

  gapNotice(reason) {
    this.notice("gap", GAPS[reason] ?? "Gap: events are missing.", reason === "slow_viewer" ? 12000 : 0);
  }

  // A line below the bar; one of each kind.
  notice(kind, message, forMillis = 0, ...more) {
    this.clear(kind);
    const line = h("div", { class: "notice", "data-kind": kind }, h("span", {}, message), more, h("span", { class: "spring" }), h("button", { class: "plain", type: "button", "aria-label": "Dismiss", onclick: () => line.remove() }, "✕"));
    notices.append(line);
    if (forMillis) setTimeout(() => line.remove(), forMillis);
  }

  clear(kind) {
    notices.querySelector(`[data-kind="${kind}"]`)?.remove();
  }

  #link(state) {
    const element = document.getElementById("link");
    if (element.dataset.state === state) return;
    attribute(element, "data-state", state);
    text(document.getElementById("link-text"), LINKS[state]);
    if (state === "reconnecting" && this.view) this.notice("link", "The server can't be reached: reconnecting. What you see is the last that was known.");
    if (state === "live") this.clear("link");
  }

  #welcome(welcome) {
    const user = welcome.login?.user;
    if (user) this.clear("signed-out");
    else if (this.user) this.#signedOut("Kubernetes events have stopped.");
    this.#drawUser(welcome);
    if (!this.view) {
      put(main);
      this.route();
    }
    this.clusterEvents.reconnected();
    askHistoryAgain();
    this.view?.draw();
  }

  #signedOut(what) {
    this.notice("signed-out", h("strong", {}, "You are signed out."), 0, what, h("a", { href: "/login" }, "Sign in again"));
    announce("You are signed out.");
  }

  // What is shown isn't followed: said until a snapshot comes, which is asked for again and again.
  unfollowed(why) {
    this.#link("asking");
    this.connection.askAgain();
    if (why && !notices.querySelector("[data-kind=unfollowed]")) this.notice("unfollowed", `${why} What you see is the last that was known; this page goes on asking.`);
  }

  #followed() {
    this.clear("unfollowed");
    this.#link("live");
  }

  #drawUser(welcome) {
    const { configured, user } = welcome.login ?? {};
    this.user = user;
    const out = h("button", { class: "plain", type: "button", onclick: signOut }, "Sign out");
    put(document.getElementById("user"), user ? [h("span", { class: "name" }, user), out] : configured ? h("a", { href: "/login" }, "Sign in") : null);
  }

  #refused(message) {
    this.#link("refused");
    const hadToken = Boolean(sessionStorage.getItem(TOKEN));
    sessionStorage.removeItem(TOKEN);
    this.view?.close?.();
    this.view = null;
    const input = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true, id: "token" });
    const submit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, input.value.trim());
      this.start();
    };
    put(main, h("form", { class: "card notice-page", onsubmit: submit },
      h("h1", {}, "Who is there?"),
      h("p", { class: "quiet" }, "This page shows Ansible runs to those who have the view token. Whoever started the server has it: it was printed there, or is in KUBEFERRY_VIEW_TOKEN."),
      hadToken ? h("p", { role: "alert" }, message.message) : null,
      h("label", { for: "token" }, "View token"), input, h("button", {}, "Show the runs"),
      h("p", { class: "quiet small" }, "The token stays in this tab until you close it.")));
    input.focus();
  }

  #apply(event) {
    this.view?.apply?.(event);
    this.clusterEvents.apply(event);
  }

  #receive(message) {
    if (message.type === "SNAPSHOT") this.#followed();
    if (message.type === "HISTORY") receiveHistory(message);
    else if (message.type === "ERROR" && message.request === "GET_HISTORY") historyRefused(message);
    else if (message.type === "ERROR" && message.request === "SUBSCRIBE" && !OF_ONE_RUN.includes(message.code)) this.unfollowed(message.message);
    else if (message.type === "ERROR" && (message.code === "signed_out" || message.code === "k8s_unauthorized")) {
      this.#signedOut(message.code === "signed_out" ? "Kubernetes events have stopped." : "The Kubernetes token is no longer accepted.");
      if (this.connection.welcome?.login) this.connection.welcome.login.user = null;
      this.#drawUser(this.connection.welcome ?? {});
      // The session may have been what let this page look.
      if (message.code === "signed_out") this.connection.ask();
    } else if (message.type === "ERROR" && message.code === "rate_limited") this.notice("rate", message.message, 5000);
    if (message.type === "EVENTS") this.each(message.events, (event) => this.#apply(event));
    this.clusterEvents.receive(message);
    this.view?.receive(message);
  }
}

const app = new App();

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem(THEME, next);
}

async function signOut() {
  // By script: a form's POST would carry no origin under this page's referrer policy.
  const answer = await fetch("/logout", { method: "POST" }).catch(() => null);
  if (answer?.ok) location.reload();
  else app.notice("not-signed-out", "You are still signed in: the server can't be reached, or has refused it. Try again.");
}

function help() {
  dialog("Keys", h("dl", { class: "pairs" }, KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const tab = TABS[Number(event.key) - 1];
  if (event.key === "/") document.querySelector("[data-search]")?.focus();
  else if (event.key === "?") help();
  else if (event.key === "t") theme();
  else if (event.key === "g") app.go("/");
  else if (tab && app.view instanceof RunView) app.go(`/runs/${app.view.id}/${tab[0]}`);
  else return;
  event.preventDefault();
}

document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? "";
if (!document.documentElement.dataset.theme) delete document.documentElement.dataset.theme;
document.getElementById("theme").addEventListener("click", theme);
document.getElementById("help").addEventListener("click", help);
document.addEventListener("keydown", pressed);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-link]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  app.go(new URL(link.href).pathname);
});
document.getElementById("dialog").addEventListener("click", (event) => event.target === event.currentTarget && event.currentTarget.close());
addEventListener("popstate", () => app.route());
app.start();
