// The page: reads the link, lists what is offered, and lets files move either way.
import * as awake from "/_a/awake.js";
import { Crew } from "/_a/crew.js";
import { Fetching } from "/_a/fetching.js";
import { browserName, count, part, printable, size, time } from "/_a/format.js";
import { Giving } from "/_a/giving.js";
import { Line } from "/_a/line.js";
import { Meter, Row, element, follow, speak } from "/_a/view.js";

/** Lines of a list that are shown at first, and with each touch of “more”. */
const ROWS = 100;
/** Files of a batch that have a line of their own. */
const BATCH_ROWS = 20;

const room = location.pathname.slice(1).split("/")[0];
const crew = new Crew();
const line = new Line(crew, room, browserName(), showStatus);
const fetching = new Fetching(crew, line, item => changed.add(item));
const giving = new Giving(crew, line, room, batch => changed.add(batch));
const meter = new Meter();
/** What changed since it was last drawn. */
const changed = new Set();
const rows = new Map();
/** What the bar is about. */
const counted = new Set();
let listed = 0, isHere = false, repaired = null, folder = "";

/** Takes the key out of the address, where others would see it, and keeps it for this tab. */
function takeKey() {
  const kept = `haul:${room}`;
  const key = location.hash.slice(1).split(",")[0];
  if (key) {
    history.replaceState(null, "", location.pathname);
    // A tab that may keep nothing loses the key with a reload, and says so.
    try {
      sessionStorage.setItem(kept, key);
    } catch {}
    return key;
  }
  try {
    return sessionStorage.getItem(kept);
  } catch {
    return null;
  }
}

/** A link that is scanned again into this tab changes the fragment alone. */
addEventListener("hashchange", () => {
  if (takeKey()) location.reload();
});

async function start() {
  const key = takeKey();
  element("trouble").hidden = true;
  try {
    if (!key) throw { kind: "key" };
    await crew.enter(room, key);
    const host = await line.hello();
    isHere = true;
    element("safety").textContent = safety(host);
    if (host.tls) element("ways-how").textContent = "not checked";
    element("foot").hidden = false;
    element("give").hidden = !host.upload;
    giving.enter(host.limits);
    if (host.upload) await showUnfinished();
    if (host.download) await list(host);
    showStatus();
  } catch (fault) {
    trouble(fault);
  }
}

/** What ends everything, with what to do. */
function trouble(fault) {
  const texts = {
    key: ["The link is not complete", "The part after # is missing or wrong. Scan the code again, or copy the whole link."],
    gone: ["This offer is over", "Nothing is offered at this link any more. Ask for a new one; files that you saved stay with you."],
    declined: ["You were turned away", printable(fault.message || "The person at the computer declined.")],
    version: ["This page is out of date", "The computer runs another version. Load this page again."],
  };
  const [title, text] = texts[fault.kind] ??
    ["This does not work here", printable(fault.message ?? String(fault))];
  const card = element("trouble"), again = card.querySelector("button");
  card.querySelector("h2").textContent = title;
  card.querySelector("p").textContent = text;
  card.hidden = false;
  // Only a new link helps where the key is wrong.
  again.hidden = fault.kind === "key";
  again.onclick = () => location.reload();
  card.focus();
  setStatus("bad", title);
}

const safety = ({ tls, certificate }) => tls
  ? "The connection is encrypted, and on top of it every name and every chunk, with the key in the link. Who listens on this " +
    "network learns sizes and times, and nothing else. Nobody vouches for the certificate that your browser warned of: who can " +
    "alter the network's traffic is kept out only if its SHA-256 fingerprint, as your browser shows it, is the one on the " +
    `computer's screen: ${certificate.words}, ${certificate.sha256}.`
  : "Names and contents are encrypted with the key in the link, and every chunk is checked before it is kept. Who listens on " +
    "this network learns sizes and times, and nothing else. Who can alter its traffic could alter this page itself, and " +
    "nothing on it would protect you: on a network that you do not trust, have the computer offer it with --tls.";

// The listing

async function list(host) {
  const entries = [];
  let answer, from = 0;
  do {
    answer = (await line.call({ op: "list", from })).header;
    entries.push(...answer.entries);
    from = answer.next;
  } while (from !== null);
  await fetching.enter(answer.id, host.limits, entries);
  const top = entries[0]?.path.split("/")[0] + "/";
  if (entries.every(entry => (entry.path + "/").startsWith(top))) folder = entries.length > 1 ? top : "";
  const others = entries.filter(entry => entry.kind === "link").length;
  const total = fetching.items.reduce((sum, item) => sum + item.size, 0);
  element("fetch-title").textContent = host.title ? printable(host.title) : "Files for you";
  element("fetch-sum").textContent = `${count(fetching.items.length, "file")}, ${size(total)}` +
    (others ? `; ${count(others, "link")}, which neither this page nor the zip brings` : "");
  element("ways").hidden = element("repair").hidden = fetching.items.length === 0;
  const which = element("repair-which");
  const options = document.createDocumentFragment();
  // One by one: a function takes only so many arguments, and there may be more files.
  fetching.items.forEach((item, place) => options.append(new Option(printable(shownPath(item)), place)));
  which.replaceChildren(options);
  element("fetch").hidden = false;
  showMore();
  draw();
}

/** A path as it is shown: a folder that holds everything is named once, above. */
const shownPath = item => (item.entry.path.startsWith(folder) ? item.entry.path.slice(folder.length) : item.entry.path);

function showMore() {
  const end = Math.min(listed + ROWS, fetching.items.length);
  for (; listed < end; listed += 1) {
    const item = fetching.items[listed];
    rows.set(item, new Row(element("files"), shownPath(item)));
    changed.add(item);
    element("natives").append(native(shownPath(item), item.size, { file: item.entry.id }));
  }
  const left = fetching.items.length - end;
  element("more").hidden = left === 0;
  element("more").textContent = `Show ${Math.min(left, ROWS)} more of ${count(left, "file")}`;
}

/** A way to the browser's own download. The address is asked for when it is wanted. */
function native(label, bytes, which) {
  const item = document.createElement("li"), link = document.createElement("a");
  const [name, note] = [document.createElement("bdi"), document.createElement("span")];
  [name.textContent, note.textContent, note.className] = [printable(label), size(bytes), "quiet"];
  link.href = "#";
  link.append(name, note);
  link.onclick = event => {
    event.preventDefault();
    line.call({ op: "native", ...which }).then(({ header }) => follow(line.origin + header.url, ""), complain);
  };
  item.append(link);
  return item;
}

/** Something that was asked for alone does not work; the rest goes on. */
function complain(fault) {
  speak(printable(fault.message));
  setStatus("bad", printable(fault.message));
}

// What is shown of each file

function drawFetched(item, row) {
  const percent = Math.floor((item.moved / Math.max(1, item.size)) * 100);
  const done = item.moved / Math.max(1, item.size);
  const how = {
    idle: () => [
      { note: item.isKept ? `${size(item.size)}, kept here since it was saved` : size(item.size) },
      ["Get", () => get(item), fetching.items.length === 1],
      ...(item.isKept ? [["Clear", () => fetching.cancel(item)]] : []),
    ],
    waiting: () => [{ note: `${size(item.size)}, waiting`, done }, ["Pause", () => fetching.pause(item)]],
    fetching: () => [
      { note: `${part(item.moved, item.size)} · ${percent} %`, done },
      ["Pause", () => fetching.pause(item)],
    ],
    checking: () => [{ note: `${size(item.size)}, putting it together`, done: 1 }],
    paused: () => [
      { note: `Paused · ${percent} % is safe here`, done, kind: "warn" },
      ["Continue", () => get(item), true], ["Drop", () => fetching.cancel(item)],
    ],
    full: () => [
      { note: `No space left for this page; ${percent} % is safe here. Free some and continue, or use the browser’s own ` +
        "download, below.", done, kind: "bad" },
      ["Continue", () => get(item), true], ["Drop", () => fetching.cancel(item)],
    ],
    done: () => [
      { note: `✓ ${item.isUntouched ? "Verified, the same as the original" : "Verified"} · ${size(item.size)}`,
        kind: "good", root: item.root },
      ...(item.blob ? [["Save again", () => fetching.saveAgain(item)], ["Clear", () => fetching.clear(item)]] : []),
    ],
    failed: () => [{ note: printable(item.text), kind: "bad" }, ["Try again", () => get(item), true]],
  };
  const [shown, ...actions] = how[item.state]();
  row.show(shown);
  row.actions(...actions);
  if (item.state !== row.state) announce(row, item.state);
}

function announce(row, state) {
  const texts = { done: "saved and verified", full: "stopped, there is no room", failed: "failed" };
  if (row.state !== undefined && texts[state]) speak(`${row.name}: ${texts[state]}`);
  row.state = state;
}

function get(item, base) {
  meter.reset();
  fetching.want(item, base);
}

function drawGiven(batch) {
  let shown = rows.get(batch);
  if (!shown) {
    const title = batch.items.length === 1 ? batch.items[0].path : count(batch.items.length, "file");
    shown = { head: new Row(element("uploads"), title), items: new Map() };
    if (batch.items.length > 1) {
      for (const item of batch.items.slice(0, BATCH_ROWS)) shown.items.set(item, new Row(element("uploads"), item.path));
    }
    rows.set(batch, shown);
  }
  const done = batch.moved / Math.max(1, batch.size), percent = Math.floor(done * 100);
  const already = batch.before ? `; ${size(batch.before)} were there before` : "";
  const root = isWhole(batch) && batch.items.length === 1 ? batch.items[0].root : null;
  const others = batch.items.length > 1 ? "; the others are verified" : "";
  const how = {
    waiting: () => [{ note: `${size(batch.size)}, waiting`, done }, ["Pause", () => giving.pause(batch)]],
    asking: () => [{ note: "Waiting for a yes at the computer", done: 0 }, ["Cancel", () => dropBatch(batch)]],
    sending: () => [
      { note: `${part(batch.moved, batch.size)} · ${percent} %${already}`, done }, ["Pause", () => giving.pause(batch)],
    ],
    paused: () => [
      { note: `Paused · ${percent} % is safe at the computer`, done, kind: "warn" },
      ["Continue", () => giving.resume(batch), true], ["Drop", () => dropBatch(batch)],
    ],
    complete: () => [
      isWhole(batch) ? { note: `✓ Verified · ${size(batch.size)}`, kind: "good", root }
        : { note: printable(batch.text) + others, kind: "bad" },
      ["Clear", () => dropBatch(batch)],
    ],
    refused: () => [{ note: printable(batch.text || "It was refused at the computer."), kind: "bad" }, ["Clear", () => dropBatch(batch)]],
    failed: () => [
      { note: printable(batch.text || "It failed."), kind: "bad" }, ["Try again", () => giving.resume(batch), true],
      ["Clear", () => dropBatch(batch)],
    ],
  };
  const [head, ...actions] = how[batch.state]();
  shown.head.show(head);
  shown.head.actions(...actions);
  for (const [item, row] of shown.items) drawGivenFile(batch, item, row);
  if (batch.state !== shown.state) {
    const told = isWhole(batch) ? "arrived and verified" : printable(batch.text) + others;
    speak(batch.state === "complete" ? `${shown.head.name}: ${told}` : "");
  }
  shown.state = batch.state;
}

/** Whether every file of a batch arrived. The host tells how many did not, and not which. */
const isWhole = batch => batch.state === "complete" && !batch.text;

function drawGivenFile(batch, item, row) {
  if (item.unreadable) row.show({ note: "The browser cannot read it any more.", kind: "bad" });
  else if (isWhole(batch)) row.show({ note: `✓ ${size(item.size)}`, kind: "good", root: item.root });
  else if (item.moving.size) row.show({ note: `${part(item.moved, item.size)} sent`, done: item.moved / Math.max(1, item.size) });
  else row.show({ note: size(item.size) });
}

function dropBatch(batch) {
  const shown = rows.get(batch);
  rows.delete(batch);
  shown?.head.remove();
  for (const row of shown?.items.values() ?? []) row.remove();
  if (["complete", "refused"].includes(batch.state)) giving.batches = giving.batches.filter(other => other !== batch);
  else giving.cancel(batch);
  changed.delete(batch);
  counted.delete(batch);
}

// The bar, the status, and drawing

function draw() {
  for (const one of [...changed]) {
    const row = rows.get(one);
    if (one.items) drawGiven(one);
    else if (row) drawFetched(one, row);
    if (one === repaired?.item) drawFetched(one, repaired.row);
    changed.delete(one);
  }
  const moving = movingNow();
  // They move without telling.
  for (const one of moving) changed.add(one);
  drawBar(moving);
  awake.need(moving.length > 0);
  const { items } = fetching;
  element("fetch-all").hidden = items.length < 2 || items.every(item => item.state === "done");
  const isBegun = items.some(item => ["paused", "full", "done"].includes(item.state));
  element("fetch-all").textContent = isBegun ? "Get the rest" : "Get all";
  element("fetch-all").disabled = items.every(item => item.isActive || item.state === "done");
}

function drawBar(moving) {
  const bar = element("bar");
  bar.hidden = moving.length === 0;
  if (bar.hidden) {
    meter.reset();
    return counted.clear();
  }
  // What has arrived belongs to the whole for as long as something else moves.
  for (const one of moving) counted.add(one);
  const sum = of => [...counted].reduce((total, one) => total + of(one), 0);
  const [all, moved] = [sum(one => one.size), sum(one => (one.state === "done" ? one.size : one.moved))];
  const rate = line.retryAt ? 0 : meter.rate(moved);
  // It stays on one line.
  const left = rate > 0 && moved < all ? ` · ${`${time((all - moved) / rate)} left`.replaceAll(" ", "\u00a0")}` : "";
  element("bar-progress").value = all ? moved / all : 0;
  element("bar-much").textContent = part(moved, all);
  element("bar-rate").textContent = `${size(Math.round(rate))}/s${left}`;
}

function setStatus(kind, text, aside = "") {
  const status = element("status");
  const shown = `${kind}|${text}|${aside}`;
  if (status.dataset.shown === shown) return;
  Object.assign(status.dataset, { kind, shown });
  // Who listens hears that it is tried again, and not every second of it.
  if (status.dataset.text !== text) {
    const spoken = document.createElement("span");
    spoken.textContent = text;
    const counted = document.createElement("span");
    counted.setAttribute("aria-hidden", "true");
    status.replaceChildren(spoken, counted);
    status.dataset.text = text;
  }
  status.lastElementChild.textContent = aside;
}

function showStatus() {
  if (!element("trouble").hidden) return;
  if (line.over) return trouble(line.over);
  if (line.isAsked) {
    setStatus("warn", "Waiting for a yes at the computer");
  } else if (isOver()) {
    // The host may end now; nothing needs it any more.
    setStatus("good", "All saved and verified");
  } else if (line.retryAt && isHere && !isMoving()) {
    setStatus("warn", "Not connected");
  } else if (line.retryAt) {
    const seconds = Math.ceil((line.retryAt - Date.now()) / 1000);
    setStatus("warn", isHere ? "Reconnecting" : "No answer yet", seconds > 0 ? ` · next try in ${seconds} s` : " …");
  } else if (isHere) {
    setStatus("good", "Connected");
  }
}

const movingNow = () => [...fetching.items, ...giving.batches].filter(one => one.isActive);
const isMoving = () => movingNow().length > 0;
const isOver = () => fetching.items.length > 0 && fetching.items.every(item => item.state === "done") &&
  giving.batches.every(isWhole);

// Sending

async function showUnfinished() {
  const note = await giving.unfinished();
  if (!note) return;
  const percent = Math.floor((note.held / Math.max(1, note.size)) * 100);
  const names = note.names.map(printable).join(", ") + (note.count > note.names.length ? " …" : "");
  const text = `${percent} % of ${names} (${size(note.size)}) are safe at the computer. Pick the same again to go on.`;
  element("give-sum").textContent = text;
}

async function give(picked) {
  if (!picked.length) return;
  meter.reset();
  changed.add(await giving.give(picked));
  element("give-sum").textContent = "Photos, files or whole folders.";
  draw();
}

const fromInput = list => Array.from(list, file => ({ file, path: file.webkitRelativePath || file.name }));

/** Every file below what was dropped. */
async function fromDrop(items) {
  const picked = [];
  const walk = async entry => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      return void picked.push({ file, path: entry.fullPath.slice(1) });
    }
    const reader = entry.createReader();
    for (;;) {
      const found = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!found.length) return;
      for (const one of found) await walk(one);
    }
  };
  // They are gone after the first wait.
  const entries = Array.from(items, item => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) await walk(entry);
  return picked;
}

function wireSending() {
  for (const [button, input] of [["pick-files", "files-in"], ["pick-folder", "folder-in"], ["pick-camera", "camera-in"]]) {
    element(button).onclick = () => element(input).click();
    element(input).onchange = () => {
      const picked = fromInput(element(input).files);
      element(input).value = "";
      give(picked);
    };
  }
  element("pick-folder").hidden = !("webkitdirectory" in HTMLInputElement.prototype);
  element("pick-camera").hidden = !("capture" in HTMLInputElement.prototype);
  const drop = element("drop");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, event => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  drop.addEventListener("drop", event => fromDrop(event.dataTransfer.items).then(give, complain));
}

function wireFetching() {
  element("fetch-all").onclick = () => {
    for (const item of fetching.items) if (item.state !== "done") get(item);
  };
  element("more").onclick = () => {
    showMore();
    draw();
  };
  element("ways").ontoggle = () => {
    if (element("ways-zip") || fetching.items.length < 2) return;
    const zip = native("Everything as one zip", fetching.items.reduce((sum, item) => sum + item.size, 0), { zip: null });
    zip.id = "ways-zip";
    element("natives").prepend(zip);
  };
  element("repair-pick").onclick = () => element("repair-file").click();
  element("repair-file").onchange = () => {
    const [file] = element("repair-file").files;
    element("repair-file").value = "";
    if (file) repair(file);
  };
}

function repair(file) {
  const item = fetching.items[Number(element("repair-which").value)];
  repaired?.row.remove();
  repaired = { item, row: new Row(element("repair-row"), shownPath(item)) };
  get(item, file);
  draw();
}

element("bar-pause").onclick = () => {
  for (const item of fetching.items) fetching.pause(item);
  for (const batch of giving.batches) if (batch.isActive) giving.pause(batch);
};
element("bar-cancel").onclick = () => {
  for (const item of fetching.items) if (item.isActive) fetching.cancel(item);
  for (const batch of giving.batches) if (batch.isActive) dropBatch(batch);
};
element("awake").onchange = () => awake.want(element("awake").checked);
element("awake-label").hidden = !navigator.wakeLock && !("captureStream" in HTMLCanvasElement.prototype);
wireFetching();
wireSending();
setInterval(() => {
  draw();
  showStatus();
}, 200);
start();
