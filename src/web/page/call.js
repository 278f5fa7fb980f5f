// One call to the host: sealed, sent, watched, opened. It is tried once; `line.js` tries again.
import { open, seal } from "/_a/module.js";

/** Silence after which a call is given up. */
const STALL_MS = 20000;
/** Longest wait for an answer once everything was sent: what lies in buffers on the way has to drain. */
const ANSWER_MS_MAX = 60000;

/** Why a call came to nothing. `kind` is `net`, `gone`, or the host's own code. */
export class Fault extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

/** Header and payload of the answer to a call. `told` hears of bytes as they move, `signal` ends it. */
export async function call({ origin, room, keys }, header, payload, told, signal) {
  const { nonce, body } = seal(keys, { v: 1, ...header }, payload ?? new Uint8Array(0));
  const sealed = await post(`${origin}/v1/${room}`, body, told, signal);
  const answer = open(keys, nonce, sealed);
  if (!answer) throw new Fault("net", "the answer is not genuine");
  if (!answer.header.ok) throw new Fault(String(answer.header.error), String(answer.header.text ?? ""));
  return answer;
}

// XMLHttpRequest, since fetch tells nothing of what was sent.
function post(url, body, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const started = performance.now();
    let moved = started, patience = STALL_MS;
    const over = act => value => {
      clearInterval(watch);
      signal?.removeEventListener("abort", stop);
      act(value);
    };
    const fail = over(reject), succeed = over(resolve);
    const stop = () => {
      request.abort();
      fail(new Fault("stopped", "it was stopped"));
    };
    const watch = setInterval(() => {
      if (performance.now() - moved < patience) return;
      request.abort();
      fail(new Fault("net", "the host is silent"));
    }, 500);
    const step = event => {
      moved = performance.now();
      told?.(event.loaded);
    };
    request.open("POST", url);
    request.responseType = "arraybuffer";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (body.length > 65536) request.upload.onprogress = step;
    request.upload.onload = () => {
      moved = performance.now();
      patience = Math.min(ANSWER_MS_MAX, Math.max(STALL_MS, 4 * (moved - started)));
    };
    request.onprogress = event => {
      patience = STALL_MS;
      step(event);
    };
    request.onerror = () => fail(new Fault("net", "the host cannot be reached"));
    request.onload = () => {
      if (request.status === 200) succeed(new Uint8Array(request.response));
      else if (request.status === 404) fail(new Fault("gone", "the host does not know this link"));
      else if (request.status === 429 || request.status >= 500) fail(new Fault("net", `the host answers ${request.status}`));
      else fail(new Fault("request", `the host answers ${request.status}`));
    };
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    else request.send(body);
  });
}
