// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// Numbers and times for people.

// A formatter takes far longer to make than to use.
const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DATE_TIME = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium", hour12: false });

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${UNITS[unit]}`;
}

// A value that the schema leaves open, and that so may be anything, as a text.
export function word(value) {
  return typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value);
}

export function number(count) {
  return NUMBER.format(Number(count ?? 0));
}

// What is known of something, with dots between. Not one text: what one part does to the direction of writing ends with it.
export function line(...parts) {
  return parts.flat().filter(Boolean).flatMap((part, at) => (at ? [" · ", part] : [part]));
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return `${minutes} min ${whole % 60} s`;
}

export function millis(time) {
  return time ? Date.parse(time) : NaN;
}

export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : CLOCK.format(date);
}

export function dateTime(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : DATE_TIME.format(date);
}

export function ago(time, now = Date.now()) {
  const seconds = (now - millis(time)) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 5) return "just now";
  if (seconds < 86400 * 2) return `${duration(Math.floor(seconds))} ago`;
  return dateTime(time);
}

export const STATUS = {
  running: "running", silent: "no news", ok: "succeeded", failed: "failed", interrupted: "interrupted",
};

// A result's letter in a task's cells (see runState in the schema): its state, the sign that is shown, and the word.
export const CELLS = {
  ".": { state: "none", sign: "", word: "nothing yet" },
  s: { state: "running", sign: "…", word: "running" },
  r: { state: "retry", sign: "↻", word: "retrying" },
  o: { state: "ok", sign: "✓", word: "ok" },
  c: { state: "changed", sign: "±", word: "changed" },
  f: { state: "failed", sign: "✕", word: "failed" },
  i: { state: "ignored", sign: "!", word: "failed, ignored" },
  k: { state: "skipped", sign: "–", word: "skipped" },
  u: { state: "unreachable", sign: "?", word: "unreachable" },
};
