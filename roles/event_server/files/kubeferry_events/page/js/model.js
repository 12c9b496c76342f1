// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// What one run looks like now: a snapshot, and every event since applied to it. The same rules as the server's
// run_state.py; a test compares the two.

const PREFIX = "kubeferry.v1.";
const LETTERS = { started: "s", poll: "s", retry: "r", ok: "o", changed: "c", failed: "f", skipped: "k", unreachable: "u" };
const FINAL = "ocfkui";
export const LIMITS = { tasks: 5000, repeated: 100, problems: 200, parity: 2000, lists: 200, progress: 200, gaps: 100, namespaces: 50 };
const TASK_FIELDS = ["play_id", "name", "action", "role", "path", "handler", "no_log", "namespaces"];
const PROBLEM_FIELDS = ["task_id", "task", "host", "item", "msg", "ignored", "action"];
const STARTED_FIELDS = ["playbook", "controller", "user", "job", "check", "ansible_version", "limit", "diff", "tags"];

function pick(data, names) {
  return Object.fromEntries(names.filter((name) => name in data).map((name) => [name, data[name]]));
}

export function progressKey(data) {
  return data.key || `${data.host ?? ""} ${data.label} ${data.pid ?? ""}`;
}

// Where in the playbook a task is: those that are included for each host by itself have one place.
function placeOf(task) {
  return task.path === undefined ? null : JSON.stringify([task.play_id ?? "", task.path, task.name ?? ""]);
}

function hasLists(report) {
  return Object.values(report).some((value) => Array.isArray(value) && value.length > 0);
}

export class Run {
  constructor(snapshot) {
    const state = snapshot.state;
    this.id = snapshot.run;
    this.seq = snapshot.seq;
    Object.assign(this, { summary: state.summary, stats: state.stats ?? {}, parity: state.parity, problems: state.problems });
    Object.assign(this, { gaps: state.gaps, missing: state.missing ?? [] });
    // The publisher's highest number that has come: so many as have come, are stood for, or are missing. Of some gaps
    // among many the snapshot doesn't tell: then no number is called missing that it doesn't call so.
    const stoodFor = state.gaps.reduce((sum, gap) => sum + gap.last_pubseq - gap.first_pubseq || sum, this.summary.events ?? 0);
    this.highest = state.gaps.length < LIMITS.gaps ? this.missing.reduce((sum, [first, last]) => sum + last - first + 1, stoodFor) : Infinity;
    this.namespaces = new Set(state.namespaces);
    this.plays = new Map(state.plays.map((play) => [play.play_id, play]));
    this.tasks = new Map();
    this.places = new Map();
    this.joined = new Map();
    for (const { joined = {}, cells, ...about } of state.tasks) this.#add({ ...about, cells: [...cells] }, joined);
    this.lists = this.parity.filter((entry) => hasLists(entry.report)).length;
    this.hosts = [...state.hosts];
    this.hostNumber = new Map(this.hosts.map((host, at) => [host, at]));
    this.progress = new Map(state.progress.map((item) => [item.key, item]));
  }

  // Returns what changed, as the set of views that show it.
  apply(event) {
    if (event.seq <= this.seq) return;
    this.seq = event.seq;
    const kind = event.type.slice(PREFIX.length);
    const [group, what] = kind.split(".");
    const { data, time } = event;
    const summary = this.summary;
    if (kind !== "progress") {
      summary.events = (summary.events ?? 0) + 1;
      this.#arrived(kind === "gap" ? data.first_pubseq ?? event.pubseq : event.pubseq, event.pubseq);
    }
    if (!(summary.updated >= time)) summary.updated = time;
    if (summary.status === "silent") summary.status = "running";
    for (const name of data.namespaces ?? []) if (this.namespaces.size < LIMITS.namespaces) this.namespaces.add(name);
    this[`_${group}`]?.(what, data, time, event);
  }

  // The publisher's numbers from first to last have come, or a gap stands for them.
  #arrived(first, last) {
    if (first <= (this.missing.at(-1)?.[1] ?? 0)) {
      this.missing = this.missing.flatMap(([from, to]) => [[from, Math.min(to, first - 1)], [Math.max(from, last + 1), to]].filter(([one, other]) => one <= other));
    }
    // What is over the run's limit never comes, and the gap that says so stands for it.
    if (first > this.highest + 1 && !this.gaps.some((gap) => gap.reason === "run_limit")) this.missing.push([this.highest + 1, first - 1]);
    this.highest = Math.max(this.highest, last);
  }

  _run(what, data, time) {
    if (what === "started") Object.assign(this.summary, pick(data, STARTED_FIELDS), { started: time });
    else {
      Object.assign(this.summary, { status: data.status, finished: time });
      if ("duration" in data) this.summary.duration = data.duration;
      this.stats = data.stats ?? {};
    }
  }

  _play(what, data, time) {
    const play = this.plays.get(data.play_id) ?? { play_id: data.play_id };
    this.plays.set(data.play_id, play);
    if (what === "started") {
      Object.assign(play, pick(data, ["name", "strategy", "batch"]), { started: time });
      for (const host of data.hosts ?? []) this.#number(host);
    } else play.finished = time;
  }

  // The task of that identity, or the one of the same place in the playbook that it has joined.
  taskOf(id) {
    return this.tasks.get(this.joined.get(id) ?? id);
  }

  // The identity of a task where a host has its letter.
  static owner(task, host) {
    return (task.cells[host] ?? ".") === "." ? null : task.joined.get(host) ?? task.task_id;
  }

  // Tasks that are counted and not listed, for the number of those before them.
  get unlisted() {
    return (this.summary.tasks ?? 0) - this.tasks.size;
  }

  #new(about) {
    if (this.tasks.size >= LIMITS.tasks) return null;
    this.summary.tasks = (this.summary.tasks ?? 0) + 1;
    return this.#add(about);
  }

  #add(about, joined = {}) {
    const task = { ...about, joined: new Map() };
    for (const [id, hosts] of Object.entries(joined)) {
      this.joined.set(id, task.task_id);
      for (const host of hosts) task.joined.set(host, id);
    }
    this.tasks.set(task.task_id, task);
    const place = placeOf(task);
    if (place) this.places.set(place, [...(this.places.get(place) ?? []), task]);
    return task;
  }

  #task(data) {
    const task = this.taskOf(data.task_id);
    if (task) return task;
    const before = this.places.get(placeOf(data)) ?? [];
    if (before.length && before.length < LIMITS.repeated) {
      this.joined.set(data.task_id, before[0].task_id);
      return before[0];
    }
    return this.#new({ task_id: data.task_id, cells: [], ...(placeOf(data) ? pick(data, TASK_FIELDS) : {}) });
  }

  // The task of a host's event: of those of the same place the one where it is, or can be.
  #taskAt(data, host) {
    const task = this.#task(data);
    const there = task && this.places.get(placeOf(task));
    if (!there) return task;
    const id = data.task_id;
    const found = there.find((each) => Run.owner(each, host) === id);
    if (found) return found;
    const free = there.find((each) => Run.owner(each, host) === null);
    if (free) {
      if (free.task_id !== id) {
        this.joined.set(id, free.task_id);
        free.joined.set(host, id);
      }
      return free;
    }
    this.joined.delete(id);
    return this.#new({ task_id: id, cells: [], ...pick(task, TASK_FIELDS) });
  }

  #number(host) {
    let number = this.hostNumber.get(host);
    if (number === undefined) {
      number = this.hosts.push(host) - 1;
      this.hostNumber.set(host, number);
      this.summary.hosts = this.hosts.length;
    }
    return number;
  }

  _task(what, data, time) {
    const task = this.#task(data);
    if (!task) {
      if (what === "started") Object.assign(this.summary, { tasks: this.summary.tasks + 1, task: data.name });
      return;
    }
    task.seq = this.seq;
    const alone = task.task_id === data.task_id;
    if (what === "started") {
      if (alone) Object.assign(task, pick(data, TASK_FIELDS), { started: time });
      else {
        delete task.finished;
        delete task.duration;
      }
      this.summary.task = task.name;
    } else Object.assign(task, { finished: time }, alone && !task.joined.size ? pick(data, ["duration"]) : {});
  }

  _host(what, data, time, event) {
    const number = this.#number(data.host);
    const task = this.#taskAt(data, number);
    const ignored = Boolean(data.ignored) && (what === "failed" || what === "unreachable");
    if (task) this.#cell(task, number, what, ignored, data, time);
    const counted = ignored ? "ignored" : what;
    const counts = this.summary.counts;
    if (counted in counts) counts[counted] += 1;
    if (what === "failed" || what === "unreachable") this.#problem(what, data, time, event);
    if (data.parity && what !== "started" && what !== "poll" && what !== "retry") this.#parity(data, time);
  }

  #cell(task, number, what, ignored, data, time) {
    task.seq = this.seq;
    task.name ??= data.task ?? "";
    task.play_id ??= data.play_id ?? "";
    task.started ??= time;
    while (task.cells.length <= number) task.cells.push(".");
    const before = task.cells[number];
    if (!((what === "started" || what === "poll") && FINAL.includes(before))) task.cells[number] = ignored ? "i" : LETTERS[what];
  }

  _item(what, data, time, event) {
    if (what === "failed") this.#problem(what, data, time, event);
    if (data.parity && what !== "retry") this.#parity(data, time);
  }

  #problem(what, data, time, event) {
    this.problems.push({ ...pick(data, PROBLEM_FIELDS), what, time, seq: event.seq });
    if (this.problems.length > LIMITS.problems) this.problems.shift();
  }

  #parity(data, time) {
    const counts = data.parity.counts;
    this.summary.mismatches = (this.summary.mismatches ?? 0) + ["missing", "mismatched", "unreadable"].reduce((sum, name) => sum + (counts[name] ?? 0), 0);
    const lists = hasLists(data.parity);
    if (this.parity.length < LIMITS.parity && (!lists || this.lists < LIMITS.lists)) {
      this.lists += lists ? 1 : 0;
      this.parity.push({ task_id: data.task_id, host: data.host, time, ...pick(data, ["task", "item"]), report: data.parity });
    }
  }

  _progress(_what, data, time) {
    const key = progressKey(data);
    const before = this.progress.get(key);
    if (!before && this.progress.size >= LIMITS.progress) this.progress.delete(this.progress.keys().next().value);
    // The last word sums up what was done. One that has nothing to sum up keeps what the phase before it reached.
    this.progress.set(key, data.phase === "end" && before && !(data.bytes || data.files) ? { ...before, phase: "end", time } : { ...data, key, time });
  }

  _gap(_what, data, time, event) {
    this.gaps.push({ ...data, time, seq: event.seq });
    if (this.gaps.length > LIMITS.gaps) this.gaps.shift();
  }
}
