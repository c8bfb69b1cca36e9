// Draws a run: head, figures, timeline, lanes and the steps between them.
//
// `show(log)` says what to draw, `change()` that it has changed. Drawing happens once a frame at
// most, whatever number of events came in between, and touches only what is different.

import { clock, duration } from "./clock.js";
import { $, announce, clone, setText, showBadge } from "./dom.js";
import { LaneView } from "./lane-view.js";
import { notice } from "./stops.js";
import { Timeline, hueOf } from "./timeline.js";

const LIVE_MS = 100;

export class RunView {
  #log = null;
  #isDue = false;
  #lanes = new Map();
  #steps = new Map();
  #told = new Map();
  #timer = null;

  /** `run` is the run's JSON; `onStop(run ids)` is called when somebody presses a Stop. */
  constructor(run, team, stops, onStop) {
    this.run = run;
    this.stops = stops;
    this.onStop = onStop;
    this.part = (name) => $("run").querySelector(`[data-part="${name}"]`);
    for (const name of ["rows", "leader", "members", "steps"]) this.part(name).replaceChildren();
    this.timeline = new Timeline(this.part("rows"), this.part("axis"));
    setText(this.part("team"), team.name);
    setText(this.part("mode"), team.mode);
    setText($("run").querySelector(".run-input"), run.input);
    this.part("stop").onclick = () => onStop([run.run_id]);
    this.#timer = setInterval(() => this.#log?.isOver || this.change(), LIVE_MS);
    $("run").hidden = false;
  }

  close() {
    clearInterval(this.#timer);
    this.timeline.close();
    this.#log = null;
    $("run").hidden = true;
  }

  show(log) {
    this.#log = log;
    this.#steps.clear();
    this.part("steps").replaceChildren();
    this.change();
  }

  /** Show how the connection stands: a state of the follower, and its place in the log. */
  connection(state, words) {
    const element = this.part("connection");
    element.dataset.state = state;
    setText(element, words);
  }

  change() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (this.#log) this.#draw(this.#log);
    });
  }

  #draw(log) {
    const now = Math.max(clock.now(), log.startedAt ?? 0);
    this.#drawHead(log);
    this.#drawFigures(log, now);
    this.#drawLanes(log);
    this.#drawSteps(log, now);
    this.timeline.draw(log, now);
  }

  #drawHead(log) {
    const stop = this.stops.get(this.run.run_id);
    const status = stop?.isOpen && !log.isOver ? "cancelling" : log.status;
    $("run").dataset.status = status;
    showBadge(this.part("status"), status);
    const told = notice(stop) || (log.error?.message ?? "");
    setText(this.part("notice"), told);
    const button = this.part("stop");
    if (log.isOver && button === document.activeElement) $("run-title").focus();
    button.hidden = log.isOver;
    button.setAttribute("aria-disabled", status === "cancelling");
    this.#tellState("The run", status);
    this.#tell("what became of it", told);
  }

  #drawFigures(log, now) {
    const until = log.finishedAt ?? now;
    const about = log.isEstimate ? "≈ " : "";
    setText(this.part("elapsed"), log.startedAt ? duration(until - log.startedAt) : "not begun");
    setText(this.part("tokens"), about + log.tokens.toLocaleString("en"));
    setText(this.part("rate"), about + log.rate(now).toFixed(1));
    setText(this.part("events"), log.seq.toLocaleString("en"));
  }

  #drawLanes(log) {
    for (const [place, lane] of [...log.lanes.values()].entries()) {
      const view = this.#lanes.get(lane.key) ?? this.#addLane(lane, place);
      view.draw(lane, this.stops, !log.isOver);
      this.#tellState(lane.name, lane.state);
      this.#tell(`what became of ${lane.name}`, view.notice);
    }
  }

  #addLane(lane, place) {
    const parent = this.part(lane.key === "leader" ? "leader" : "members");
    const stop = (runs) => this.onStop(runs.map((run) => run.id));
    const view = new LaneView(parent, hueOf(place), stop);
    this.#lanes.set(lane.key, view);
    return view;
  }

  #drawSteps(log, now) {
    this.part("no-steps").hidden = log.steps.size > 0;
    const hues = new Map([...log.lanes.values()].map((lane, place) => [lane.name, hueOf(place)]));
    for (const [id, step] of log.steps) {
      const element = this.#steps.get(id) ?? this.#addStep(id);
      const took = duration((step.finishedAt ?? now) - step.startedAt);
      const to = [...step.to].join(", ");
      element.dataset.state = step.state;
      paint(element, hues.get(step.to.size === 1 ? to : step.from));
      setText(element.querySelector(".who"), `${step.from} → ${step.tool || to || "nobody"}`);
      setText(element.querySelector(".task"), step.task);
      setText(element.querySelector(".state"), `${step.state}, ${took}`);
      setText(element.querySelector("pre"), details(step));
    }
  }

  #addStep(id) {
    const element = clone("step-template");
    this.part("steps").append(element);
    this.#steps.set(id, element);
    return element;
  }

  #tellState(who, state) {
    this.#tell(who, `${who}: ${state}.`);
  }

  /** Have a sentence said when it is new; what stood there from the beginning is not. */
  #tell(subject, sentence) {
    if (this.#told.get(subject) === sentence) return;
    if (this.#told.has(subject) && sentence) announce(subject, sentence);
    this.#told.set(subject, sentence);
  }
}

/** Give it the colour of a lane, once: every setting would be a restyle. */
function paint(element, hue) {
  if (element.dataset.hue === String(hue)) return;
  element.dataset.hue = hue;
  element.style.setProperty("--hue", hue);
}

/** A delegation's result is what its member wrote, and stands in the member's lane. */
function details({ tool, task, result }) {
  return tool && result !== null ? `${task}\n\n→ ${result}` : task;
}
