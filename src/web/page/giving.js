// Files that go to the computer. It asks for what it lacks; this hashes and sends what is asked for.
import { LANES } from "/_a/crew.js";
import { FINAL } from "/_a/line.js";
import * as shelf from "/_a/shelf.js";

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/** Chunks that one worker hashes at a time, and then tells of. */
const HASHED_AT_ONCE = 8;
/** Small files go together, up to so many bytes: a call of its own for each would take longer than their bytes. */
const TOGETHER_BYTES = 256 * 1024;
/** A page that did not ask for so long may have been taken for gone, which ends its batch. */
const GONE_MS = 15000;
/** It asks again after so long, however slowly it reads and sends. */
const ASK_MS = 5000;
/** A chunk that was so often another than its digest had said belongs to a file that never rests. */
const DIFFERS_MAX = 2;
/** Offers of digests and chunks under way at once. */
const AT_ONCE = 2 * LANES;

/** A file that was picked. */
class Item {
  root = null;
  unreadable = false;
  /** Bytes that the host took from here. */
  sent = 0;
  moving = new Map();
  /** How often each chunk was another than its digest had said. */
  differs = new Map();

  constructor(file, path) {
    [this.file, this.path, this.size] = [file, path, file.size];
    this.mtime = Math.floor(file.lastModified / 1000);
  }

  get moved() {
    let sum = this.sent;
    for (const bytes of this.moving.values()) sum += bytes;
    return Math.min(sum, this.size);
  }
}

/** Files that were picked together. Its `state` is one of waiting, asking, sending, paused, complete, refused, failed. */
class Batch {
  state = "waiting";
  text = "";
  held = 0;
  /** Bytes that the host took since it last told what it holds. */
  since = 0;
  before = null;

  constructor(picked) {
    this.items = picked.map(({ file, path }) => new Item(file, path));
    this.size = this.items.reduce((sum, item) => sum + item.size, 0);
    this.files = this.items.map(({ path, size, mtime }) => `${path}\0${size}\0${mtime}`).join("\n");
    this.id = newId();
  }

  get moved() {
    let sum = this.held + this.since;
    for (const item of this.items) for (const bytes of item.moving.values()) sum += bytes;
    return Math.min(sum, this.size);
  }

  get isActive() {
    return ["waiting", "asking", "sending"].includes(this.state);
  }
}

export class Giving {
  batches = [];
  #crew;
  #line;
  #limits;
  #room;
  #told;
  #turn = Promise.resolve();

  /** `told` hears of every change of a batch. */
  constructor(crew, line, room, told) {
    [this.#crew, this.#line, this.#room, this.#told] = [crew, line, room, told];
  }

  enter(limits) {
    this.#limits = limits;
  }

  /** What was under way when the page was left, or nothing. */
  unfinished() {
    return shelf.batchOf(this.#room).catch(() => undefined);
  }

  forget() {
    return shelf.putBatch(this.#room, null).catch(() => {});
  }

  /** Sends files. `picked` is `{file, path}` each. */
  async give(picked) {
    const batch = new Batch(picked);
    // The host still knows the same files by the name that they had.
    const before = await this.unfinished();
    if (before?.files === batch.files) batch.id = before.id;
    this.batches.push(batch);
    this.resume(batch);
    return batch;
  }

  pause(batch) {
    batch.stopper?.abort();
    this.#set(batch, "paused");
  }

  /** Goes on. One batch after the other. */
  resume(batch) {
    const stopper = (batch.stopper = new AbortController());
    this.#set(batch, "waiting");
    this.#turn = this.#turn.then(async () => {
      if (stopper.signal.aborted) return;
      try {
        await this.#drive(batch, stopper.signal);
      } catch (fault) {
        const state = FINAL.includes(fault.kind) ? "paused" : "failed";
        if (!stopper.signal.aborted) this.#set(batch, state, fault.message);
      } finally {
        stopper.abort();
        for (const item of batch.items) item.moving.clear();
        this.#told(batch);
      }
    });
  }

  /** The host keeps what it has for a later time. */
  async cancel(batch) {
    batch.stopper?.abort();
    this.batches = this.batches.filter(other => other !== batch);
    this.forget();
    await this.#line.call({ op: "cancel", batch: batch.id }).catch(() => {});
  }

  #set(batch, state, text = "") {
    [batch.state, batch.text] = [state, text];
    this.#told(batch);
  }

  async #drive(batch, signal) {
    for (const item of batch.items) {
      if (item.geometry) continue;
      item.geometry = await this.#crew.aside("geometry", { size: item.size });
      item.digests = new Uint8Array(item.geometry.count * 32);
      item.known = new Uint8Array(item.geometry.count);
    }
    await this.#offer(batch, signal);
    const work = new Work(signal);
    let heardAt = 0;
    while (true) {
      work.asks();
      const answer = await this.#wants(batch, signal);
      if (work.fault) throw work.fault;
      const wasGone = Date.now() - heardAt > GONE_MS;
      heardAt = Date.now();
      if (answer?.state === "failed" && wasGone) {
        batch.id = newId();
        await this.#offer(batch, signal);
        continue;
      }
      if (!answer) continue;
      if (["complete", "refused", "failed"].includes(answer.state)) {
        await work.settled();
        return this.#over(batch, answer, signal);
      }
      batch.before ??= answer.held_bytes;
      [batch.held, batch.since] = [answer.held_bytes, 0];
      this.#set(batch, answer.state === "asking" ? "asking" : "sending", answer.text ?? "");
      const isNew = this.#take(batch, answer, work, signal);
      if (isNew) this.#remember(batch);
      // What is under way would only be listed again.
      await Promise.race([work.below(isNew ? AT_ONCE : Math.max(1, work.size)), wait(ASK_MS)]);
    }
  }

  async #offer(batch, signal) {
    const listed = batch.items.map(({ path, size, mtime }) => ({ path, size, mtime }));
    const most = this.#limits.offer_files_max;
    for (let from = 0; from === 0 || from < listed.length; from += most) {
      const more = from + most < listed.length;
      await this.#line.call({ op: "offer", batch: batch.id, from, files: listed.slice(from, from + most), more }, null, signal);
    }
  }

  /** What the host lacks; nothing where it had forgotten the batch. */
  async #wants(batch, signal) {
    try {
      return (await this.#line.call({ op: "wants", batch: batch.id }, null, signal)).header;
    } catch (fault) {
      if (fault.kind !== "unknown") throw fault;
      // It was started again, and knows the files by what they are.
      await this.#offer(batch, signal);
      return null;
    }
  }

  /** Starts what is asked for and not under way. Whether there was any. */
  #take(batch, answer, work, signal) {
    const runs = [];
    for (const [file, first, count] of answer.digests ?? []) {
      // Cut where it is always cut: what is left of a range that was told in part has the names that it had.
      for (let from = first, end; from < first + count; from = end) {
        end = Math.min(first + count, (Math.floor(from / HASHED_AT_ONCE) + 1) * HASHED_AT_ONCE);
        if (!work.knows(`d${file}:${from}`)) runs.push([file, from, end - from]);
      }
    }
    const chunks = (answer.chunks ?? []).filter(([file, index]) => !work.knows(`c${file}:${index}`));
    const bytesOf = ([file, , count = 1]) => Math.min(batch.items[file].size, count * batch.items[file].geometry.length);
    for (const group of groups(runs, bytesOf)) {
      work.add(group.map(([file, first]) => `d${file}:${first}`), () => this.#hash(batch, group, signal));
    }
    for (const group of groups(chunks, bytesOf)) {
      work.add(group.map(([file, index]) => `c${file}:${index}`), () => this.#put(batch, group, signal));
    }
    return runs.length + chunks.length > 0;
  }

  /** Hashes chunks, `[file, first, count]` each, and tells their digests. */
  async #hash(batch, runs, signal) {
    const hashed = runs.map(([file, first, count]) => this.#digests(batch.items[file], first, count, signal));
    const found = await Promise.all(hashed);
    const told = runs.filter(([file], place) => !batch.items[file].unreadable && found[place].every(Boolean));
    const lost = new Set(runs.filter(run => !told.includes(run)).map(([file]) => file));
    for (const file of lost) await this.#unreadable(batch, file, signal);
    if (!told.length) return;
    const payload = new Uint8Array(told.reduce((sum, [, , count]) => sum + count, 0) * 32);
    let at = 0;
    for (const run of told) {
      const [file, first, count] = run, item = batch.items[file], start = at;
      for (const digest of found[runs.indexOf(run)]) {
        payload.set(digest, at);
        at += 32;
      }
      item.digests.set(payload.subarray(start, at), first * 32);
      item.known.fill(1, first, first + count);
    }
    await this.#ask({ op: "hashed", batch: batch.id, digests: told }, payload, signal);
  }

  async #digests(item, first, count, signal) {
    const step = item.geometry.length;
    const lengths = Array.from({ length: count }, (_, place) => Math.min(step, item.size - (first + place) * step));
    const request = { blob: item.file, size: item.size, first, lengths, step };
    try {
      return await this.#crew.do("hash", request, null, signal);
    } catch (fault) {
      if (fault.kind !== "unreadable") throw fault;
      item.unreadable = true;
      return [null];
    }
  }

  /** Sends chunks, `[file, index]` each. */
  async #put(batch, chunks, signal) {
    const parts = chunks.map(([file, index]) => {
      const { file: blob, size, geometry: { length } } = batch.items[file];
      return { file, index, blob, from: index * length, to: Math.min((index + 1) * length, size) };
    });
    const { file, index, from, to } = parts[0], { moving } = batch.items[file];
    const told = bytes => parts.length === 1 && moving.set(index, Math.min(bytes, to - from));
    try {
      const { lost, differ } = await this.#line.taskOnce("put", { batch: batch.id, parts }, told, signal);
      for (const part of parts) {
        const isTaken = !lost.includes(part.file) && !differ.some(([file, index]) => file === part.file && index === part.index);
        if (!isTaken) continue;
        batch.items[part.file].sent += part.to - part.from;
        batch.since += part.to - part.from;
      }
      for (const file of lost) await this.#unreadable(batch, file, signal);
      // A file that changes while it is sent has other digests than those that were told.
      for (const [file, index] of differ) await this.#differs(batch, file, index, signal);
    } catch (fault) {
      // What did not arrive is asked for again, if the host still wants it.
      if (!["net", "busy", "session", "gone", "asked", "unknown"].includes(fault.kind) || this.#line.over) throw fault;
    } finally {
      moving.delete(index);
    }
  }

  /** Tells the digest anew, for as long as the file may be about to come to rest. */
  async #differs(batch, file, index, signal) {
    const { differs } = batch.items[file];
    const times = (differs.get(index) ?? 0) + 1;
    differs.set(index, times);
    await (times > DIFFERS_MAX ? this.#unreadable(batch, file, signal) : this.#hash(batch, [[file, index, 1]], signal));
  }

  async #unreadable(batch, file, signal) {
    batch.items[file].unreadable = true;
    await this.#ask({ op: "unreadable", batch: batch.id, file }, null, signal);
  }

  /**
   * A call about a batch that the host may have forgotten, which `wants` finds out. There are only as many at once as there
   * are workers: the host turns away what is more.
   */
  async #ask(header, payload, signal) {
    try {
      await this.#line.task("call", { header, payload }, null, signal);
    } catch (fault) {
      if (fault.kind !== "unknown") throw fault;
    }
  }

  async #over(batch, answer, signal) {
    if (answer.state === "complete") {
      [batch.held, batch.since] = [batch.size, 0];
      for (const item of batch.items) {
        await this.#learn(item, signal);
        if (item.unreadable) continue;
        item.root = await this.#crew.aside("root", { size: item.size, digests: item.digests });
      }
    }
    await this.forget();
    this.#set(batch, answer.state, answer.text ?? "");
  }

  /** Hashes what the host did not ask for, because it had it from before: the receipt is about the file that lies here. */
  async #learn(item, signal) {
    for (let index = 0; index < item.geometry.count && !item.unreadable; index += 1) {
      if (item.known[index]) continue;
      const [digest] = await this.#digests(item, index, 1, signal);
      if (digest) item.digests.set(digest, index * 32);
      else item.unreadable = true;
    }
  }

  /** So that the page can ask for the same files after it was left. */
  #remember(batch) {
    const note = {
      id: batch.id,
      files: batch.files,
      names: batch.items.slice(0, 3).map(item => item.path),
      count: batch.items.length,
      size: batch.size,
      held: batch.moved,
    };
    return shelf.putBatch(this.#room, note).catch(() => {});
  }
}

/** What is under way for a batch, each thing once. */
class Work {
  fault = null;
  #open = new Set();
  #names = new Set();
  /** What was done since the host was asked last: it may have been listed just before it came. */
  #late = new Set();

  constructor(signal) {
    this.signal = signal;
  }

  get size() {
    return this.#open.size;
  }

  /** The host is asked what it lacks. */
  asks() {
    this.#late.clear();
  }

  knows(name) {
    return this.#names.has(name) || this.#late.has(name);
  }

  /** Does several things in one go. */
  add(names, act) {
    for (const name of names) this.#names.add(name);
    const settled = act().catch(fault => {
      this.fault ??= fault;
    }).finally(() => {
      this.#open.delete(settled);
      for (const name of names) {
        this.#names.delete(name);
        this.#late.add(name);
      }
    });
    this.#open.add(settled);
  }

  async below(most) {
    while (this.#open.size >= most && !this.fault) await Promise.race(this.#open);
    if (this.fault) throw this.fault;
  }

  async settled() {
    await Promise.all(this.#open);
  }
}

/** A list in pieces that are done in one go: small things together, large ones alone. */
function groups(list, bytesOf) {
  const all = [];
  let bytes = Infinity;
  for (const one of list) {
    bytes += bytesOf(one);
    if (bytes > TOGETHER_BYTES) {
      all.push([]);
      bytes = bytesOf(one);
    }
    all.at(-1).push(one);
  }
  return all;
}

const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

/** 128 random bits in base32. */
function newId() {
  let text = "", bits = 0, value = 0;
  for (const byte of crypto.getRandomValues(new Uint8Array(16))) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += BASE32[(value >> (bits - 5)) & 31];
    value &= (1 << bits) - 1;
  }
  return text + BASE32[(value << (5 - bits)) & 31];
}
