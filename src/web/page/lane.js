// A worker that does one thing at a time for the page: a call, a fetch of chunks, or hashing and sending of them.
import { Fault, call } from "/_a/call.js";
import { chunkCount, chunkDigest, chunkLength, keysOf, load, root } from "/_a/module.js";
import { putRun } from "/_a/shelf.js";

/** So much is sent before the browser is made to collect, by a block of that size. */
const COLLECT_BYTES = 4 * 1024 * 1024, BLOCK_BYTES = 64 * 1024 * 1024;

let link, uncollected = 0;
const underWay = new Map();

/** What the page may ask for. Each gets the request, what to tell progress to, and a signal that ends it. */
const tasks = {
  /** Takes the link: every later call is sealed with its keys. */
  async enter({ module, room, key }) {
    await load(module);
    const keys = keysOf(room, key);
    if (!keys) throw new Fault("key", "the key is not complete");
    link = { room, keys };
  },

  /** Any call. */
  async call({ origin, header, payload }, told, signal) {
    const answer = await call({ ...link, origin }, header, payload, told, signal);
    return { header: answer.header, payload: answer.payload };
  },

  /** Fetches a run of chunks, checks each one, and keeps them. Digests are those of the run. */
  async fetch({ origin, session, offer, file, size, first, lengths, digests }, told, signal) {
    const header = { op: "chunks", session, file, first, count: lengths.length };
    const answer = await call({ ...link, origin }, header, null, told, signal);
    const { payload } = answer;
    const bytes = lengths.reduce((sum, length) => sum + length, 0);
    const isRun = answer.header.file === file && answer.header.first === first && payload.length === bytes;
    if (!isRun) throw new Fault("net", "the host answered with other chunks");
    let at = 0;
    lengths.forEach((length, place) => {
      const digest = chunkDigest(size, first + place, payload.subarray(at, at + length));
      if (!same(digest, digests.subarray(place * 32, place * 32 + 32))) throw new Fault("mismatch", "a chunk differs");
      at += length;
    });
    try {
      await putRun(offer, file, first, { first, count: lengths.length, digests, blob: new Blob([payload]) });
    } catch (error) {
      throw new Fault(error?.name === "QuotaExceededError" ? "space" : "shelf", String(error?.message ?? error));
    }
    return bytes;
  },

  /** Digests of chunks of a local file: null for one that it is too short for. */
  async hash({ blob, size, first, lengths, step }, told, signal) {
    const digests = [];
    for (const [place, length] of lengths.entries()) {
      if (signal.aborted) throw new Fault("stopped", "it was stopped");
      const at = (first + place) * step;
      const bytes = await read(blob, at, at + length);
      digests.push(bytes.length === length ? chunkDigest(size, first + place, bytes) : null);
      told(at + length);
    }
    return digests;
  },

  /** Sends chunks of local files: says which files cannot be read any more, and which chunks are not what was told. */
  async put({ origin, session, batch, parts }, told, signal) {
    const lost = new Set(), chunks = [], bytes = [];
    for (const { file, index, blob, from, to } of parts) {
      const part = await read(blob, from, to).catch(() => null);
      if (part?.length !== to - from) {
        lost.add(file);
        continue;
      }
      chunks.push([file, index]);
      bytes.push(part);
    }
    if (!chunks.length) return { lost: [...lost], differ: [] };
    const payload = bytes.length === 1 ? bytes[0] : new Uint8Array(await new Blob(bytes).arrayBuffer());
    const { header } = await call({ ...link, origin }, { op: "put", session, batch, chunks }, payload, told, signal);
    collect(payload.length);
    return { lost: [...lost], differ: header.differ ?? [] };
  },

  /** Length and number of the chunks of a file; no length where no file is so long. */
  async geometry({ size }) {
    return { length: chunkLength(size), count: chunkCount(size) };
  },

  /** The root of a file, from all its digests. */
  async root({ size, digests }) {
    return root(size, digests);
  },
};

/**
 * A browser keeps what it sent until it collects, and does so by what scripts allocated, which is less: hundreds of megabytes
 * pile up. A block that nothing touches costs no memory, and makes it collect.
 */
function collect(bytes) {
  uncollected += bytes;
  if (uncollected < COLLECT_BYTES) return;
  uncollected = 0;
  try {
    new ArrayBuffer(BLOCK_BYTES);
  } catch {
    // There is no room for it: the browser collects for that reason.
  }
}

async function read(blob, from, to) {
  try {
    return new Uint8Array(await blob.slice(from, to).arrayBuffer());
  } catch (error) {
    throw new Fault("unreadable", String(error?.message ?? error));
  }
}

const same = (one, other) => one !== null && one.length === other.length && one.every((byte, place) => byte === other[place]);

self.onmessage = async ({ data: { id, task, request, stop } }) => {
  if (stop) return underWay.get(id)?.abort();
  const stopper = new AbortController();
  underWay.set(id, stopper);
  const told = bytes => self.postMessage({ id, told: bytes });
  try {
    self.postMessage({ id, done: await tasks[task](request, told, stopper.signal) });
  } catch (error) {
    self.postMessage({ id, fault: { kind: error?.kind ?? "page", text: String(error?.message ?? error) } });
  } finally {
    underWay.delete(id);
  }
};
