// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Runs in the page: applies events to its model, and returns what the model then shows of each run.

async (events) => {
  const { Run } = await import("/js/model.js");
  const counts = () => ({ ok: 0, changed: 0, failed: 0, skipped: 0, unreachable: 0, ignored: 0 });
  const lists = () => ({ plays: [], tasks: [], hosts: [], progress: [], parity: [], problems: [], gaps: [], namespaces: [] });
  const empty = (run) => new Run({ run, seq: 0, state: { summary: { run, status: "running", counts: counts() }, ...lists() } });
  const runs = {};
  events.forEach((event, at) => {
    runs[event.runid] ??= empty(event.runid);
    runs[event.runid].apply({ ...event, seq: at + 1 });
  });
  return Object.values(runs).map((run) => ({
    counts: run.summary.counts,
    status: run.summary.status,
    mismatches: run.summary.mismatches ?? 0,
    hosts: run.hosts,
    tasks: [...run.tasks.values()].map((task) => ({ ...task, cells: task.cells.join("") })),
    plays: [...run.plays.values()],
    progress: [...run.progress.values()],
    parity: run.parity,
    problems: run.problems,
    namespaces: [...run.namespaces],
  }));
}
