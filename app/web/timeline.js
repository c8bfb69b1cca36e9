// Who worked when: a row for each lane, in the service's time, growing while the run goes on.
//
// The bars are SVG in milliseconds since the start; the scale is the `viewBox`, so that a frame
// moves the open bars and one attribute a row, and nothing else.

import { setText } from "./dom.js";
import { isOver } from "./log.js";

const SVG = "http://www.w3.org/2000/svg";
const LEAST_MS = 2_000;
const TICKS = 5;
const TICK_PX = 44; // as wide as its words may be

export class Timeline {
  #rows = new Map();
  #log = null;
  #ticks = "";
  #at = [];
  #sizes = null;

  constructor(rows, axis) {
    this.rows = rows;
    this.axis = axis;
    this.#sizes = new ResizeObserver(() => this.#placeTicks());
    this.#sizes.observe(axis);
  }

  close() {
    this.#sizes.disconnect();
  }

  draw(log, now) {
    if (log !== this.#log) this.#begin(log);
    const start = log.startedAt ?? now;
    const length = Math.max(LEAST_MS, (log.finishedAt ?? now) - start);
    for (const [place, lane] of [...log.lanes.values()].entries()) {
      const row = this.#rows.get(lane.key) ?? this.#addRow(lane, place);
      row.bars.setAttribute("viewBox", `0 0 ${length} 1`);
      this.#drawSpans(row, lane.spans, start, log.finishedAt ?? now);
      row.element.dataset.state = lane.state;
      setText(row.words, inWords(lane, log.finishedAt ?? now));
    }
    this.#drawAxis(length);
  }

  #begin(log) {
    this.#log = log;
    this.#rows.clear();
    this.rows.replaceChildren();
  }

  #addRow(lane, place) {
    const element = document.createElement("li");
    const name = document.createElement("span");
    const words = document.createElement("span");
    const bars = document.createElementNS(SVG, "svg");
    element.style.setProperty("--hue", hueOf(place));
    name.textContent = lane.name;
    words.className = "hidden";
    bars.setAttribute("preserveAspectRatio", "none");
    bars.setAttribute("aria-hidden", "true");
    element.append(name, words, bars);
    this.rows.append(element);
    const row = { element, words, bars, drawn: [] };
    this.#rows.set(lane.key, row);
    return row;
  }

  #drawSpans(row, spans, start, now) {
    for (const [place, span] of spans.entries()) {
      const known = row.drawn[place];
      if (known?.isDone) continue;
      const bar = known?.bar ?? row.bars.appendChild(document.createElementNS(SVG, "rect"));
      bar.setAttribute("x", span.from - start);
      bar.setAttribute("width", Math.max(0, (span.to ?? now) - span.from));
      bar.setAttribute("height", 1);
      bar.dataset.state = span.state;
      row.drawn[place] = { bar, isDone: span.to !== null };
    }
  }

  #drawAxis(length) {
    const step = niceStep(length / TICKS);
    const times = Array.from({ length: Math.floor(length / step) + 1 }, (_, place) => place * step);
    const key = `${step} ${times.length}`;
    if (key !== this.#ticks) {
      this.axis.replaceChildren(...times.map((ms) => tick(ms, step)));
      this.#ticks = key;
    }
    this.#at = times.map((ms) => ms / length);
    this.#placeTicks();
  }

  /** One whose words would be cut off is not shown. */
  #placeTicks() {
    const width = this.axis.clientWidth;
    for (const [place, share] of this.#at.entries()) {
      this.axis.children[place].style.left = `${share * 100}%`;
      this.axis.children[place].hidden = (1 - share) * width < TICK_PX;
    }
  }
}

/** The colour of the lane at a place: the leader's first; neighbours differ. */
export const hueOf = (place) => [275, 195, 65, 340, 150][place % 5];

function tick(ms, step) {
  const element = document.createElement("span");
  element.textContent = step < 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms / 1000} s`;
  return element;
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= least);
}

/** The row for those who don't see it. */
function inWords(lane, now) {
  if (lane.spans.length === 0) return "has not worked yet";
  const wrote = lane.spans.filter((span) => span.state === "writing");
  const ms = wrote.reduce((sum, span) => sum + (span.to ?? now) - span.from, 0);
  const state = isOver(lane.state) ? lane.state : `${lane.state} now`;
  return `wrote for ${Math.round(ms / 1000)} seconds, ${state}`;
}
