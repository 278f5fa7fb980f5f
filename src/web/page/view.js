// What is shown of one file: its name, what is going on with it, how far it is. Text is always set as text.
import { nameParts } from "/_a/format.js";

/** The element with an id. */
export const element = id => document.getElementById(id);

/** Tells people who do not look at the page. */
export function speak(text) {
  element("spoken").textContent = text;
}

/** One line of a list. */
export class Row {
  constructor(list, path) {
    this.item = element("row").content.firstElementChild.cloneNode(true);
    const [folder, stem, end] = nameParts(path);
    this.name = folder + stem + end;
    this.#at(".folder").textContent = folder && ` · in ${folder}`;
    this.#at(".stem").textContent = stem;
    this.#at(".end").textContent = end;
    this.#at(".name").title = this.name;
    this.#at("progress").setAttribute("aria-label", this.name);
    list.append(this.item);
  }

  /** `kind` is `good`, `warn`, `bad` or nothing; `done` of 1 is how far it is, or null where that is not shown. */
  show({ note, kind = "", done = null, root = null }) {
    const [noted, bar, digest] = [this.#at(".note span"), this.#at("progress"), this.#at(".root")];
    if (noted.textContent !== note) noted.textContent = note;
    this.item.dataset.kind = kind;
    // While files move there is no room for it.
    this.#at(".folder").hidden = done !== null;
    bar.hidden = done === null;
    bar.value = done ?? 0;
    digest.hidden = root === null;
    digest.querySelector("summary").textContent = `BLAKE3 ${(root ?? "").slice(0, 16)}…`;
    digest.querySelector("p").textContent = root ?? "";
  }

  /** Sets the buttons: `[label, act, isMain]` each. What has the focus keeps it. */
  actions(...wanted) {
    const place = this.#at(".acts");
    const shown = wanted.map(([label]) => label).join("\n");
    this.acts = wanted.map(([, act]) => act);
    if (place.dataset.shown === shown) return;
    const hadFocus = place.contains(document.activeElement) || document.activeElement === this.item;
    place.dataset.shown = shown;
    place.toggleAttribute("data-many", wanted.length > 1);
    place.replaceChildren(...wanted.map(([label, , isMain], place) => this.#button(label, place, isMain)));
    if (hadFocus) (place.querySelector("button") ?? this.item).focus();
  }

  remove() {
    this.item.remove();
  }

  #button(label, place, isMain) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.className = isMain ? "main" : "";
    button.setAttribute("aria-label", `${label}: ${this.name}`);
    button.onclick = () => this.acts[place]();
    return button;
  }

  #at(selector) {
    return this.item.querySelector(selector);
  }
}

/** The rate of the last seconds, from samples of how much has moved. */
export class Meter {
  #samples = [];

  /** Bytes a second. */
  rate(moved) {
    const now = performance.now();
    const last = this.#samples.at(-1);
    if (last && moved < last[1]) this.#samples = [];
    if (!last || now - last[0] > 250) this.#samples.push([now, moved]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > 5000) this.#samples.shift();
    const [at, before] = this.#samples[0] ?? [now, moved];
    return now - at > 400 ? ((moved - before) * 1000) / (now - at) : 0;
  }

  reset() {
    this.#samples = [];
  }
}

/** Lets the browser save what was put together. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  follow(url, name);
  return () => URL.revokeObjectURL(url);
}

/** Starts the browser's own download. */
export function follow(url, name) {
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}
