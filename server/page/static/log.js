import { $, colourOf, plain, showName } from "./words.js";

// Log keeps the newest notifications and shows those that are in sight, newest first. Adding is cheap: the
// document is touched once per frame, however much came, and holds only the rows in sight.
export class Log {
  static keep = 5000;

  constructor(view, space) {
    this.view = view;
    this.space = space;
    this.items = []; // oldest first, at most keep
    this.rows = []; // those of items that are to be shown
    this.dropped = 0; // how many rows went away at the old end: row i has number dropped+i
    this.incoming = [];
    this.shown = new Map(); // number of a row -> its element
    this.pool = [];
    this.wanted = () => true;
    this.chosen = null; // the item whose details are shown
    this.onchoose = () => {};
    this.frozen = false;
    this.unseen = 0;
    this.scheduled = false;
    view.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(view);
    view.addEventListener("keydown", (e) => this.key(e));
    space.addEventListener("click", (e) => {
      const item = e.target.closest(".row")?.item;
      if (item && !String(getSelection())) this.choose(item);
    });
  }

  // choose marks an item and shows it to who wants to know; null: none.
  choose(item) {
    this.chosen = item && !item.mark ? item : null;
    for (const el of this.shown.values()) this.markChosen(el);
    this.onchoose(this.chosen);
  }

  markChosen(el) {
    if (el.item === this.chosen) el.setAttribute("aria-selected", "true");
    else el.removeAttribute("aria-selected");
  }

  // key moves the choice, newest first as the rows are.
  key(e) {
    if (e.altKey || e.ctrlKey || e.metaKey) return;
    const step = { ArrowDown: -1, ArrowUp: 1 }[e.key];
    if (e.key === "Escape" && this.chosen) this.choose(null);
    else if (step && this.rows.length) {
      let at = this.chosen ? this.rows.lastIndexOf(this.chosen) : -1;
      at = at < 0 ? this.rows.length - 1 - Math.floor(this.view.scrollTop / this.height) : at + step;
      while (this.rows[at]?.mark) at += step;
      if (!this.rows[at]) return;
      this.choose(this.rows[at]);
      const top = (this.rows.length - 1 - at) * this.height;
      if (top < this.view.scrollTop) this.view.scrollTop = top;
      else if (top + this.height > this.view.scrollTop + this.view.clientHeight) this.view.scrollTop = top + this.height - this.view.clientHeight;
    } else return;
    e.preventDefault();
  }

  measure() {
    const row = this.makeRow();
    this.space.append(row);
    this.height = row.getBoundingClientRect().height || 28;
    row.remove();
    this.schedule();
  }

  add(items) {
    this.incoming.push(...items);
    // No frames are drawn in a hidden tab: what would be dropped anyway is dropped here.
    if (this.incoming.length > 2 * Log.keep) this.incoming.splice(0, this.incoming.length - Log.keep);
    this.schedule();
  }

  clear() {
    this.items = [];
    this.incoming = [];
    this.rebuild();
  }

  filter(wanted) {
    this.wanted = wanted;
    this.rebuild();
  }

  freeze(frozen) {
    this.flush();
    this.frozen = frozen;
    this.rebuild();
  }

  rebuild() {
    this.rows = this.items.filter(this.wanted);
    this.dropped = 0;
    this.unseen = 0;
    for (const el of this.shown.values()) el.remove();
    this.pool.push(...this.shown.values());
    this.shown.clear();
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.flush();
      this.render();
    });
  }

  flush() {
    if (!this.incoming.length) return;
    const fresh = this.incoming;
    this.incoming = [];
    this.items.push(...fresh);
    if (this.items.length > Log.keep) this.items.splice(0, this.items.length - Log.keep);
    const wanted = fresh.filter(this.wanted);
    this.unseen += wanted.length;
    if (this.frozen) return;
    this.rows.push(...wanted);
    const over = this.rows.length - Log.keep;
    if (over > 0) {
      this.rows.splice(0, over);
      this.dropped += over;
    }
    // Who reads further down keeps what is in sight where it is.
    if (this.view.scrollTop > 0) {
      this.space.style.height = `${this.rows.length * this.height}px`;
      this.view.scrollTop += wanted.length * this.height;
    }
  }

  render() {
    const { rows, dropped, height } = this;
    const top = this.view.scrollTop;
    if (top < height && !this.frozen) this.unseen = 0;
    this.space.style.height = `${rows.length * height}px`;
    const first = Math.max(0, Math.floor(top / height) - 4); // from the top, that is, the newest
    const last = Math.min(rows.length, Math.ceil((top + this.view.clientHeight) / height) + 4);
    const newest = dropped + rows.length - 1;
    const from = newest - first, to = newest - last + 1;
    for (const [number, el] of this.shown) {
      if (number > from || number < to) {
        el.remove();
        this.shown.delete(number);
        this.pool.push(el);
      }
    }
    let next = this.space.firstChild;
    for (let number = from; number >= to; number--) {
      let el = this.shown.get(number);
      if (!el) {
        el = this.pool.pop() ?? this.makeRow();
        this.fill(el, rows[number - dropped]);
        this.markChosen(el);
        this.shown.set(number, el);
      }
      if (el === next) next = next.nextSibling;
      else this.space.insertBefore(el, next);
      const place = newest - number;
      el.style.transform = `translateY(${place * height}px)`;
      el.setAttribute("aria-rowindex", place + 2);
    }
    $("log").setAttribute("aria-rowcount", rows.length + 1);
    $("empty").hidden = rows.length > 0;
    $("newest").hidden = top < height || this.frozen;
    $("newest").textContent = this.unseen ? `↑ ${this.unseen.toLocaleString("en")} new` : "↑ newest";
    $("pause").textContent = this.frozen ? `Resume (${this.unseen.toLocaleString("en")} new)` : "Pause";
  }

  makeRow() {
    const row = document.createElement("div");
    row.setAttribute("role", "row");
    row.className = "row";
    return row;
  }

  fill(row, item) {
    row.item = item;
    const cell = (name, text) => {
      const el = document.createElement("span");
      el.setAttribute("role", "cell");
      el.className = name;
      el.textContent = text;
      return el;
    };
    if (item.mark) {
      row.className = "row mark";
      row.title = item.mark;
      row.replaceChildren(cell("", `${clock(item.time)}  ${item.mark}`));
      return;
    }
    row.className = "row " + (colourOf.get(item.type) ?? "attr");
    const path = cell("path", "");
    showName(path, item.path || "(the watched directory)");
    if (item.stream) {
      const stream = document.createElement("span");
      stream.className = "stream";
      showName(stream, ":" + item.stream);
      path.append(stream);
    }
    row.title = plain(item.path + (item.stream ? ":" + item.stream : ""));
    row.replaceChildren(cell("time", clock(item.time)), cell("what", item.type), path,
      cell("size num", item.size === undefined ? "" : bytes(item.size)), cell("id num wide", item.id));
  }
}

export function clock(ms) {
  const t = new Date(ms);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${String(t.getMilliseconds()).padStart(3, "0")}`;
}

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  let i = -1;
  do { n /= 1000; i++; } while (n >= 999.5 && i < units.length - 1);
  return `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

// itemOf takes from a notification what the log shows.
export function itemOf(n, now) {
  const time = n.time ? Date.parse(n.time) : now;
  return {
    type: String(n.type), path: String(n.path ?? ""), stream: n.stream_name ?? "",
    note: n, id: n.spine?.at(-1) ?? "", size: n.kind === "file" ? n.size : undefined, time: Number.isNaN(time) ? now : time,
  };
}
