import { encodeRef } from "./words.js";

// Stream holds one EventSource and brings it back when it ends, from where it was. An EventSource comes back by itself
// when a connection breaks, with the id of the last block. It gives up for good when the answer is not 200; then
// Stream asks why, waits, and makes a new one from the last id that it saw.
export class Stream {
  static rest = 10000; // ms after which a stream that nobody looks at may rest
  static quiet = 20000; // ms: a server says something every 15 s

  constructor(on) {
    this.on = on; // notes(list), mark(text), state(word, why), enough(): nobody wants more now, unknown() when one has to log in
    this.generation = 0; // whoever was started by an older one has nothing to say any more
    this.heard = -Infinity; // when the server said something last
    this.resting = false;
  }

  // watch starts anew: with what is to come or, if from says so ("5m", "oldest", a time), with the past.
  watch(dir, recursive, types, from = "") {
    Object.assign(this, { dir, recursive, types, from, lastId: "", since: 0, tries: 0 });
    this.connect("connecting");
  }

  // id is the file ID of the watched directory: it stands in each id of the stream.
  get id() { return this.lastId.split(".")[1] ?? ""; }

  // settle stops reading while nobody wants more, and goes on behind what was read last as soon as somebody does; the server keeps
  // what comes meanwhile. A stream that has no place yet to go on from is left alone until it has.
  settle() {
    const enough = this.on.enough();
    if (this.resting && !enough) this.connect("connecting");
    if (!enough || !this.source || !(this.lastId || this.since && !this.from)) return;
    this.close();
    this.resting = true;
    this.on.state("resting");
  }

  // retype goes on from the same place with another filter.
  retype(types) {
    this.types = types;
    if (this.source) this.connect("connecting");
  }

  close() {
    this.generation++;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.resting = false;
  }

  url() {
    const q = new URLSearchParams({ recursive: String(this.recursive), fields: "all", gap: "reset" });
    if (this.types) q.set("filter", this.types.join(","));
    if (this.lastId) q.set("last_event_id", this.lastId);
    else if (this.from) q.set("since", this.from);
    // No block came yet, so no id was seen: everything since the first connection is new.
    else if (this.since) q.set("since", `${Math.ceil((performance.now() - this.since) / 1000)}s`);
    return `v1/files/${encodeRef(this.dir)}/notify?${q}`;
  }

  // connect makes the next EventSource. Without a state, what is shown stays until it is open.
  connect(state) {
    this.close();
    const generation = this.generation;
    const current = (f) => (e) => { if (generation === this.generation) f(e); };
    const said = (f) => current((e) => {
      this.heard = performance.now();
      if (e.lastEventId) this.lastId = e.lastEventId;
      f(e);
      this.settle();
    });
    if (state) this.on.state(state);
    const source = this.source = new EventSource(this.url());
    source.onopen = current(() => {
      this.heard = performance.now();
      this.since ||= this.heard;
      this.tries = 0;
      this.on.state("open");
      this.after(Stream.rest, () => this.settle()); // it may be long until it has an id
    });
    source.onmessage = said((e) => this.receive(e));
    source.addEventListener("cursor", said(() => {}));
    source.addEventListener("reset", said((e) => {
      let reason = "";
      try { reason = JSON.parse(e.data).reason ?? ""; } catch { /* the mark below says enough */ }
      this.on.mark("The server could not go on from where this page was: changes are missing here." + (reason ? ` (${reason})` : ""));
    }));
    source.onerror = current(() => {
      if (source.readyState === EventSource.CLOSED) this.diagnose();
      else this.on.state("reconnecting");
    });
  }

  receive(e) {
    let notes;
    try {
      notes = JSON.parse(e.data);
    } catch {
      this.on.mark("The server sent something that is not JSON.");
      return;
    }
    this.on.notes(notes);
    if (notes.some((n) => n.type === "self_removed")) {
      this.close();
      this.lastId = "";
      this.since = 0;
      this.on.state("refused", "the directory was removed, or left its root");
      this.after(5000, () => this.diagnose()); // another one may take its name
    }
  }

  // diagnose asks for the same stream to learn why it was refused, and comes back when it is not.
  async diagnose() {
    this.close();
    const generation = this.generation;
    const control = new AbortController();
    const asked = fetch(this.url(), { headers: { Accept: "text/event-stream" }, cache: "no-store", signal: control.signal });
    const wait = Math.min(15000, 1000 * 2 ** this.tries++);
    try {
      const answer = await asked;
      const said = answer.ok ? {} : await answer.json().catch(() => ({}));
      if (generation === this.generation) this.judge(answer, said, wait);
    } catch {
      if (generation !== this.generation) return;
      this.on.state("reconnecting", "the server cannot be reached");
      this.after(wait, () => this.diagnose());
    } finally {
      control.abort(); // the body may have no end
    }
  }

  judge(answer, said, wait) {
    if (answer.ok) {
      if (this.tries > 1) this.after(wait, () => this.connect());
      else this.connect();
      return;
    }
    if (answer.status === 410) {
      this.on.mark("The server does not keep changes back to where this page was: some are missing here.");
      this.lastId = "";
      this.since = 0;
    }
    if (answer.status === 401) this.on.unknown();
    const passing = answer.status >= 500 || [408, 410, 429].includes(answer.status);
    this.on.state(passing ? "reconnecting" : "refused", said.description || `${answer.status} ${answer.statusText}`);
    if (!passing && answer.status !== 404) return; // only another request can be right
    this.after(Math.max(wait, retryAfter(answer)), () => this.diagnose());
  }

  after(wait, f) {
    const generation = this.generation;
    this.timer = setTimeout(() => { if (generation === this.generation) f(); }, wait);
  }
}

// retryAfter is how many ms an answer asks to wait: seconds, or until a date; 0 if it does not say. No timer holds more than 31 bits.
function retryAfter(answer) {
  const said = answer.headers.get("Retry-After") ?? "";
  const ms = /^\d+$/.test(said) ? 1000 * said : Date.parse(said) - Date.now();
  return Math.min(ms || 0, 2 ** 31 - 1);
}
