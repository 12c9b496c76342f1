// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Runs in the page: applies events to its model, and returns what the model then shows of each run. A snapshot stands for
// what came before.

async ({ events, snapshot }) => {
  const { Run } = await import("/js/model.js");
  const counts = () => ({ ok: 0, changed: 0, failed: 0, skipped: 0, unreachable: 0, ignored: 0 });
  const lists = () => ({ plays: [], tasks: [], hosts: [], progress: [], parity: [], problems: [], gaps: [], namespaces: [] });
  const empty = (run) => new Run({ run, seq: 0, state: { summary: { run, status: "running", counts: counts() }, ...lists() } });
  const runs = snapshot ? { [snapshot.run]: new Run(snapshot) } : {};
  events.forEach((event, at) => {
    runs[event.runid] ??= empty(event.runid);
    runs[event.runid].apply({ ...event, seq: (snapshot?.seq ?? 0) + at + 1 });
  });
  const joinedIn = (run, task) => {
    const found = {};
    for (const [id, other] of run.joined) if (other === task.task_id) found[id] = [];
    for (const [host, id] of task.joined) (found[id] ??= []).push(host);
    return Object.keys(found).length ? { joined: found } : {};
  };
  return Object.values(runs).map((run) => ({
    counts: run.summary.counts,
    status: run.summary.status,
    started: run.summary.tasks ?? 0,
    task: run.summary.task ?? "",
    mismatches: run.summary.mismatches ?? 0,
    hosts: run.hosts,
    tasks: [...run.tasks.values()].map((task) => {
      const { joined, seq, ...about } = task;
      return { ...about, cells: task.cells.join(""), ...joinedIn(run, task) };
    }),
    plays: [...run.plays.values()],
    progress: [...run.progress.values()],
    parity: run.parity,
    problems: run.problems,
    gaps: run.gaps,
    missing: run.missing,
    namespaces: [...run.namespaces],
  }));
}
