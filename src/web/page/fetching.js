// Files that come to this browser: what of each is here, what is asked for next, and saving what is complete.
import { Fault } from "/_a/call.js";
import { LANES } from "/_a/crew.js";
import { FINAL } from "/_a/line.js";
import * as shelf from "/_a/shelf.js";
import { save } from "/_a/view.js";

/** A call is to move about so much time's worth of data: what a cut costs. */
const RUN_MS = 1000;
/** Data that one request for digests may be about. */
const PAGE_BYTES = 64 * 1024 * 1024;
/** A saved file makes room for others only after the time in which the browser copies it, and the slowest that it does so. */
const KEEP_MS = 60000, COPY_BYTES_PER_MS = 5000;
/** And so long after it was saved, whichever page or offer it belongs to. */
const LEFT_MS = 3600 * 1000;
/** Files that one call says are complete. */
const FETCHED_AT_ONCE = 1000;

/** A file that is wanted. Its `state` is one of idle, waiting, fetching, checking, paused, full, done, failed. */
class Item {
  state = "idle";
  /** Why it failed. */
  text = "";
  /** Bytes that are here and checked, and those of them that were here before. */
  have = 0;
  before = 0;
  root = null;
  /** A local copy that the file is put together from, where it is right. */
  base = null;
  /** Digests of all chunks, as far as `known` chunks. */
  digests = null;
  known = 0;
  /** For each chunk: 0 is missing, 1 is under way, 2 is on the shelf, 3 is right in `base`. */
  chunks = null;
  /** Bytes under way. */
  moving = new Map();
  /** Whether an earlier page saved it, and it is still here. */
  isKept = false;
  /** The complete file while it is kept here, and what lets go of the addresses under which the browser copies it. */
  blob = null;
  releases = [];

  constructor(entry) {
    this.entry = entry;
    this.size = entry.size;
  }

  get moved() {
    let sum = this.have;
    for (const bytes of this.moving.values()) sum += bytes;
    return Math.min(sum, this.size);
  }

  length(index) {
    return Math.min(this.step, this.size - index * this.step);
  }

  get isActive() {
    return ["waiting", "fetching", "checking"].includes(this.state);
  }
}

export class Fetching {
  items = [];
  #crew;
  #line;
  #told;
  #offer;
  #limits;
  #runBytes = 0;
  #driving = 0;
  #clearing = null;
  #queue = [];

  /** `told` hears of every change of an item. */
  constructor(crew, line, told) {
    [this.#crew, this.#line, this.#told] = [crew, line, told];
    line.renewed = () => this.#tellFetched(this.items.filter(item => item.state === "done"));
  }

  /** Takes the listing. What was asked for before the page was left goes on. */
  async enter(offer, limits, entries) {
    [this.#offer, this.#limits] = [offer, limits];
    this.items = entries.filter(entry => entry.kind === "file").map(entry => new Item(entry));
    const byNumber = new Map(this.items.map(item => [item.entry.id, item]));
    await shelf.tidy().catch(() => {});
    for (const { file, state } of await shelf.filesOf(offer).catch(() => [])) {
      const item = byNumber.get(file);
      if (!item) continue;
      const kept = (await shelf.runsOf(offer, file)).reduce((sum, run) => sum + run.blob.size, 0);
      item.have = item.before = Math.min(kept, item.size);
      item.isKept = state === "saved" && kept > 0;
      if (state === "wanted") this.want(item);
      else this.#set(item, state === "saved" ? "idle" : "paused");
    }
  }

  /** Fetches a file, or goes on with it. */
  want(item, base = null) {
    if (item.isActive) return;
    if (base) item.base = base;
    item.stopper = new AbortController();
    this.#set(item, "waiting");
    // A local copy has to be picked again after a reload.
    this.#keep(item, item.base ? "paused" : "wanted");
    this.#queue.push(item);
    this.#pump();
  }

  /** What is here stays here. */
  pause(item) {
    if (!item.isActive) return;
    this.#keep(item, "paused");
    this.#stop(item, "paused");
  }

  /** What is here is thrown away. */
  async cancel(item) {
    item.isKept = false;
    this.#stop(item, "idle");
    item.settled = (item.settled ?? Promise.resolve()).then(async () => {
      await shelf.dropFile(this.#offer, item.entry.id).catch(() => {});
      item.have = item.before = 0;
      item.base = null;
      this.#told(item);
    });
    await item.settled;
  }

  /** Saves a complete file once more. */
  saveAgain(item) {
    if (item.blob) item.releases.push(save(item.blob, baseName(item)));
  }

  /** Throws away what is kept here of a saved file. */
  async clear(item) {
    for (const release of item.releases.splice(0)) release();
    item.blob = null;
    this.#told(item);
    await shelf.dropFile(this.#offer, item.entry.id).catch(() => {});
  }

  /** Takes away what was saved a while ago. Whether there was any. Who asks meanwhile waits for the same. */
  #makeRoom() {
    this.#clearing ??= (async () => {
      try {
        const isCopied = item => item.state === "done" && item.blob &&
          Date.now() - item.savedAt > KEEP_MS + item.size / COPY_BYTES_PER_MS;
        const copied = this.items.filter(isCopied);
        await Promise.all(copied.map(item => this.clear(item)));
        return (await shelf.tidy(LEFT_MS).catch(() => 0)) + copied.length > 0;
      } finally {
        this.#clearing = null;
      }
    })();
    return this.#clearing;
  }

  #stop(item, state) {
    this.#queue = this.#queue.filter(other => other !== item);
    item.stopper?.abort();
    this.#set(item, state);
  }

  #set(item, state, text = "") {
    [item.state, item.text] = [state, text];
    this.#told(item);
  }

  #keep(item, state) {
    return shelf.putFile(this.#offer, item.entry.id, state).catch(() => {});
  }

  #pump() {
    while (this.#driving < LANES && this.#queue.length) {
      const item = this.#queue.shift(), stopper = item.stopper;
      this.#driving += 1;
      // One after the other: a file that was stopped may be wanted again while its last calls end.
      item.settled = (item.settled ?? Promise.resolve()).then(async () => {
        try {
          if (!stopper.signal.aborted) await this.#drive(item, stopper.signal);
        } catch (fault) {
          if (!stopper.signal.aborted) this.#failed(item, fault);
        } finally {
          item.moving.clear();
          this.#driving -= 1;
          this.#told(item);
          this.#pump();
        }
      });
    }
  }

  #failed(item, fault) {
    if (fault.kind === "space") {
      // There is one room for all.
      for (const other of this.items) if (other !== item && other.isActive) this.#stop(other, "full");
      return this.#set(item, "full");
    }
    // What is here is as good as it was.
    if (FINAL.includes(fault.kind)) return this.#set(item, "paused");
    const texts = {
      changed: "It changed at the sender since it was offered.",
      shelf: "This browser keeps nothing for this page (a private window?). Use its own download, below.",
      mismatch: "What came is twice not what was announced. Try again; the sender’s disk or memory may be at fault.",
      page: fault.message,
    };
    this.#set(item, "failed", texts[fault.kind] ?? (fault.message || fault.kind));
  }

  async #drive(item, stopped) {
    this.#set(item, "fetching");
    const { length, count } = await this.#crew.aside("geometry", { size: item.size });
    if (!length || length > this.#limits.chunk_bytes_max) {
      throw new Fault("limit", "It is too large for this page. Use the browser’s own download, below.");
    }
    [item.step, item.count] = [length, count];
    item.digests ??= new Uint8Array(count * 32);
    item.chunks = new Uint8Array(count);
    const kept = await this.#kept(item);
    item.have = 0;
    // Ends everything that is under way for the file: when it is stopped, and when one part fails.
    const ending = new AbortController();
    const end = () => ending.abort();
    stopped.addEventListener("abort", end);
    const runs = new Runs(ending);
    try {
      await this.#fetchAll(item, kept, runs, ending.signal);
    } catch (fault) {
      throw runs.fault ?? fault;
    } finally {
      stopped.removeEventListener("abort", end);
      end();
      // They end before the file may be wanted again.
      await runs.settled();
    }
    await this.#finish(item, stopped);
  }

  async #fetchAll(item, kept, runs, signal) {
    let ahead = this.#page(item, 0, signal);
    for (let first = 0; first < item.count;) {
      const end = await ahead;
      ahead = this.#page(item, end, signal);
      // It is looked at in the next turn, or never where this one fails.
      ahead.catch(() => {});
      await this.#recognise(item, kept, first, end);
      await this.#fetch(item, first, end, runs, signal);
      first = end;
    }
    await runs.all();
  }

  /** Learns digests from `first` on, and returns where the next ones begin. */
  async #page(item, first, signal) {
    if (first < item.known) return item.known;
    const most = Math.max(1, Math.min(this.#limits.digests_max, Math.floor(PAGE_BYTES / item.step)));
    const header = { op: "digests", file: item.entry.id, first, count: Math.min(most, item.count - first) };
    if (header.count === 0) return first;
    const { header: answer, payload } = await this.#line.task("call", { header }, null, signal);
    const isPage = answer.file === header.file && answer.first === first && answer.count >= 1 &&
      answer.count <= header.count && payload.length === answer.count * 32;
    if (!isPage) throw new Fault("request", "The host answered with other digests.");
    item.digests.set(payload, first * 32);
    item.known = first + answer.count;
    return item.known;
  }

  /** What is on the shelf of a file, by chunk. */
  async #kept(item) {
    const kept = new Map();
    for (const run of await shelf.runsOf(this.#offer, item.entry.id).catch(() => [])) {
      for (let place = 0; place < run.count; place += 1) {
        kept.set(run.first + place, run.digests.subarray(place * 32, place * 32 + 32));
      }
    }
    return kept;
  }

  /** Finds chunks that need not be fetched: in a local copy, or on the shelf. */
  async #recognise(item, kept, first, end) {
    if (item.base) await this.#compare(item, first, end);
    for (let index = first; index < end; index += 1) {
      const isKept = item.chunks[index] === 0 && kept.has(index) && same(kept.get(index), digestOf(item, index));
      if (isKept) this.#has(item, index, 2);
    }
    item.before = item.have;
    this.#told(item);
  }

  /** Compares a part of a local copy with the original. */
  async #compare(item, first, end) {
    const share = Math.ceil((end - first) / LANES);
    await Promise.all(range(0, LANES).map(async lane => {
      const from = first + lane * share, count = Math.min(share, end - from);
      if (count <= 0) return;
      const lengths = range(from, from + count).map(index => item.length(index));
      const request = { blob: item.base, size: item.size, first: from, lengths, step: item.step };
      const found = await this.#crew.do("hash", request);
      found.forEach((digest, place) => {
        if (digest && same(digest, digestOf(item, from + place))) this.#has(item, from + place, 3);
      });
    }));
  }

  #has(item, index, how) {
    item.chunks[index] = how;
    item.have += item.length(index);
  }

  /** Asks for what is missing in a part of a file. Returns when everything was asked for; `runs` end later. */
  async #fetch(item, first, end, runs, signal) {
    for (let index = first; index < end;) {
      if (item.chunks[index] !== 0) {
        index += 1;
        continue;
      }
      await runs.below(LANES);
      const lengths = this.#lengths(item, index, end);
      item.chunks.fill(1, index, index + lengths.length);
      runs.add(this.#run(item, index, lengths, signal));
      index += lengths.length;
    }
  }

  /** Lengths of the chunks of the next run: as many as move in about `RUN_MS`. */
  #lengths(item, first, end) {
    const lengths = [];
    const most = Math.min(this.#runBytes, this.#limits.run_bytes_max);
    let bytes = 0;
    for (let index = first; index < end && item.chunks[index] === 0; index += 1) {
      bytes += item.length(index);
      if (lengths.length && bytes > most) break;
      lengths.push(item.length(index));
    }
    return lengths;
  }

  async #run(item, first, lengths, signal) {
    const digests = item.digests.slice(first * 32, (first + lengths.length) * 32);
    const request = { offer: this.#offer, file: item.entry.id, size: item.size, first, lengths, digests };
    const told = bytes => item.moving.set(first, bytes);
    for (let isRetried = false; ; isRetried = true) {
      const started = performance.now();
      try {
        const bytes = await this.#line.task("fetch", request, told, signal);
        item.moving.delete(first);
        item.have += bytes;
        item.chunks.fill(2, first, first + lengths.length);
        this.#runBytes = (bytes * RUN_MS) / Math.max(1, performance.now() - started);
        return;
      } catch (fault) {
        item.moving.delete(first);
        const mayRetry = fault.kind === "mismatch" || (fault.kind === "space" && await this.#makeRoom());
        if (isRetried || !mayRetry) throw fault;
      }
    }
  }

  async #finish(item, signal) {
    this.#set(item, "checking");
    item.root = await this.#crew.aside("root", { size: item.size, digests: item.digests });
    const told = item.entry.root ?? (await this.#line.call({ op: "root", file: item.entry.id }, null, signal)).header.root;
    if (!item.root || (told && told !== item.root)) {
      item.known = 0;
      throw new Fault("changed", "");
    }
    const isUntouched = item.base?.size === item.size && item.chunks.every(how => how === 3);
    if (!isUntouched) {
      item.blob = await this.#assemble(item);
      item.savedAt = Date.now();
      this.saveAgain(item);
    }
    item.isUntouched = isUntouched;
    await this.#keep(item, "saved");
    this.#set(item, "done");
    this.#tellFetched([item]);
  }

  /** Tells the host what arrived, which it counts by session. */
  async #tellFetched(items) {
    const files = items.map(item => item.entry.id);
    try {
      while (files.length) await this.#line.call({ op: "fetched", files: files.splice(0, FETCHED_AT_ONCE) });
    } catch {
      // Nothing depends on it but the host's own end.
    }
  }

  /** The whole file, from the shelf and from the local copy. */
  async #assemble(item) {
    const runs = await shelf.runsOf(this.#offer, item.entry.id);
    const parts = [];
    for (let index = 0; index < item.count;) {
      const at = index * item.step;
      if (item.chunks[index] === 3) {
        parts.push(item.base.slice(at, at + item.length(index)));
        index += 1;
        continue;
      }
      const run = runs.find(one => holds(one, item, index));
      if (!run) throw new Fault("shelf", "");
      // Up to where the run ends, where the local copy takes over, or where the file is another than it was for the run.
      let end = index + 1;
      while (item.chunks[end] === 2 && holds(run, item, end)) end += 1;
      const start = run.first * item.step;
      parts.push(run.blob.slice(at - start, Math.min(end * item.step, item.size) - start));
      index = end;
    }
    const blob = new Blob(parts, { type: "application/octet-stream" });
    if (blob.size !== item.size) throw new Fault("shelf", "");
    return blob;
  }
}

/** Runs that are under way. The first that fails ends the others. */
class Runs {
  fault = null;
  #open = new Set();

  constructor(ending) {
    this.ending = ending;
  }

  add(run) {
    const settled = run.catch(fault => {
      this.fault ??= fault;
      this.ending.abort();
    }).finally(() => this.#open.delete(settled));
    this.#open.add(settled);
  }

  async below(most) {
    while (this.#open.size >= most && !this.fault) await Promise.race(this.#open);
    if (this.fault) throw this.fault;
  }

  async all() {
    await this.below(1);
  }

  async settled() {
    await Promise.all(this.#open);
  }
}

const digestOf = (item, index) => item.digests.subarray(index * 32, index * 32 + 32);
/** Whether a run has a chunk as it is to be: a chunk that changed lies in an older run as it was. */
const holds = (run, item, index) => run.first <= index && index < run.first + run.count &&
  same(run.digests.subarray((index - run.first) * 32, (index - run.first + 1) * 32), digestOf(item, index));
const baseName = item => item.entry.path.split("/").at(-1);
const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, place) => from + place);
const same = (one, other) => one.length === other.length && one.every((byte, place) => byte === other[place]);
