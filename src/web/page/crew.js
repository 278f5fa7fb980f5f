// The page's workers. Whoever asks for something waits for one that is free.
import { Fault } from "/_a/call.js";
import { compile } from "/_a/module.js";

/** As many as transfers use at once, and one that is there for everything else. */
export const LANES = 4;

export class Crew {
  #lanes = [];
  #waiting = [];
  #asked = 0;

  /** Starts the workers with a link. */
  async enter(room, key) {
    const lanes = Array.from({ length: LANES + 1 }, () => this.#lane());
    const module = await compile();
    await Promise.all(lanes.map(lane => this.#ask(lane, "enter", { module, room, key })));
    this.#lanes = lanes.slice(1);
    this.#lanes.forEach(lane => this.#free(lane));
    this.first = lanes[0];
  }

  /** Does a task on a worker that is free. */
  async do(task, request, told, signal) {
    const lane = await this.#idle();
    try {
      return await this.#ask(lane, task, request, told, signal);
    } finally {
      this.#free(lane);
    }
  }

  /** Does a short task on the worker that transfers leave alone; it may do several at once. */
  aside(task, request, told, signal) {
    return this.#ask(this.first, task, request, told, signal);
  }

  #lane() {
    const worker = new Worker("/_a/lane.js", { type: "module" });
    const asked = new Map();
    worker.onmessage = ({ data: { id, done, told, fault } }) => {
      const one = asked.get(id);
      if (told !== undefined) return one?.told?.(told);
      asked.delete(id);
      if (fault) one?.reject(new Fault(fault.kind, fault.text));
      else one?.resolve(done);
    };
    worker.onerror = () => {
      for (const one of asked.values()) one.reject(new Fault("page", "this browser cannot run the page's worker"));
      asked.clear();
    };
    return { worker, asked, busy: false };
  }

  #ask(lane, task, request, told, signal) {
    return new Promise((resolve, reject) => {
      const id = ++this.#asked;
      const stop = () => lane.worker.postMessage({ id, stop: true });
      const over = act => value => {
        signal?.removeEventListener("abort", stop);
        act(value);
      };
      lane.asked.set(id, { resolve: over(resolve), reject: over(reject), told });
      lane.worker.postMessage({ id, task, request });
      signal?.addEventListener("abort", stop);
      if (signal?.aborted) stop();
    });
  }

  #idle() {
    const lane = this.#lanes.find(one => !one.busy);
    if (!lane) return new Promise(resolve => this.#waiting.push(resolve));
    lane.busy = true;
    return lane;
  }

  #free(lane) {
    const next = this.#waiting.shift();
    lane.busy = Boolean(next);
    next?.(lane);
  }
}
