// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// The WebSocket: says hello, asks again for what it was asked for after every break, and goes on where it was.

const SOONEST = 400;
const LATEST = 15000;
// Nothing heard for so long: the server is asked whether it is there. No answer for so long: it is not. Where a large
// snapshot takes longer than that on a slow link, it gets twice as long the next time.
const QUIET = 15000;
const ANSWER = 10000;
const LONGEST_ANSWER = 80000;
// What was refused is asked for again after so long.
const AGAIN = 2000;
// Of a SUBSCRIBE: who has this token, or none any more, may not look.
const STRANGER = ["unauthenticated", "forbidden"];

export class Connection extends EventTarget {
  #socket = null;
  #token = "";
  #timer = 0;
  #silence = 0;
  #again = 0;
  #patience = ANSWER;
  #failures = 0;
  #wanted = null; // the subscription: {run} or {summaries: true}
  #cursor = null; // {epoch, seq} of the newest event seen of it
  welcome = null;

  // Start, or start again with another token (empty: the session cookie alone).
  open(token) {
    this.#token = token;
    this.#failures = 0;
    this.#drop();
    this.#connect();
  }

  subscribe(wanted) {
    this.#wanted = wanted;
    this.#cursor = null;
    this.ask();
  }

  // Remember how far the events have come, to go on from there after a break.
  reached(epoch, seq) {
    this.#cursor = { epoch, seq };
  }

  // What was asked for is not to be had now: ask for a new snapshot of it a little later.
  askAgain() {
    this.#cursor = null;
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.ask(), AGAIN);
  }

  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  // Ask for what is wanted, from where it was.
  ask() {
    clearTimeout(this.#again);
    if (!this.welcome || !this.#wanted) return;
    const message = { type: "SUBSCRIBE", ...this.#wanted };
    if (this.#cursor && this.#wanted.run) {
      message.epoch = this.#cursor.epoch;
      message.after_seq = this.#cursor.seq;
    }
    this.send(message);
  }

  #connect() {
    const address = new URL("/ws", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#tell("link", { state: this.#failures ? "reconnecting" : "connecting" });
    socket.onopen = () => this.send({ type: "HELLO", client: "page", ...(this.#token ? { token: this.#token } : {}) });
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = () => this.#closed(socket);
    this.#listen(socket);
  }

  // The server's pings are answered by the browser, unseen from here. Any message is a sign of life; when none comes, a
  // HELLO asks for one. Not even a connection that is being made is waited for for ever.
  #listen(socket) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.send({ type: "HELLO" });
      this.#silence = setTimeout(() => {
        this.#patience = Math.min(LONGEST_ANSWER, this.#patience * 2);
        this.#closed(socket);
      }, this.#patience);
    }, QUIET);
  }

  #receive(message) {
    this.#listen(this.#socket);
    if (this.welcome && (message.type === "WELCOME" || message.request === "HELLO")) {
      this.#patience = ANSWER;
      return;
    }
    if (message.type === "WELCOME") {
      this.welcome = message;
      this.#failures = 0;
      this.#tell("link", { state: "live" });
      this.ask();
      this.#tell("welcome", message);
      return;
    }
    if (message.type === "ERROR" && (this.welcome ? message.request === "SUBSCRIBE" && STRANGER.includes(message.code) : message.request === "HELLO")) {
      this.#wanted = null;
      this.#drop();
      this.#tell("refused", message);
      return;
    }
    // Events come again and again: one batch is one call, so that a page has one frame of work for it.
    this.#tell("message", message);
  }

  #closed(socket) {
    if (socket !== this.#socket) return;
    this.#drop();
    this.#failures += 1;
    this.#tell("link", { state: "reconnecting" });
    // A server that restarts is not met by all its pages in the same moment.
    const wait = Math.min(LATEST, SOONEST * 2 ** Math.min(this.#failures, 6)) * (0.6 + Math.random() * 0.4);
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    clearTimeout(this.#again);
    this.welcome = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
