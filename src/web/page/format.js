// Text for people: names made safe to show, sizes, times, rates.

// What could hide or reorder text, as in src/printable.rs.
const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]|[\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** The text with every character that could drive a display, hide or reorder text written as `\u{…}`. */
export const printable = text =>
  String(text).replace(UNSAFE, character => `\\u{${character.codePointAt(0).toString(16)}}`);

/** A path in three parts, of which the last stays visible: folders, start of the name, its end with the extension. */
export function nameParts(path) {
  const shown = printable(path);
  const cut = shown.lastIndexOf("/") + 1;
  const name = shown.slice(cut);
  const dot = name.lastIndexOf(".");
  const isExtension = dot > 0 && name.length - dot <= 12;
  const end = isExtension ? Math.max(1, dot - 3) : Math.max(1, name.length - 6);
  return [shown.slice(0, cut), name.slice(0, end), name.slice(end)];
}

/** `1.50 GiB`. */
export function size(bytes) {
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024, unit = 0;
  while (value >= 999.95 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 9.995 ? value.toFixed(2) : value.toFixed(1)} ${units[unit]}`;
}

/** `8.17 of 26.7 MiB`. */
export function part(bytes, all) {
  const [some, whole] = [size(bytes).split(" "), size(all).split(" ")];
  return some[1] === whole[1] ? `${some[0]} of ${whole.join(" ")}` : `${some.join(" ")} of ${whole.join(" ")}`;
}

/** `12 s`, `3 min 20 s`, `2 h 05 min`. */
export function time(seconds) {
  const whole = Math.max(0, Math.ceil(seconds)), two = number => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor(whole / 3600) % 24)} h`;
}

/** `1 file`, `20,000 files`. */
export const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

/** What to call this browser, for the person at the other end. */
export function browserName() {
  const agent = navigator.userAgent;
  const pick = pairs => pairs.find(([mark]) => agent.includes(mark))?.[1];
  const browser = pick([["Firefox", "Firefox"], ["FxiOS", "Firefox"], ["Edg", "Edge"], ["OPR", "Opera"],
    ["SamsungBrowser", "Samsung Internet"], ["CriOS", "Chrome"], ["Chrome", "Chrome"], ["Safari", "Safari"]]) ?? "Browser";
  const system = pick([["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"],
    ["Mac OS", "Mac"], ["CrOS", "Chromebook"], ["Linux", "Linux"]]);
  return system ? `${browser} on ${system}` : browser;
}
