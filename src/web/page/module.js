// The WebAssembly module: sealing, opening, and the digests of chunks. One instance for each thread.

const NONCE = 24, TAG = 16;

let wasm;

/** Fetches and compiles the module, once for all threads, however often the network fails. */
export async function compile() {
  for (;;) {
    try {
      const answer = await fetch("/_a/haul.wasm");
      if (answer.ok) return await WebAssembly.compile(await answer.arrayBuffer());
    } catch (fault) {
      // What arrived and does not compile would not do so the next time either.
      if (fault instanceof WebAssembly.CompileError) throw fault;
    }
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
}

/** Takes the module into use in this thread. */
export async function load(module) {
  wasm = (await WebAssembly.instantiate(module, {})).exports;
  if (wasm.version() !== 1) throw new Error("the module is of another version; load this page again");
}

/** Memory of the module for as long as `act` runs. */
function within(bytes, act) {
  const at = wasm.alloc(bytes) >>> 0;
  if (at === 0) throw new Error("there is no memory left");
  try {
    return act(at);
  } finally {
    wasm.free(at, bytes);
  }
}

/** The memory as it is now: it may have moved in any call. */
const memory = (at, bytes) => new Uint8Array(wasm.memory.buffer, at, bytes);

/** The 16 bytes that 26 characters stand for, or null. */
function decode(text) {
  const written = new TextEncoder().encode(text);
  return within(written.length + 16, at => {
    memory(at, written.length).set(written);
    const isValid = wasm.decode_base32(at, written.length, at + written.length);
    return isValid ? memory(at + written.length, 16).slice() : null;
  });
}

/** The keys of a link, which mean nothing to this page; null where the room or the key is none. */
export function keysOf(room, key) {
  const [roomBytes, keyBytes] = [decode(room), decode(key)];
  if (!roomBytes || !keyBytes) return null;
  return within(32 + 80, at => {
    memory(at, 16).set(keyBytes);
    memory(at + 16, 16).set(roomBytes);
    wasm.derive(at, at + 16, at + 32);
    return memory(at + 32, 80).slice();
  });
}

/** A sealed call, and the nonce that its answer refers to. */
export function seal(keys, header, payload) {
  const written = new TextEncoder().encode(JSON.stringify(header));
  const textBytes = 4 + written.length + payload.length;
  const room = NONCE + textBytes + TAG;
  return within(keys.length + room, at => {
    memory(at, keys.length).set(keys);
    const buffer = memory(at + keys.length, room);
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
    buffer.set(nonce);
    new DataView(buffer.buffer, buffer.byteOffset).setUint32(NONCE, written.length, true);
    buffer.set(written, NONCE + 4);
    buffer.set(payload, NONCE + 4 + written.length);
    const sealed = wasm.seal_call(at, at + keys.length, textBytes) >>> 0;
    if (sealed === 0) throw new Error("the call could not be sealed");
    return { nonce, body: memory(at + keys.length, sealed).slice() };
  });
}

/** Header and payload of an answer, or null where it is not genuine. */
export function open(keys, nonce, sealed) {
  return within(keys.length + NONCE + sealed.length, at => {
    const [nonceAt, bufferAt] = [at + keys.length, at + keys.length + NONCE];
    memory(at, keys.length).set(keys);
    memory(nonceAt, NONCE).set(nonce);
    memory(bufferAt, sealed.length).set(sealed);
    const opened = wasm.open_answer(at, nonceAt, bufferAt, sealed.length) >>> 0;
    if (opened < 5) return null;
    const text = memory(bufferAt + NONCE, opened - 1);
    const headerBytes = new DataView(text.buffer, text.byteOffset).getUint32(0, true);
    if (headerBytes > text.length - 4) return null;
    const header = JSON.parse(new TextDecoder().decode(text.slice(4, 4 + headerBytes)));
    return { header, payload: text.slice(4 + headerBytes) };
  });
}

/** The digest of one chunk of a file of `size` bytes; null where a chunk of that place has another length. */
export function chunkDigest(size, index, bytes) {
  return within(bytes.length + 32, at => {
    memory(at, bytes.length).set(bytes);
    const isChunk = wasm.chunk_digest(size, index, at, bytes.length, at + bytes.length);
    return isChunk ? memory(at + bytes.length, 32).slice() : null;
  });
}

/** The root of a file, in hexadecimal, from the digests of all its chunks; null where there are too few or too many. */
export function root(size, digests) {
  return within(digests.length + 32, at => {
    memory(at, digests.length).set(digests);
    const isWhole = wasm.root(size, at, digests.length / 32, at + digests.length);
    if (!isWhole) return null;
    return Array.from(memory(at + digests.length, 32), byte => byte.toString(16).padStart(2, "0")).join("");
  });
}

/** Length of the chunks of a file; 0 where no file is so long. */
export const chunkLength = size => wasm.chunk_length(size);
/** How many they are. */
export const chunkCount = size => wasm.chunk_count(size) >>> 0;
