// What became of each Stop that was pressed on this page.
//
// A stop is shown the moment it is pressed, before the service has answered; it is over when the
// run's own final event is here, or when the service says that it came too late. The milliseconds
// are those between the press and the event: what the person waited.

export class Stops {
  #stops = new Map();

  /** `onChange()` is called when there is something new to show, `onTooLate()` with a lost race. */
  constructor(api, onChange, onTooLate) {
    this.api = api;
    this.onChange = onChange;
    this.onTooLate = onTooLate;
  }

  /** The stop of this run or member run, if it was pressed: `{isOpen, ms, problem}`. */
  get(runId) {
    return this.#stops.get(runId);
  }

  async press(runId) {
    if (this.#stops.get(runId)?.isOpen) return;
    const stop = { isOpen: true, pressedAt: performance.now(), ms: null, problem: "" };
    this.#stops.set(runId, stop);
    this.onChange();
    try {
      const run = await this.api.stop(runId);
      if (run.status === "cancelled") this.ended(runId, "RunCancelled");
    } catch (problem) {
      this.#close(stop, explain(problem));
      if (problem.code === FINISHED) this.onTooLate();
    }
  }

  /** Hear that a run ended, with the name of its final event. */
  ended(runId, event) {
    const stop = this.#stops.get(runId);
    if (!stop?.isOpen) return;
    if (event.endsWith("RunCancelled")) stop.ms = Math.round(performance.now() - stop.pressedAt);
    this.#close(stop, "");
  }

  #close(stop, problem) {
    stop.isOpen = false;
    stop.problem = problem;
    this.onChange();
  }
}

function explain(problem) {
  if (problem.code === FINISHED) return `Too late: ${HOW[problem.body.run.status]}.`;
  return `Not stopped: ${problem.message} Try again.`;
}

const FINISHED = "run_finished";
const HOW = {
  completed: "it had answered before the stop arrived",
  error: "it had failed before the stop arrived",
};

/** What to tell about a stop, a sentence; nothing where none was pressed. */
export function notice(stop) {
  if (!stop) return "";
  if (stop.isOpen) return "Stopping…";
  if (stop.problem) return stop.problem;
  return stop.ms === null ? "" : `Stopped in ${stop.ms} ms. What was said is kept.`;
}
