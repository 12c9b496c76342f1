// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// The Kubernetes events of namespaces, as this person may see them.

import { h, keyed, put } from "./dom.js";
import { clock, dateTime, word } from "./format.js";

const KEEP = 3000;

function when(item) {
  return word(item.lastTimestamp || item.series?.lastObservedTime || item.eventTime || item.firstTimestamp || item.metadata?.creationTimestamp);
}

function keyOf(namespace, item) {
  return word(item.metadata?.uid) || `${namespace}/${word(item.metadata?.name)}`;
}

// What is known of all watched namespaces. Lives as long as the page; the token that a person pasted stays in it too,
// and nowhere else.
export class ClusterEvents {
  #events = new Map();
  #sorted = null;
  #watched = new Map(); // namespace → "" (asked), "live", or an error's text
  token = "";

  constructor(app) {
    this.app = app;
  }

  list() {
    this.#sorted ??= [...this.#events.values()].sort((a, b) => b.at - a.at);
    return this.#sorted;
  }

  states() {
    return [...this.#watched];
  }

  // After signing in, or with another token: everything is asked for anew.
  use(token) {
    this.token = token;
    const names = [...this.#watched.keys()];
    this.#watched.clear();
    this.watch(names);
  }

  watch(namespaces) {
    const { connection } = this.app;
    const { welcome } = connection;
    if (!welcome?.kubernetes?.configured || !(this.token || welcome.login?.user)) return;
    for (const namespace of namespaces) {
      if (this.#watched.has(namespace)) continue;
      this.#watched.set(namespace, "");
      connection.send({ type: "WATCH_EVENTS", namespace, ...(this.token ? { token: { access_token: this.token } } : {}) });
    }
  }

  // The socket is new: watches ended with the old one.
  reconnected() {
    const names = [...this.#watched.keys()];
    this.#watched.clear();
    this.watch(names);
  }

  receive(message) {
    if (message.type === "GET_EVENTS") {
      for (const [key, event] of this.#events) if (event.namespace === message.namespace) this.#events.delete(key);
      this.#sorted = null;
      this.app.each(message.data.items ?? [], (item) => this.#take(message.namespace, item));
      this.#watched.set(message.namespace, "live");
    } else if (message.type === "ERROR" && message.namespace) this.#watched.set(message.namespace, message.message);
  }

  apply({ type, data }) {
    if (type !== "kubeferry.v1.k8s.event") return;
    if (data.change !== "DELETED") this.#take(data.namespace, data.object);
    else if (this.#events.delete(keyOf(data.namespace, data.object))) this.#sorted = null;
  }

  #take(namespace, item) {
    const key = keyOf(namespace, item);
    const time = when(item);
    const object = item.involvedObject ?? item.regarding ?? {};
    const count = item.count ?? item.series?.count;
    this.#events.set(key, {
      key: `${key}:${word(item.metadata?.resourceVersion)}`, namespace, time, at: Date.parse(time) || 0, type: word(item.type ?? "Normal"), reason: word(item.reason),
      object: `${word(object.kind).toLowerCase()}/${word(object.name)}`, message: word(item.message ?? item.note), count: Number.isFinite(count) ? count : 1,
    });
    this.#sorted = null;
    if (this.#events.size > KEEP) this.#events.delete(this.#events.keys().next().value);
  }
}

export class KubernetesView {
  constructor(root, owner) {
    this.owner = owner;
    this.events = owner.app.clusterEvents;
    this.search = h("input", { type: "search", placeholder: "Search reasons, objects, messages …", "aria-label": "Search Kubernetes events", "data-search": true, oninput: () => owner.draw() });
    this.namespace = h("input", { placeholder: "add a namespace", "aria-label": "Namespace to watch", pattern: "[a-z0-9]([a-z0-9-]*[a-z0-9])?", maxlength: "63" });
    this.signin = h("section", { class: "card signin", "aria-label": "Sign in to Kubernetes" });
    this.states = h("div", { class: "tools small" });
    this.body = h("tbody");
    this.table = h("div", { class: "card scroll", role: "region", tabindex: "0", "aria-label": "Kubernetes events" }, h("table", {}, h("thead", {}, h("tr", {}, ["Time", "Reason", "Object", "Message"].map((title) => h("th", { scope: "col" }, title)))), this.body));
    this.empty = h("div", { class: "card empty" });
    const add = h("form", { onsubmit: (event) => this.#add(event) }, this.namespace);
    put(root, this.signin, h("div", { class: "tools" }, this.search, add), this.states, this.table, this.empty);
  }

  #add(event) {
    event.preventDefault();
    if (this.namespace.value) this.events.watch([this.namespace.value]);
    this.namespace.value = "";
    this.owner.draw();
  }

  draw(run) {
    const welcome = this.owner.app.connection.welcome;
    const may = Boolean(this.events.token || welcome?.login?.user);
    if (may && welcome?.kubernetes?.configured) this.events.watch(run.namespaces.size ? run.namespaces : [welcome.kubernetes.namespace]);
    this.#drawSignin(welcome, may);
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = this.events.list().filter((event) => words.every((word) => `${event.reason} ${event.object} ${event.message} ${event.namespace} ${event.type}`.toLowerCase().includes(word))).slice(0, 500);
    const states = this.events.states();
    const key = JSON.stringify(states);
    if (this.stateKey !== key) {
      this.stateKey = key;
      put(this.states, states.map(([name, state]) => h("span", { class: `badge ${state === "live" ? "live" : "long"}`, "data-s": state === "live" ? "ok" : state ? "failed" : "running" }, name, state && state !== "live" ? `: ${state}` : "")));
      this.states.hidden = states.length === 0;
    }
    keyed(this.body, shown, (event) => event.key, (event) => this.#row(event));
    this.table.hidden = shown.length === 0;
    this.empty.hidden = shown.length > 0 || !may;
    put(this.empty, h("strong", {}, this.events.list().length ? "No event matches" : "No Kubernetes events"), "The API server keeps them for about an hour.");
  }

  #row(event) {
    return h("tr", {},
      h("td", { class: "nowrap", title: dateTime(event.time) }, clock(event.time)),
      h("td", {}, h("span", { class: "badge", "data-s": event.type === "Warning" ? "changed" : "skipped" }, event.reason), event.count > 1 ? h("span", { class: "quiet small" }, ` × ${event.count}`) : ""),
      h("td", {}, event.object, h("br"), h("span", { class: "quiet small" }, event.namespace)),
      h("td", {}, event.message));
  }

  #drawSignin(welcome, may) {
    const key = `${may} ${welcome?.kubernetes?.configured} ${welcome?.login?.configured}`;
    if (this.signinKey === key) return;
    this.signinKey = key;
    this.signin.hidden = may;
    if (!welcome?.kubernetes?.configured) {
      put(this.signin, h("h2", {}, "No cluster"), h("p", { class: "quiet" }, "The server knows no Kubernetes API server: set KUBECONFIG or KUBEFERRY_KUBE_API where it runs."));
      return;
    }
    const token = h("input", { type: "password", autocomplete: "off", placeholder: "a token of yours", "aria-label": "Kubernetes token" });
    const use = (event) => {
      event.preventDefault();
      if (!token.value) return;
      this.events.use(token.value.trim());
      this.owner.draw();
    };
    put(this.signin, h("h2", {}, "Who may see these events?"),
      h("p", { class: "quiet" }, "Kubernetes events are read with your own rights. ", welcome.login?.configured ? "Sign in, or paste" : "Paste", " a token (oc whoami -t, kubectl create token): it stays in this page's memory and is forgotten when you leave."),
      h("form", { onsubmit: use }, token, h("button", {}, "Use this token"), welcome.login?.configured ? h("a", { class: "button", href: "/login" }, "Sign in") : null));
  }
}

