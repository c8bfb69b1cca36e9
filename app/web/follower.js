// Reading a run's events through an EventSource, from a cursor to the final event.
//
// What EventSource does by itself: it reconnects after the stream's `retry`, sends the id of the
// last whole event as the cursor, and drops half an event. What is added here:
//
// - 204 and every 4xx close it for ever, and it does not tell which it was. So we ask for the run
//   as JSON: it has ended and we have all of it; it is gone; or a new stream is opened, with the new
//   ticket that the answer's link carries.
// - A connection that dies without a sound (a laptop's sleep) is never noticed, for comments are
//   not shown to scripts. After a long silence, or a jump of time, we open a new stream.
// - An event that was seen already is skipped, and a gap is asked for again: `seq` has none.
// - The final event is the end; waiting for the 204 would cost one request more.

import { EVENT_NAMES, FINAL_NAMES } from "./log.js";

const SILENCE_MS = 40_000; // the service pings every 15 s
const TICK_MS = 5_000;
const RETRY_MS = 2_000;

export class Follower {
  #source = null;
  #timer = null;
  #heardAt = 0;
  #tickedAt = 0;
  #isClosed = false;

  /**
   * `links` is the run's; `findRun()` gets it anew. `onEvent(event)` gets each event once, in order.
   * `onState(state, cursor)` gets connecting, live, reconnecting, and at last ended or gone.
   */
  constructor(links, { findRun, onEvent, onState }) {
    this.cursor = 0;
    this.links = links;
    this.findRun = findRun;
    this.onEvent = onEvent;
    this.onState = onState;
  }

  open() {
    this.#timer = setInterval(this.#tick, TICK_MS);
    this.#tickedAt = performance.now();
    addEventListener("online", this.reopen);
    document.addEventListener("visibilitychange", this.#tick);
    this.#tell("connecting");
    this.#connect();
  }

  close() {
    this.#isClosed = true;
    this.#source?.close();
    clearInterval(this.#timer);
    removeEventListener("online", this.reopen);
    document.removeEventListener("visibilitychange", this.#tick);
  }

  #connect() {
    const url = new URL(this.links.events, location.href);
    if (this.cursor > 0) url.searchParams.set("last_event_id", this.cursor);
    const source = (this.#source = new EventSource(url));
    this.#heardAt = performance.now();
    source.onopen = () => this.#tell("live");
    source.onerror = () => {
      this.#tell("reconnecting");
      if (source.readyState === EventSource.CLOSED) this.#findOut();
    };
    for (const name of EVENT_NAMES) source.addEventListener(name, this.#take);
  }

  #take = (message) => {
    const event = JSON.parse(message.data);
    this.#heardAt = performance.now();
    if (event.seq <= this.cursor) return;
    if (event.seq > this.cursor + 1) return this.reopen();
    this.cursor = event.seq;
    this.onEvent(event);
    if (FINAL_NAMES.has(event.event)) this.#end("ended");
  };

  /** The stream was refused, or there is no more of it (204): ask which. */
  async #findOut() {
    try {
      const run = await this.findRun();
      const isOver = ["completed", "cancelled", "error"].includes(run.status);
      if (isOver && this.cursor >= run.last_event_id) return this.#end("ended");
      this.links = run.links;
    } catch (problem) {
      if (problem.status === 404) return this.#end("gone");
    }
    setTimeout(this.reopen, RETRY_MS);
  }

  /** Read on behind the cursor over a new connection, unless the end is here. */
  reopen = () => {
    if (this.#isClosed) return;
    this.#source.close();
    this.#tell("reconnecting");
    this.#connect();
  };

  #tick = () => {
    const now = performance.now();
    const slept = now - this.#tickedAt > 3 * TICK_MS;
    this.#tickedAt = now;
    if (!document.hidden && (slept || now - this.#heardAt > SILENCE_MS)) this.reopen();
  };

  #end(state) {
    if (this.#isClosed) return;
    this.close();
    this.#tell(state);
  }

  #tell(state) {
    this.onState(state, this.cursor);
  }
}
