// The console, used as its users use it. Arguments: BINARY CHROMIUM ROOT [SCREENSHOT]
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const [binary, browserPath, root, picture] = process.argv.slice(2);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "outrider-console-"));
const children = [];
let reached = 0;

function started(words, ready) {
  const child = spawn(binary, words, { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      if (said.includes("\n")) resolve(ready(JSON.parse(said.split("\n")[0])));
    });
    child.on("exit", (status) => reject(new Error(`${words[0]} ended with ${status}`)));
  });
}

const upstream = http.createServer((request, response) => {
  reached += 1;
  setTimeout(() => response.end("{}"), 3);
}).listen(0, "127.0.0.1");
await new Promise((resolve) => upstream.on("listening", resolve));

fs.writeFileSync(path.join(folder, "outrider.yaml"), JSON.stringify({
  agent: { id: "spiffe://example.org/agent/triage" },
  environment: "staging",
  listeners: [{ mode: "reverse", address: "127.0.0.1:0" }],
  admin: { address: "127.0.0.1:0" },
  control: { socket: "control.sock" },
  services: ["crm", "tickets", "mail"].map((name) => ({ name, protocol: "http", upstream: `http://127.0.0.1:${upstream.address().port}`, classification: name === "mail" ? "confidential" : "internal" })),
  policy: { path: "policy", data: ["data.yaml"] },
  limits: [{ name: "mail", key: ["tool"], rate: "2/min", burst: 2, when: { service: "mail" } }].slice(1),
  decision_log: { path: "decisions.jsonl" },
}));
fs.mkdirSync(path.join(folder, "policy"));
fs.writeFileSync(path.join(folder, "policy", "rules.rego"), `package outrider.authz

deny contains {"reason": "odd_path", "message": "<img src=x onerror=alert(1)><script>document.title='taken'</script>"} if endswith(input.call.path, "/odd")
`);
fs.writeFileSync(path.join(folder, "data.yaml"), JSON.stringify({
  agents: [{ id: "spiffe://example.org/agent/triage", owner: "support@example.org", purpose: "Triage", state: "active" }],
  intents: [{ id: "ticket.triage", owner: "support@example.org", tools: ["crm/GET", "tickets/*", "mail/POST"], max_classification: "internal" }],
  grants: [{ agent: "spiffe://example.org/agent/triage", tools: ["*/*"] }],
}));

const sidecar = await started(["run", "--json"], (one) => one);
// The console finds the admin address in the configuration, and it is of a free port here.
const config = JSON.parse(fs.readFileSync(path.join(folder, "outrider.yaml")));
fs.writeFileSync(path.join(folder, "seen.yaml"), JSON.stringify({ ...config, admin: { address: sidecar.admin } }));
const where = sidecar.listening?.[0]?.address ?? sidecar.listeners?.[0]?.address ?? Object.values(sidecar.listening ?? {})[0];
const base = `http://${String(where).replace(/^http:\/\//, "")}`;
const task = JSON.parse(execFileSync(binary, ["task", "open", "--intent", "ticket.triage", "--subject", "user:ada", "--json"], { cwd: folder }));
const call = async (target, options = {}) => {
  const answer = await fetch(base + target, { ...options, headers: { "outrider-task-token": task.token, ...options.headers } });
  await answer.text();
  return answer;
};
for (let at = 0; at < 14; at += 1) await call(["/crm/accounts", "/tickets/7", "/crm/contacts"][at % 3]);
await call("/mail/send", { method: "POST", body: "x" });
await call("/crm/accounts", { method: "DELETE" });
await call("/billing/all");
await call("/crm/odd");
await call("/tickets/8", { headers: { "outrider-task-token": "forged" } });

const url = await started(["console", "-c", "seen.yaml", "--json"], (one) => one.url);
const origin = new URL(url).origin;
const token = new URL(url).hash.slice("#token=".length);

// As an attacker: no token, another name, another origin
const asked = (target, headers, method = "GET") => new Promise((resolve) => {
  const request = http.request(origin + target, { method, headers }, (answer) => { answer.resume(); resolve(answer); });
  request.end();
});
for (const target of ["/api/decisions", "/api/tasks", "/api/status", "/api/decisions/x"]) {
  assert.equal((await asked(target, {})).statusCode, 401, target);
  assert.equal((await asked(target, { authorization: "Bearer x" + token })).statusCode, 401, target);
}
assert.equal((await asked("/api/tasks/revoke", {}, "POST")).statusCode, 401);
const proof = { authorization: `Bearer ${token}` };
assert.equal((await asked("/api/tasks", proof)).statusCode, 200);
assert.equal((await asked("/api/tasks", { ...proof, host: "evil.example" })).statusCode, 403);
assert.equal((await asked("/api/tasks", { ...proof, origin: "http://evil.example" })).statusCode, 403);
assert.equal((await asked("/", { host: "evil.example" })).statusCode, 403);
const csp = (await asked("/", {})).headers["content-security-policy"];
assert.match(csp, /default-src 'none'/);
assert.doesNotMatch(csp, /unsafe/);
assert.throws(() => execFileSync(binary, ["console", "-c", "seen.yaml", "--address", "0.0.0.0:0"], { cwd: folder, stdio: "pipe" }));
console.log("an attacker: nothing without the token, under another name, from another origin, on another interface");

const browser = await chromium.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  const foreign = [], said = [];
  page.on("request", (request) => { if (!request.url().startsWith(origin)) foreign.push(request.url()); });
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("dialog", (dialog) => { said.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(url);
  const rows = page.locator("#rows tr");
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length >= 19);
  assert.equal(new URL(page.url()).hash, "", "the token stays in the address bar");
  await page.waitForFunction(() => document.querySelector("#state").textContent.startsWith("ready"));

  // A call appears while one looks
  const before = await rows.count();
  await call("/tickets/live");
  await page.waitForFunction((count) => document.querySelectorAll("#rows tr").length > count, before);
  console.log("live: a call appears");

  // The filter, by keyboard alone
  await page.keyboard.press("/");
  await page.keyboard.type("outcome:deny code:policy");
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 1);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#detail:not([hidden]) h2");
  const detail = await page.locator("#detail").innerText();
  assert.match(detail, /odd_path: <img src=x onerror=alert\(1\)><script>/, "text of a log is text");
  assert.match(detail, /deny:odd_path/);
  assert.match(detail, /user:ada/);
  assert.notEqual(await page.title(), "taken");
  if (picture) {
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.press("Escape");
    await page.locator("#rows tr", { hasText: "scope_exceeded" }).first().click();
    await page.waitForSelector("#detail:not([hidden]) h2");
    await page.screenshot({ path: picture });
  }
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#detail").isHidden());
  console.log("one decision: found by the filter, opened and closed by keys, and what is in it stays text");

  // Revocation, by keyboard alone
  await page.keyboard.press("t");
  await page.waitForSelector("#task-rows tr");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#revoke[open]");
  await page.keyboard.type("it behaves oddly");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#task-rows td")?.textContent === "revoked");
  const calls = reached;
  const refused = await call("/tickets/7");
  assert.equal(refused.status, 401);
  assert.equal(reached, calls, "a call reached its service after the task was revoked");
  const security = fs.readFileSync(path.join(folder, "security.jsonl"), "utf8");
  assert.match(security, /"type":"revoked".*it behaves oddly/);
  console.log("a task: revoked by keys, its next call is refused and reaches nobody");

  // Narrow and dark, and the sidecar goes away
  await page.keyboard.press("d");
  await page.setViewportSize({ width: 360, height: 640 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 360), "wider than the screen");
  await page.emulateMedia({ colorScheme: "dark" });
  children[0].kill("SIGTERM");
  await page.waitForFunction(() => document.querySelector("#state").textContent.includes("away"), null, { timeout: 40000 });
  assert.deepEqual(foreign, [], "asked somebody else");
  assert.deepEqual(said.filter((text) => !/Failed to load resource/.test(text)), [], "the browser complained");
  console.log("narrow, dark, and without its sidecar: shown as such; nobody else was asked for anything");
} finally {
  await browser.close();
  for (const child of children) child.kill("SIGTERM");
  upstream.close();
  fs.rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
