// Where and how much happens: Heat remembers which directories are busy, Tree shows them, Chart draws the rate of the
// last minutes. All of it is made of what the stream told; a server is asked only for the directories of an open branch.
import { encodeRef, plain, showName } from "./words.js";

// ---- Heat ----

// Heat is how busy directories are: each change adds one to all directories above it, and what was added is worth half
// after halfLife. It forgets the coldest when it knows too many.
export class Heat {
  static halfLife = 15000;
  static most = 5000;

  constructor() { this.of = new Map(); } // path below the watched directory -> [value, when]

  clear() { this.of.clear(); }

  add(path, now) {
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) this.warm(path.slice(0, end), now);
    this.warm("", now);
    if (this.of.size > 2 * Heat.most) this.forget(now);
  }

  warm(dir, now) {
    const old = this.of.get(dir);
    if (!old) this.of.set(dir, [1, now]);
    else {
      old[0] = Heat.decayed(old, now) + 1;
      old[1] = now;
    }
  }

  static decayed([value, when], now) { return value * 2 ** ((when - now) / Heat.halfLife); }

  // get is how many changes there were of late, the newer the more they count.
  get(dir, now) {
    const h = this.of.get(dir);
    return h ? Heat.decayed(h, now) : 0;
  }

  forget(now) {
    const all = [...this.of].sort((a, b) => Heat.decayed(b[1], now) - Heat.decayed(a[1], now));
    this.of = new Map(all.slice(0, Heat.most));
  }
}

// ---- Tree ----

// Tree shows the roots and, where a branch is open, the directories in it, each with its heat. It can be used with the keyboard as
// trees are: arrows move, open and close; Enter watches.
export class Tree {
  static most = 300; // directories of one branch

  constructor(el, { watch, heat }) {
    Object.assign(this, { el, watch, heat });
    this.nodes = new Map(); // absolute path -> node
    this.roots = [];
    this.watched = "";
    el.addEventListener("keydown", (e) => this.key(e));
    el.addEventListener("click", (e) => {
      const node = this.nodeAt(e.target);
      if (!node) return;
      if (e.target.closest(".twist")) this.toggle(node);
      else this.watch(node.path);
      this.focus(node, false);
    });
  }

  nodeAt(target) {
    const item = target.closest("[role=treeitem]");
    return item ? item.node : undefined;
  }

  // show sets the roots; those that stay keep their branches.
  show(names) {
    if (names.join("\n") === this.roots.map((n) => n.path).join("\n")) return;
    const old = new Map(this.roots.map((n) => [n.path, n]));
    this.roots = names.map((name) => old.get(name) ?? this.make(name, name, 1));
    for (const [path, node] of old) if (!names.includes(path)) this.forget(node);
    this.el.replaceChildren(...this.roots.map((n) => n.item));
    if (!this.el.querySelector("[tabindex='0']") && this.roots.length) this.roots[0].row.tabIndex = 0;
  }

  make(path, name, level) {
    const item = document.createElement("li");
    item.setAttribute("role", "none");
    const row = document.createElement("div");
    row.className = "node";
    row.setAttribute("role", "treeitem");
    row.setAttribute("aria-level", level);
    row.setAttribute("aria-expanded", "false");
    row.tabIndex = -1;
    const twist = Object.assign(document.createElement("span"), { className: "twist" });
    twist.setAttribute("aria-hidden", "true");
    const label = Object.assign(document.createElement("span"), { className: "name" });
    showName(label, name);
    row.title = plain(path);
    const warmth = Object.assign(document.createElement("span"), { className: "heat" });
    row.append(twist, label, warmth);
    item.append(row);
    const node = { path, level, item, row, warmth, children: null, open: false };
    row.node = node;
    row.style.paddingInlineStart = `${(level - 1) * 0.9}rem`;
    this.nodes.set(path, node);
    return node;
  }

  forget(node) {
    this.nodes.delete(node.path);
    for (const c of node.children ?? []) this.forget(c);
  }

  async toggle(node, open = !node.open) {
    if (open === node.open) return;
    node.open = open;
    node.row.setAttribute("aria-expanded", String(open));
    if (open) await this.load(node);
    else if (node.group) node.group.hidden = true;
  }

  // load asks for the directories of a branch, and no more, and keeps the branches below it that stay.
  async load(node) {
    let entries;
    try {
      const answer = await fetch(`v1/files/${encodeRef(node.path)}/entries?include=*%2F`, { cache: "no-store", signal: AbortSignal.timeout(20000) });
      if (!answer.ok) return;
      entries = (await answer.json()).entries;
    } catch {
      return; // the next change of the branch tries again
    }
    if (!node.open || this.nodes.get(node.path) !== node) return;
    const names = entries.map((e) => e.name);
    names.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const old = new Map((node.children ?? []).map((c) => [c.path, c]));
    const top = node.path.endsWith("/") ? node.path : node.path + "/";
    node.children = names.slice(0, Tree.most).map((name) => old.get(top + name) ?? this.make(top + name, name, node.level + 1));
    for (const c of node.children) old.delete(c.path);
    for (const c of old.values()) this.forget(c);
    if (!node.group) {
      node.group = document.createElement("ul");
      node.group.setAttribute("role", "group");
      node.item.append(node.group);
    }
    node.group.hidden = false;
    node.group.replaceChildren(...node.children.map((c) => c.item));
    if (names.length > Tree.most) {
      const more = Object.assign(document.createElement("li"), { className: "more", textContent: `and ${(names.length - Tree.most).toLocaleString("en")} more` });
      more.setAttribute("role", "none");
      node.group.append(more);
    }
    node.row.classList.toggle("leaf", names.length === 0);
    this.warm();
  }

  // changed notes that the directories in a directory are others now.
  changed(path) {
    const node = this.nodes.get(path);
    if (!node?.open || node.stale) return;
    node.stale = true;
    setTimeout(() => {
      node.stale = false;
      if (node.open && this.nodes.get(node.path) === node) this.load(node);
    }, 1000);
  }

  // warm draws the heat. Only what lies below the watched directory has any.
  warm() {
    const now = performance.now();
    const top = this.watched.endsWith("/") ? this.watched : this.watched + "/";
    for (const node of this.nodes.values()) {
      const path = node.path === this.watched ? "" : node.path.startsWith(top) ? node.path.slice(top.length) : null;
      const heat = path === null ? 0 : this.heat.get(path, now);
      const level = heat < 0.3 ? 0 : Math.min(1, Math.log2(1 + heat) / 10);
      if (node.drawn !== level) {
        node.drawn = level;
        node.warmth.style.setProperty("--heat", level.toFixed(3));
      }
      const current = String(node.path === this.watched);
      if (node.row.getAttribute("aria-current") !== current) node.row.setAttribute("aria-current", current);
    }
  }

  visible() { return [...this.el.querySelectorAll("[role=treeitem]")].filter((r) => r.offsetParent !== null).map((r) => r.node); }

  focus(node, really = true) {
    for (const r of this.el.querySelectorAll("[tabindex='0']")) r.tabIndex = -1;
    node.row.tabIndex = 0;
    if (really) node.row.focus();
  }

  key(e) {
    const node = this.nodeAt(e.target);
    if (!node || e.altKey || e.ctrlKey || e.metaKey) return;
    const all = this.visible(), at = all.indexOf(node);
    const go = (n) => { if (n) this.focus(n); };
    switch (e.key) {
      case "ArrowDown": go(all[at + 1]); break;
      case "ArrowUp": go(all[at - 1]); break;
      case "Home": go(all[0]); break;
      case "End": go(all.at(-1)); break;
      case "ArrowRight":
        if (!node.open) this.toggle(node, true);
        else go(node.children?.[0]);
        break;
      case "ArrowLeft":
        if (node.open) this.toggle(node, false);
        else go(all.slice(0, at).findLast((n) => n.level < node.level));
        break;
      case "Enter": case " ": this.watch(node.path); break;
      default: return;
    }
    e.preventDefault();
  }
}

// ---- Chart ----

// Chart draws how many notifications came in each second of the last minutes, by the colour of their type.
export class Chart {
  static seconds = 300;
  static colours = ["added", "removed", "moved", "data", "attr", "self"];

  constructor(canvas) {
    this.canvas = canvas;
    this.slots = Array.from({ length: Chart.seconds }, () => null); // second % seconds -> counts by colour
    this.at = Chart.second();
    this.inks = new Map(Chart.colours.map((colour) => { // a canvas knows no variables: elements in it resolve them
      const ink = Object.assign(document.createElement("i"), { className: colour });
      canvas.append(ink);
      return [colour, ink];
    }));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  static second() { return Math.floor(performance.now() / 1000); }

  advance() {
    const now = Chart.second();
    for (let s = Math.max(this.at + 1, now - Chart.seconds + 1); s <= now; s++) this.slots[s % Chart.seconds] = null;
    this.at = now;
  }

  add(colour, n = 1) {
    this.advance();
    const slot = (this.slots[this.at % Chart.seconds] ??= {});
    slot[colour] = (slot[colour] ?? 0) + n;
  }

  static sum(slot) { return slot ? Object.values(slot).reduce((a, b) => a + b, 0) : 0; }

  draw() {
    this.advance();
    const { canvas } = this, scale = window.devicePixelRatio || 1;
    const w = Math.round(canvas.clientWidth * scale), h = Math.round(canvas.clientHeight * scale);
    if (!w || !h) return;
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const c = canvas.getContext("2d");
    const inks = new Map([...this.inks].map(([colour, el]) => [colour, getComputedStyle(el).color]));
    c.clearRect(0, 0, w, h);
    // A bar is at least two pixels of the screen wide: where there is no room for each second, it stands for the mean of some.
    const per = Math.max(1, Math.ceil((Chart.seconds * 2 * scale) / w)), bars = Math.ceil(Chart.seconds / per), each = Math.floor(w / bars);
    let peak = 0, top = 10;
    const means = Array.from({ length: bars }, () => ({}));
    for (let ago = 0; ago < Chart.seconds; ago++) {
      const slot = this.slots[(this.at - ago + Chart.seconds) % Chart.seconds];
      if (!slot) continue;
      peak = Math.max(peak, Chart.sum(slot));
      const bar = means[bars - 1 - Math.floor(ago / per)];
      for (const [colour, n] of Object.entries(slot)) bar[colour] = (bar[colour] ?? 0) + n / per;
    }
    for (const bar of means) top = Math.max(top, Chart.sum(bar) * 1.1);
    means.forEach((bar, i) => {
      let y = h;
      for (const colour of Chart.colours) {
        if (!bar[colour]) continue;
        const part = Math.max(Math.round((bar[colour] / top) * h), 1);
        c.fillStyle = inks.get(colour);
        c.fillRect(w - (bars - i) * each, y - part, Math.max(each - Math.round(scale), 1), part);
        y -= part;
      }
    });
    const last = Chart.sum(this.slots[(this.at - 1 + Chart.seconds) % Chart.seconds]);
    canvas.setAttribute("aria-label", `Notifications per second over ${Chart.seconds / 60} minutes: ${last} in the last second, at most ${peak}`);
    return peak;
  }
}
