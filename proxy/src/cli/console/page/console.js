// What comes from the log is somebody else's text: it becomes text here, and never anything else.
"use strict";

const KEPT = 500;
const MEMBERS = ["outcome", "code", "tool", "service", "task", "agent", "intent", "subject"];
const $ = (id) => document.getElementById(id);

// The token leaves the address bar, so that no one reads it over a shoulder or copies it on.
const token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("token") || "";
if (location.hash) {
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", "/");
}

const decisions = new Map();
let next = 0;
let opened = null;
let view = "decisions";
let problems = new Map();

function made(tag, text, ...classes) {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  one.classList.add(...classes.filter(Boolean));
  return one;
}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  const said = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(said.error || `status ${answer.status}`);
  return said;
}

function problem(of, why) {
  if (why) problems.set(of, why); else problems.delete(of);
  $("problem").hidden = problems.size === 0;
  $("problem").textContent = [...problems.values()].join(" · ");
}

// A word of an outcome, as a class of ours: never one that a log makes up.
const known = (word, ...words) => (words.includes(word) ? word : "quiet");

function took(one) {
  const millis = one.ended?.response?.duration_ms;
  return millis === undefined ? "" : `${millis} ms`;
}

function take(line) {
  if (line.type === "decision") {
    decisions.delete(line.decision_id);
    decisions.set(line.decision_id, { line, ended: null, row: null });
    while (decisions.size > KEPT) {
      const [oldest, gone] = decisions.entries().next().value;
      gone.row?.remove();
      decisions.delete(oldest);
    }
  } else if (line.type === "outcome") {
    const one = decisions.get(line.decision_id);
    if (one) one.ended = line;
    if (one?.row) one.row.children[5].textContent = took(one);
  }
}

function row({ line, ended }) {
  const one = made("tr");
  one.tabIndex = -1;
  one.dataset.id = line.decision_id;
  const time = new Date(line.timestamp);
  const cell = made("td", Number.isNaN(time.getTime()) ? "" : time.toLocaleTimeString([], { hour12: false }));
  cell.title = line.timestamp;
  const outcome = made("td", line.outcome, "outcome", known(line.outcome, "allow", "deny", "hold"));
  if (line.count > 1) outcome.textContent += ` ×${line.count}`;
  one.append(cell, outcome, made("td", line.tool || line.method || "–", "tool"), made("td", line.code === "ok" ? "" : line.code),
    made("td", line.intent, "quiet"), made("td", took({ ended }), "number"), made("td", line.decision_id, "id"));
  return one;
}

function wanted() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const parts = words.map((word) => {
    const at = word.indexOf(":");
    return at > 0 && MEMBERS.includes(word.slice(0, at)) ? [word.slice(0, at), word.slice(at + 1)] : [null, word];
  });
  return ({ line }) => parts.every(([member, word]) => member
    ? String(line[member] ?? "").toLowerCase().includes(word)
    : [...MEMBERS, "decision_id", "method"].some((name) => String(line[name] ?? "").toLowerCase().includes(word)));
}

function draw(asked = false) {
  const fits = wanted();
  const all = [...decisions.values()].reverse();
  const shown = all.filter(fits);
  if (asked || !$("hold").checked) {
    const focused = document.activeElement?.dataset?.id;
    for (const one of all) one.row ??= row(one);
    $("rows").replaceChildren(...shown.map((one) => one.row));
    if (focused) $("rows").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
  const refused = shown.filter(({ line }) => line.outcome !== "allow").length;
  $("counts").textContent = `${shown.length} of ${all.length}, ${refused} refused`;
  $("nothing").hidden = all.length > 0;
}

async function follow() {
  try {
    const news = await ask(`/api/decisions?after=${next}`);
    if (news.next < next) decisions.clear();
    next = news.next;
    news.lines.forEach(take);
    problem("log", news.error && `the log cannot be read: ${news.error}`);
    if (news.lines.length > 0 || next === 0) draw();
  } catch (error) {
    problem("log", error.message);
  }
  setTimeout(follow, 700);
}

async function status() {
  try {
    const now = await ask("/api/status");
    $("who").textContent = `${now.agent} · ${now.environment}`;
    document.title = `Outrider · ${now.agent}`;
    const ready = now.readiness;
    const isolation = ready ? ` · isolation ${ready.isolation}` : "";
    const missing = ready ? ["policy", "identity", "log", "state"].filter((part) => ready[part] && !ready[part].ready) : [];
    const word = !now.admin ? "no admin address" : !ready ? "the sidecar is away" : ready.ready ? "ready" : `not ready: ${missing.map((part) => `${part} ${ready[part].detail}`).join(", ")}`;
    $("state").textContent = word + isolation;
    $("state").className = ready?.ready ? "ready" : "not";
    problem("status", null);
  } catch (error) {
    $("state").textContent = "the console is away";
    $("state").className = "not";
    problem("status", error.message);
  }
  setTimeout(status, 3000);
}

function pairs(list) {
  const all = made("dl");
  for (const [name, value] of list) {
    if (value === undefined || value === null || value === "") continue;
    all.append(made("dt", name), made("dd", String(value)));
  }
  return all;
}

function timings(metrics, ended) {
  const names = { timer_parse_ns: "parse", timer_schema_ns: "schema", timer_limit_ns: "limits", timer_rego_query_eval_ns: "policy", timer_server_handler_ns: "until decided" };
  const all = made("dl");
  const most = Math.max(1, ...Object.keys(names).map((name) => metrics?.[name] ?? 0));
  for (const [name, word] of Object.entries(names)) {
    const value = metrics?.[name] ?? 0;
    const bar = made("meter");
    bar.max = most;
    bar.value = value;
    bar.title = `${value} ns`;
    const cell = made("dd", undefined, "time");
    cell.append(bar, ` ${(value / 1000).toFixed(1)} µs`);
    all.append(made("dt", word), cell);
  }
  if (ended) all.append(made("dt", "to the end"), made("dd", `${ended.response?.duration_ms} ms`));
  return all;
}

async function open(id) {
  opened = id;
  for (const one of $("rows").children) one.classList.toggle("open", one.dataset.id === id);
  const panel = $("detail");
  panel.hidden = false;
  try {
    const lines = await ask(`/api/decisions/${encodeURIComponent(id)}`);
    if (opened !== id) return;
    const line = lines.find((one) => one.type === "decision") ?? {};
    const ended = lines.find((one) => one.type === "outcome");
    const head = made("p", line.outcome, "outcome", known(line.outcome, "allow", "deny", "hold"));
    head.append(line.code === "ok" ? "" : ` · ${line.code}`);
    const why = (line.reasons ?? []).map((reason) => made("p", `${reason.reason}: ${reason.message}`, "why", "deny"));
    if (why.length === 0 && line.policy?.rule) why.push(made("p", `permitted by ${line.policy.rule}`, "why", "allow"));
    const shut = made("button", "Close");
    shut.addEventListener("click", close);
    panel.replaceChildren(shut, made("h2", line.tool || line.method || "no tool"), head, ...why,
      made("h3", "Who, for what"), pairs([["agent", line.agent], ["subject", line.subject], ["task", line.task], ["intent", line.intent], ["task by", line.task_source], ["from", line.requested_by], ["listener", line.listener]]),
      made("h3", "Judged by"), pairs([["rule", line.policy?.rule], ["revision", line.policy?.revision], ["mode", line.policy?.mode], ["level", line.classification], ["exception", line.exception], ["isolation", line.isolation]]),
      made("h3", "How long"), timings(line.metrics, ended),
      made("h3", "How it ended"), pairs(ended ? [["ended", ended.ended], ["status", ended.response?.status], ["bytes", ended.response?.bytes], ["error", ended.response?.error]] : [["ended", line.outcome === "allow" ? "not yet" : "refused"]]),
      made("h3", "Where it stands"), pairs([["decision", line.decision_id], ["time", line.timestamp], ["trace", line.trace_id], ["span", line.span_id], ["line", line.seq], ["hash", line.hash]]),
      made("h3", "What policy was asked (arguments as digests)"), made("pre", JSON.stringify(line.input ?? {}, null, 2)));
    problem("detail", null);
  } catch (error) {
    const shut = made("button", "Close");
    shut.addEventListener("click", close);
    panel.replaceChildren(shut, made("p", error.message, "deny"));
  }
  panel.focus();
}

function close() {
  const id = opened;
  opened = null;
  $("detail").hidden = true;
  for (const one of $("rows").children) one.classList.remove("open");
  if (id) $("rows").querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus();
}

async function tasks() {
  if (view !== "tasks") return;
  try {
    const all = await ask("/api/tasks");
    const focused = document.activeElement?.dataset?.task;
    $("task-rows").replaceChildren(...all.map((task) => {
      const one = made("tr");
      one.tabIndex = -1;
      one.dataset.task = task.id;
      one.append(made("td", task.state, "outcome", known(task.state, "active", "suspended", "revoked")), made("td", task.intent), made("td", task.subject),
        made("td", task.calls === null || task.calls === undefined ? String(task.used) : `${task.used} of ${task.calls}`, "number"), made("td", task.expires, "quiet"), made("td", task.id, "id"));
      const cell = made("td");
      if (["active", "suspended"].includes(task.state)) {
        const button = made("button", "Revoke", "danger");
        button.addEventListener("click", () => revoke(task));
        cell.append(button);
        one.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === one) { event.preventDefault(); revoke(task); } });
      }
      one.append(cell);
      return one;
    }));
    if (focused) $("task-rows").querySelector(`[data-task="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    $("no-tasks").hidden = all.length > 0;
    problem("tasks", null);
  } catch (error) {
    problem("tasks", error.message);
  }
}

let revoking = null;
function revoke(task) {
  revoking = task;
  $("revoke-id").textContent = `${task.id} · ${task.intent}`;
  $("reason").value = "";
  $("revoke").showModal();
  $("reason").focus();
}

$("revoke-no").addEventListener("click", () => $("revoke").close());
$("revoke-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { id: revoking.id, reason: $("reason").value };
  if (revoking.issuer) body.issuer = revoking.issuer;
  try {
    await ask("/api/tasks/revoke", { method: "POST", body: JSON.stringify(body) });
    problem("revoke", null);
  } catch (error) {
    problem("revoke", error.message);
  }
  $("revoke").close();
  tasks();
});

function show(name) {
  view = name;
  for (const one of ["decisions", "tasks"]) {
    $(one).hidden = one !== name;
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
  }
  if (name === "tasks") { close(); tasks(); }
}

function move(by) {
  const rows = [...$(view === "tasks" ? "task-rows" : "rows").children];
  const at = rows.indexOf(document.activeElement);
  const to = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[to]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=checkbox])");
  if (event.key === "Escape") {
    if (typing) { $("filter").value = ""; draw(true); $("filter").blur(); } else if (opened) close();
    return;
  }
  if (typing) {
    if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); move(0); }
    return;
  }
  const does = { "/": () => { show("decisions"); $("filter").focus(); }, j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1), d: () => show("decisions"), t: () => show("tasks"), h: () => { $("hold").checked = !$("hold").checked; draw(); }, "?": () => $("help").showModal(), Enter: () => { const id = document.activeElement?.dataset?.id; if (id) open(id); else return false; } }[event.key];
  if (does && does() !== false) event.preventDefault();
});

$("search").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", () => draw(true));
$("hold").addEventListener("change", () => draw());
$("rows").addEventListener("click", (event) => { const id = event.target.closest("tr")?.dataset.id; if (id) open(id); });
$("tab-decisions").addEventListener("click", () => show("decisions"));
$("tab-tasks").addEventListener("click", () => show("tasks"));
$("tab-help").addEventListener("click", () => $("help").showModal());

status();
follow();
setInterval(tasks, 2000);
