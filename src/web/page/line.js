// The line to the host: tries again for as long as it takes, and moves to another address where one is dead.
import { Fault } from "/_a/call.js";

const WAIT_MS_MIN = 500, WAIT_MS_MAX = 10000;
/** Failures in a row after which another address is tried. */
const FAILURES_PER_ORIGIN = 3;

/** What ends everything. */
export const FINAL = ["gone", "key", "declined", "version"];

export class Line {
  /** When it is tried again; 0 while nothing is wrong. */
  retryAt = 0;
  /** Whether the person at the host is being asked to let this browser in. */
  isAsked = false;
  /** Why nothing will ever come over it again. */
  over = null;
  /** Called when the host has another session for this page than before: it knows nothing of what was said in that one. */
  renewed = () => {};
  #crew;
  #room;
  #name;
  #told;
  #origins = [location.origin];
  #session = null;
  #greeting = null;
  #failures = 0;
  #sleepers = new Set();

  /** `told` hears when the line breaks and when it is back. */
  constructor(crew, room, name, told) {
    [this.#crew, this.#room, this.#name, this.#told] = [crew, room, name, told];
    const wake = () => {
      if (!document.hidden) this.wake();
    };
    for (const event of ["online", "pageshow"]) addEventListener(event, wake);
    for (const event of ["visibilitychange", "resume"]) document.addEventListener(event, wake);
  }

  /** Where the host is reached now. */
  get origin() {
    return this.#origins[0];
  }

  /** Tries at once what waits to be tried again. */
  wake() {
    for (const sleeper of [...this.#sleepers]) sleeper();
  }

  /** Says who is there; the answer tells what the host offers and takes. */
  hello(signal) {
    return this.#persist(() => this.#greet(), signal);
  }

  /** A call that moves little. */
  call(header, payload, signal) {
    return this.#persist(async () => {
      const request = { origin: this.origin, header: { ...header, session: this.#session }, payload };
      return this.#crew.aside("call", request, null, signal);
    }, signal);
  }

  /** A task on a worker that talks to the host. `request` is asked for anew each time. */
  task(name, request, told, signal) {
    return this.#persist(async () => {
      const now = { ...request, origin: this.origin, session: this.#session };
      if (now.header) now.header = { ...now.header, session: this.#session };
      return this.#crew.do(name, now, told, signal);
    }, signal);
  }

  /** A task that is tried once: whoever asked for it will ask again. */
  taskOnce(name, request, told, signal) {
    const act = () => this.#crew.do(name, { ...request, origin: this.origin, session: this.#session }, told, signal);
    return this.#persist(act, signal, true);
  }

  async #greet() {
    // Whoever finds the session gone waits for the same greeting.
    this.#greeting ??= (async () => {
      try {
        // The host goes on with the session that a page had before it was reloaded.
        const header = { op: "hello", name: this.#name, session: this.#session ?? kept(this.#room) ?? undefined };
        const answer = (await this.#crew.aside("call", { origin: this.origin, header })).header;
        const isOther = this.#session !== null && this.#session !== answer.session;
        this.#session = answer.session;
        keep(this.#room, answer.session);
        const others = (answer.candidates ?? []).filter(origin => origin !== this.origin);
        this.#origins = [this.origin, ...others];
        if (isOther) this.renewed();
        return answer;
      } finally {
        this.#greeting = null;
      }
    })();
    return this.#greeting;
  }

  async #persist(act, signal, isOnce = false) {
    for (;;) {
      await this.#sleep(this.retryAt - Date.now(), signal);
      const session = this.#session;
      try {
        const value = await act();
        if (this.#failures || this.retryAt || this.isAsked) {
          this.#failures = this.retryAt = 0;
          this.isAsked = false;
          this.#told();
        }
        return value;
      } catch (fault) {
        if (signal?.aborted) throw new Fault("stopped", "it was stopped");
        await this.#weigh(fault, session, signal);
        if (isOnce) throw fault;
      }
    }
  }

  /** Returns where it is worth trying again. */
  async #weigh(fault, session, signal) {
    if (fault.kind === "net") this.#failed();
    else if (fault.kind === "busy") await this.#sleep(1000 + Math.random() * 2000, signal);
    else if (fault.kind === "asked") {
      this.isAsked = true;
      this.#told();
      await this.#sleep(1000, signal);
    } else if (fault.kind === "gone") await this.#lookForPage();
    else if (fault.kind === "session") {
      if (session === this.#session) await this.#greet().catch(other => this.#weigh(other, null, signal));
    } else {
      if (FINAL.includes(fault.kind)) this.#end(fault);
      throw fault;
    }
  }

  #end(fault) {
    this.over = fault;
    this.#told();
  }

  /** The same answer stands for a wrong key and for an offer that is over. The page tells them apart. */
  async #lookForPage() {
    let status;
    try {
      status = (await fetch(`${this.origin}/${this.#room}`, { method: "HEAD", cache: "no-store" })).status;
    } catch {
      return this.#failed();
    }
    const fault = status === 404 ? new Fault("gone", "this offer is over")
      : !this.#session ? new Fault("key", "the key is not the one of this offer") : null;
    if (!fault) return this.#failed();
    this.#end(fault);
    throw fault;
  }

  #failed() {
    // What fails together counts once.
    if (Date.now() < this.retryAt) return;
    this.#failures += 1;
    if (this.#failures % FAILURES_PER_ORIGIN === 0) this.#origins.push(this.#origins.shift());
    const longest = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** this.#failures);
    this.retryAt = Date.now() + WAIT_MS_MIN + Math.random() * (longest - WAIT_MS_MIN);
    this.#told();
  }

  #sleep(milliseconds, signal) {
    if (milliseconds <= 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const over = act => () => {
        clearTimeout(timer);
        this.#sleepers.delete(awaken);
        signal?.removeEventListener("abort", stop);
        act();
      };
      const awaken = over(resolve), stop = over(() => reject(new Fault("stopped", "it was stopped")));
      const timer = setTimeout(awaken, milliseconds);
      this.#sleepers.add(awaken);
      signal?.addEventListener("abort", stop);
    });
  }
}

// A browser that keeps nothing for this page gets a new session with each load.

function kept(room) {
  try {
    return sessionStorage.getItem(`haul:${room}:session`);
  } catch {
    return null;
  }
}

function keep(room, session) {
  try {
    sessionStorage.setItem(`haul:${room}:session`, session);
  } catch {}
}
