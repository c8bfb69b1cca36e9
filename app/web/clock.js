// The service's time. Events carry it; the clock of the person's machine may be wrong by hours.

class Clock {
  #offset = 0;

  /** Learn from an answer's `Date`, which is cut to the second. */
  learn(date) {
    const told = Date.parse(date);
    if (!Number.isNaN(told)) this.#offset = told + 500 - Date.now();
  }

  /** Hear of a moment that has passed: it cannot lie in the future. */
  hasPassed(time) {
    this.#offset = Math.max(this.#offset, time - Date.now());
  }

  /** Milliseconds since 1970, by the service's clock. */
  now() {
    return Date.now() + this.#offset;
  }
}

export const clock = new Clock();

/** "0.8 s", "12.3 s", "2 min 05 s". */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}
