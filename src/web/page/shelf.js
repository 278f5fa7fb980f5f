// Chunks that were fetched and checked, kept in IndexedDB across reloads and ends of the browser.
//
// A run is some chunks of a file that lie together: a blob, with the digests that its chunks had when they were checked.

const NAME = "haul", VERSION = 1;
/** Offers that nobody came back to for so long are forgotten. */
const FORGET_MS = 7 * 24 * 3600 * 1000;
/** Saved files are kept for so long: no page learns whether the browser's own download came to its end. */
const SAVED_MS = 24 * 3600 * 1000;

let opened;

function shelf() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("runs");
      request.result.createObjectStore("files");
      request.result.createObjectStore("batches");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Runs `act` on a store, and waits until what it did is kept. */
async function on(name, mode, act) {
  const database = await shelf();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(name, mode);
    const request = act(transaction.objectStore(name));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error ?? request?.error ?? new Error("it was not kept"));
  });
}

const below = key => IDBKeyRange.bound(key, [...key, []]);

/** Keeps a run. */
export const putRun = (offer, file, first, run) => on("runs", "readwrite", store => store.put(run, [offer, file, first]));

/** Every run of a file, in order: `{first, count, digests, blob}`. */
export async function runsOf(offer, file) {
  return (await on("runs", "readonly", store => store.getAll(below([offer, file])))) ?? [];
}

/** Takes away what is kept of a file. */
export async function dropFile(offer, file) {
  await on("runs", "readwrite", store => store.delete(below([offer, file])));
  await on("files", "readwrite", store => store.delete([offer, file]));
}

/** Takes away one run. */
export const dropRun = (offer, file, first) => on("runs", "readwrite", store => store.delete([offer, file, first]));

/** Keeps how far a file came: `{file, state, touched}`. */
export const putFile = (offer, file, state) =>
  on("files", "readwrite", store => store.put({ offer, file, state, touched: Date.now() }, [offer, file]));

/** What is known of the files of an offer. */
export async function filesOf(offer) {
  return (await on("files", "readonly", store => store.getAll(below([offer])))) ?? [];
}

/** Forgets files that were saved at least so long ago, and those that nobody came back to. Says how many. */
export async function tidy(savedMs = SAVED_MS) {
  const isOver = one => Date.now() - one.touched > (one.state === "saved" ? savedMs : FORGET_MS);
  const over = ((await on("files", "readonly", store => store.getAll())) ?? []).filter(isOver);
  for (const one of over) await dropFile(one.offer, one.file);
  return over.length;
}

/** What was being sent when the page was left, so that it can be asked for again: `{id, files, names, count, size, held}`. */
export const putBatch = (room, batch) =>
  on("batches", "readwrite", store => (batch ? store.put(batch, room) : store.delete(room)));
export const batchOf = room => on("batches", "readonly", store => store.get(room));
