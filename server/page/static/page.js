// The live page: log.js shows notifications, stream.js gets them, activity.js draws where and how much happens, and this
// file joins them to the form.
import { Chart, Heat, Tree } from "./activity.js";
import { Log, itemOf } from "./log.js";
import { Stream } from "./stream.js";
import { $, colourOf, decodeRef, encodeRef, groups, plain, showName, usual } from "./words.js";

const log = new Log($("view"), $("space"));
const heat = new Heat();
const chart = new Chart($("chart"));
const tree = new Tree($("tree"), { heat, watch: (path) => start(path, $("recursive").checked) });
const off = new Set(groups.filter(([, , , on]) => on === false).map(([name]) => name)); // names of chips
const counts = { total: 0, recent: [] };
let connection = "idle"; // what the stream says
let detail = "";
let health = { roots: [], reachable: true };
let away = false; // nobody has looked for a while
let who = null; // whom the server takes the page for, or took it for last

const stream = new Stream({
  notes(notes) {
    const now = Date.now();
    log.add(notes.map((n) => itemOf(n, now)));
    counts.total += notes.length;
    counts.recent.push([performance.now(), notes.length]);
    const since = performance.now();
    for (const n of notes) {
      chart.add(colourOf.get(n.type) ?? "attr");
      if (typeof n.path !== "string") continue;
      heat.add(n.path, since);
      if (n.type.startsWith("child_dir_") && n.type !== "child_dir_mtime_changed") tree.changed(absolute(n.path.slice(0, Math.max(0, n.path.lastIndexOf("/")))));
    }
  },
  enough: () => away || log.frozen && log.unseen + log.incoming.length >= Log.keep,
  mark(text) { log.add([{ mark: text, time: Date.now() }]); },
  unknown() { askDoor(); },
  state(state, why = "") {
    connection = state;
    detail = why;
    showState();
    if (state === "open") ask();
  },
});

// absolute is the whole path of what lies below the watched directory.
function absolute(path) {
  if (!path) return stream.dir;
  return (stream.dir.endsWith("/") ? stream.dir : stream.dir + "/") + path;
}

function showState() {
  const root = rootOf(stream.dir);
  const [state, text, more] = (() => {
    switch (connection) {
      case "idle": return ["idle", "Pick a directory", ""];
      case "connecting": return ["busy", "Connecting…", ""];
      case "reconnecting": return ["busy", "Reconnecting…", detail];
      case "refused": return ["bad", "Not watching", detail];
      case "resting": return away ? ["idle", "In the background", "what happens is told when somebody looks"] : ["watching", "Watching", "what happens is told when the pause is over"];
    }
    if (!health.reachable) return ["busy", "Reconnecting…", "the server does not answer"];
    if (root?.phase === "indexing") {
      const found = root.indexed ? `${root.indexed.toLocaleString("en")} entries so far` : "";
      return ["busy", `Indexing ${Math.floor(100 * (root.progress || 0))} %`, found];
    }
    if (root?.phase === "away") return ["bad", "Away", `${root.name || "its root"} is not there at the moment`];
    const degraded = root?.degraded_count ?? 0;
    return ["watching", "Watching", degraded ? `${degraded} part${degraded > 1 ? "s" : ""} of it can only be looked at now and then` : ""];
  })();
  $("state").dataset.state = state;
  if ($("state-text").textContent !== text) $("state-text").textContent = text; // each change is read out
  showName($("detail"), more);
  document.title = stream.dir ? `${text} · ${plain(stream.dir)} · fs_notify` : "fs_notify";
}

// within says whether a path is at or below another.
const within = (path, top) => path === top || path.startsWith(top.endsWith("/") ? top : top + "/");

// rootOf finds the root that holds a directory. Of an ID, or where roots are not named to everybody, it is known only if there is one.
function rootOf(dir) {
  if (!dir) return undefined;
  const [only, second] = health.roots;
  if (only && !second && !(only.name && dir.startsWith("/"))) return only;
  return health.roots.find((r) => r.name && within(dir, r.name));
}

// places are where one may begin: the roots, or what one sees of them. Only administrators are told how the roots are called.
function places() {
  const roots = health.roots.map((r) => r.name).filter(Boolean);
  if (!who?.paths) return roots;
  return who.paths.flatMap((path) => {
    const inside = roots.filter((r) => within(r, path));
    return inside.length ? inside : [path];
  });
}

// ask looks how the roots are. The stream cannot say: comments are hidden from EventSource, and a connection that died in silence
// looks open. But while the stream says something the server is there, even if a browser has no connection left for other requests.
let asking;
let missed = -Infinity; // when it had no answer
async function ask() {
  clearTimeout(asking);
  let answered = false;
  try {
    const answer = await fetch("readyz", { cache: "no-store", headers: { Accept: "application/json" }, signal: AbortSignal.timeout(5000) });
    const said = await answer.json().catch(() => ({})); // 503 says how the roots are, too
    health.roots = Array.isArray(said.roots) ? said.roots : [];
    answered = true;
  } catch {
    missed = performance.now();
  }
  health.reachable = answered || performance.now() - stream.heard < Stream.quiet;
  $("roots").replaceChildren(...places().map((value) => Object.assign(document.createElement("option"), { value })));
  if (health.reachable) tree.show(places());
  if (answered && connection === "open" && missed > stream.heard) stream.connect("reconnecting");
  else showState();
  clearTimeout(asking);
  if (away && connection === "resting") return;
  const soon = !answered || rootOf(stream.dir)?.phase === "indexing";
  asking = setTimeout(ask, soon ? 1000 : 10000);
}

// Chips narrow both: what is shown, at once, and what is asked for.
function types() {
  const on = groups.filter(([name]) => !off.has(name)).flatMap(([, , types]) => types);
  const asIs = on.length === usual.length && on.every((t) => usual.includes(t));
  return asIs ? null : on.length ? on : ["self_removed"];
}

// What is shown of what came: by chips, and by the words that are searched for.
function narrow() {
  const shown = new Set(groups.filter(([name]) => !off.has(name)).flatMap(([, , types]) => types));
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (item) => {
    const text = `${item.type} ${plain(item.path)}${item.stream ? ":" + plain(item.stream) : ""} ${item.id}`.toLowerCase();
    return words.every((w) => text.includes(w));
  };
  log.filter((item) => (item.mark ? !words.length : (shown.has(item.type) || !colourOf.has(item.type)) && (!words.length || found(item))));
}

let retyping;
function chipsChanged() {
  for (const box of $("chips").querySelectorAll("input")) box.checked = !off.has(box.name);
  narrow();
  clearTimeout(retyping);
  retyping = setTimeout(() => stream.retype(types()), 400);
}

let searching;
$("search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(narrow, 120);
});

for (const [name, colour] of groups) {
  const chip = document.createElement("label");
  chip.className = `chip ${colour}`;
  const box = Object.assign(document.createElement("input"), { type: "checkbox", name, checked: !off.has(name) });
  const text = document.createElement("span");
  text.textContent = name;
  chip.append(box, text);
  box.addEventListener("change", () => {
    if (box.checked) off.delete(name);
    else off.add(name);
    chipsChanged();
  });
  $("chips").append(chip);
}
$("all").addEventListener("click", () => {
  off.clear();
  for (const [name, , , on] of groups) if (on === false) off.add(name);
  chipsChanged();
});
$("none").addEventListener("click", () => {
  for (const [name] of groups) off.add(name);
  chipsChanged();
});

// from is where the stream begins: "" with what is to come.
function from() {
  const v = $("from").value;
  if (v !== "time") return v;
  const t = new Date($("from-time").value);
  return Number.isNaN(t.getTime()) ? "" : t.toISOString();
}

// The address holds what is watched, so that it can be kept and sent.
function start(dir, recursive) {
  $("dir").value = plain(dir);
  $("recursive").checked = recursive;
  const hash = `#dir=${encodeRef(dir)}${recursive ? "" : "&recursive=false"}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  const past = from();
  if (stream.dir && stream.dir !== dir || past) {
    log.clear();
    log.choose(null);
  }
  if (stream.dir !== dir) heat.clear();
  tree.watched = dir;
  stream.watch(dir, recursive, types(), past);
  tree.warm();
}

$("from").addEventListener("change", () => {
  $("from-time").hidden = $("from").value !== "time";
  if ($("from").value === "time" && !$("from-time").value) {
    const ago = new Date(Date.now() - 10 * 60000);
    $("from-time").value = new Date(ago - ago.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  }
  if (stream.dir) start(stream.dir, $("recursive").checked);
});
$("from-time").addEventListener("change", () => { if (stream.dir) start(stream.dir, $("recursive").checked); });

function startFromAddress() {
  const q = new Map(location.hash.slice(1).split("&").map((p) => p.split(/=(.*)/s)));
  const dir = decodeRef(q.get("dir") ?? "");
  if (dir) start(dir, q.get("recursive") !== "false");
  return dir !== "";
}

$("where").addEventListener("submit", (e) => {
  e.preventDefault();
  const typed = $("dir").value; // of some names it shows but what can be shown
  const dir = stream.dir && typed === plain(stream.dir) ? stream.dir : typed.trim();
  if (dir) start(dir.length > 1 ? dir.replace(/\/+$/, "") || "/" : dir, $("recursive").checked);
});
$("recursive").addEventListener("change", () => { if (stream.dir && $("dir").value.trim()) $("where").requestSubmit(); });
window.addEventListener("hashchange", startFromAddress);
window.addEventListener("online", ask);

// A tab that nobody looks at gives its connection back after a while: over HTTP/1.1 all tabs of a browser share six to one server.
let leaving;
function look() {
  clearTimeout(leaving);
  away = false;
  if (document.hidden) leaving = setTimeout(() => { away = true; stream.settle(); }, Stream.rest);
  else ask();
  stream.settle();
  showState();
}
document.addEventListener("visibilitychange", look);
if (document.hidden) look();

function pause(on) {
  log.freeze(on);
  stream.settle(); // what was left with the server comes now
  $("pause").setAttribute("aria-pressed", String(on));
}
$("pause").addEventListener("click", () => pause(!log.frozen));
$("clear").addEventListener("click", () => {
  counts.total = 0;
  log.choose(null);
  log.clear();
  stream.settle();
});
$("newest").addEventListener("click", () => { $("view").scrollTop = 0; });

// ---- Details ----

log.onchoose = (item) => {
  $("details").hidden = !item;
  if (!item) return;
  const n = item.note, rows = [];
  const row = (name, value, isName = false) => {
    if (value === null || value === undefined || value === "") return;
    const dt = Object.assign(document.createElement("dt"), { textContent: name }), dd = document.createElement("dd");
    if (isName) showName(dd, String(value));
    else dd.textContent = String(value);
    rows.push(dt, dd);
  };
  row("What", n.type);
  row("Path", absolute(item.path), true);
  row("Stream", n.stream_name, true);
  row("Time", n.time);
  row("Kind", n.kind);
  row("Size", n.size === undefined ? "" : `${Number(n.size).toLocaleString("en")} bytes`);
  row("Mode", n.mode);
  row("Owner", n.owner);
  row("Group", n.group);
  row("Modified", n.mtime);
  if (n.actor) row("By", `${n.actor.command || "?"} (process ${n.actor.pid}, user ${n.actor.uid})`, true);
  row("Seq", n.seq);
  row("Other half", n.link);
  row("Spine", (n.spine ?? []).join(" › "));
  $("fields").replaceChildren(...rows);
};
$("close-details").addEventListener("click", () => {
  log.choose(null);
  $("view").focus();
});
$("watch-it").addEventListener("click", () => {
  const item = log.chosen;
  if (!item) return;
  const inside = item.note.kind === "directory" ? item.path : item.path.slice(0, Math.max(0, item.path.lastIndexOf("/")));
  start(absolute(inside), $("recursive").checked);
});

// ---- Commands ----

// quote makes one word of a shell of any text.
const quote = (s) => (/^[\w@%+=:,.\/-]+$/.test(s) ? s : `'${s.replaceAll("'", "'\\''")}'`);

// commands say in a shell what the page does now.
function commands() {
  const filter = types(), past = from();
  const q = new URLSearchParams();
  if (stream.recursive) q.set("recursive", "true");
  if (filter) q.set("filter", filter.join(","));
  if (past) q.set("since", past);
  const url = new URL(`v1/files/${encodeRef(stream.dir)}/notify`, location.href);
  url.hash = "";
  url.search = q.toString().replaceAll("%2C", ",");
  const words = ["fs_notify", "--host", url.hostname.replace(/^\[|\]$/g, ""), "--port", url.port || (url.protocol === "https:" ? "443" : "80")];
  if (url.protocol === "https:") words.push("--tls");
  const odd = plain(stream.dir) !== stream.dir; // nobody could paste its name
  if (!stream.dir.startsWith("/")) words.push("--id", stream.dir);
  else words.push(...(odd ? ["--id", stream.id] : ["--path", stream.dir]));
  if (stream.recursive) words.push("--recursive");
  if (filter) words.push("--filter", filter.join(","));
  if (past) words.push("--since", past);
  return { curl: `curl -N ${quote(url.href)}`, fs_notify: odd && !stream.id ? "" : words.map(quote).join(" ") };
}

async function copy(which) {
  if (!stream.dir) return;
  const text = commands()[which];
  $("command").hidden = false;
  $("command-text").value = text;
  $("command-text").select();
  if (!text) {
    $("copied").textContent = "once it is watched";
    return;
  }
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = "copied";
  } catch {
    $("copied").textContent = "press Ctrl+C"; // no permission, or not from this machine over plain HTTP
  }
}
$("copy-curl").addEventListener("click", () => copy("curl"));
$("copy-cli").addEventListener("click", () => copy("fs_notify"));
$("close-command").addEventListener("click", () => { $("command").hidden = true; });

// ---- Keys ----

document.addEventListener("keydown", (e) => {
  if (e.altKey || e.ctrlKey || e.metaKey || e.target.closest("input, select, textarea")) {
    if (e.key === "Escape" && e.target === $("search")) {
      $("search").value = "";
      narrow();
      $("view").focus();
    }
    return;
  }
  switch (e.key) {
    case "/": $("search").focus(); break;
    case "p": pause(!log.frozen); break;
    case "g": $("view").scrollTop = 0; $("view").focus(); break;
    case "d": $("dir").select(); break;
    case "t": $("tree").querySelector("[tabindex='0']")?.focus(); break;
    default: return;
  }
  e.preventDefault();
});

const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Colours: ${theme}`;
  try { localStorage.setItem("fs_notify.theme", theme); } catch { /* it is forgotten, then */ }
}
let theme = "auto";
try { theme = themes.find((t) => t === localStorage.getItem("fs_notify.theme")) ?? "auto"; } catch { /* as the system says */ }
setTheme(theme);
$("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  setTheme(theme);
});

setInterval(() => {
  const since = performance.now() - 2000;
  counts.recent = counts.recent.filter(([t]) => t > since);
  const rate = counts.recent.reduce((sum, [, n]) => sum + n, 0) / 2;
  $("rate").textContent = `${rate < 10 && rate > 0 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en")}/s`;
  $("total").textContent = `${counts.total.toLocaleString("en")} in all`;
}, 500);

setInterval(() => {
  if (document.hidden) return;
  const peak = chart.draw();
  if (peak !== undefined) $("peak").textContent = `most ${peak.toLocaleString("en")}/s`;
  tree.warm();
}, 1000);

// ---- The door ----

// askDoor learns whether one has to log in, and who one is. The session is a cookie that scripts cannot see.
async function askDoor() {
  let door = {};
  try {
    const answer = await fetch("login", { cache: "no-store", headers: { Accept: "application/json" } });
    if (answer.ok) door = await answer.json();
  } catch { /* the state of the connection says it */ }
  if (door.who && who && door.who.name !== who.name) forget();
  who = door.who ?? who; // whose session has ended may come back
  const name = door.who?.name ?? "";
  $("who").hidden = !name;
  $("who-name").textContent = plain(name);
  if (!door.required) {
    if ($("door").open) $("door").close();
    return true;
  }
  stream.close();
  for (const [id, on] of [["by-password", door.password], ["by-token", door.token], ["or", door.password && door.token]]) $(id).hidden = !on;
  if (!$("door").open) $("door").showModal();
  return false;
}

// forget drops what was shown to another user.
function forget() {
  counts.total = 0;
  log.choose(null);
  log.clear();
  heat.clear();
  tree.show([]);
  stream.close();
  stream.dir = "";
  connection = "idle";
  who = null;
}

async function enter() {
  if (!await askDoor()) return;
  await ask();
  if (stream.dir) stream.connect("connecting"); // from where it was
  else if (!startFromAddress() && places().length) start(places()[0], who?.privileges?.includes("notify.recursive") ?? true);
}

$("login").addEventListener("submit", async (e) => {
  e.preventDefault();
  $("door-says").textContent = "";
  const by = $("token").value ? { token: $("token").value } : { username: $("username").value, password: $("password").value };
  try {
    const answer = await fetch("login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(by) });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      $("door-says").textContent = said.description || `${answer.status} ${answer.statusText}`;
      return;
    }
  } catch {
    $("door-says").textContent = "the server cannot be reached";
    return;
  }
  $("password").value = $("token").value = "";
  enter();
});
$("door").addEventListener("cancel", (e) => e.preventDefault()); // there is nothing behind it
$("logout").addEventListener("click", async () => {
  await fetch("logout", { method: "POST" }).catch(() => {});
  forget();
  enter();
});

enter();
