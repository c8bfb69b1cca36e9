// One agent's lane: who it is, what state it is in, what it was asked and what it wrote.

import { clone, setText, showBadge } from "./dom.js";
import { GrowingText } from "./growing-text.js";
import { isOver } from "./log.js";
import { notice } from "./stops.js";

const NEAR_PX = 24;

export class LaneView {
  #texts = [];
  #lane = null;
  #sticks = true;

  /** `onStop(runs)` is called with the lane's open runs. */
  constructor(parent, hue, onStop) {
    this.notice = "";
    this.element = clone("lane-template");
    this.element.style.setProperty("--hue", hue);
    this.part = (selector) => this.element.querySelector(selector);
    this.body = this.part(".written");
    this.body.addEventListener("scroll", () => (this.#sticks = this.#isAtEnd()), { passive: true });
    new ResizeObserver(() => this.#sticks && this.#scrollToEnd()).observe(this.body);
    this.part(".stop").addEventListener("click", () => onStop(this.#lane.openRuns));
    parent.append(this.element);
  }

  /** `lane` may be another one than last time, told from another source: then all is drawn anew. */
  draw(lane, stops, isLive) {
    if (lane !== this.#lane) this.#begin(lane, isLive);
    const pieces = lane.pieces;
    const isNew = pieces.map((piece, place) => this.#drawPiece(piece, place)).includes(true);
    if (isNew && this.#sticks && isLive) this.#scrollToEnd();
    this.#drawHead(lane, stops, isLive);
  }

  #begin(lane, isLive) {
    const wasAtEnd = this.#lane === null || this.#sticks;
    this.#lane = lane;
    this.#texts = [];
    this.#sticks = isLive && wasAtEnd;
    this.body.replaceChildren();
    this.part(".name").textContent = lane.name;
    this.body.setAttribute("aria-label", `What ${lane.name} writes`);
  }

  #drawPiece({ kind, text }, place) {
    const known = this.#texts[place];
    if (known?.text === text) return false;
    const { shown } = known ?? { shown: new GrowingText(this.body, kind) };
    shown.draw(text);
    this.#texts[place] = { text, shown };
    return true;
  }

  #drawHead(lane, stops, isLive) {
    const isLeader = lane.key === "leader";
    const asked = isLeader ? [] : lane.runs.map((run) => stops.get(run.id)).filter(Boolean);
    const isStopping = asked.some((stop) => stop.isOpen);
    const own = isLive || lane.runs.length > 0 ? lane.state : "not asked";
    const state = isStopping && !isOver(own) ? "stopping" : own;
    this.element.dataset.state = state;
    showBadge(this.part(".badge"), state);
    setText(this.part(".model"), lane.model);
    this.notice = notice(asked.at(-1));
    setText(this.part(".notice"), this.notice);
    const button = this.part(".stop");
    const canStop = !isLeader && lane.openRuns.length > 0;
    if (!canStop && button === document.activeElement) this.body.focus({ preventScroll: true });
    button.hidden = !canStop;
    button.setAttribute("aria-disabled", state === "stopping");
    button.setAttribute("aria-label", `Stop ${lane.name}`);
  }

  #scrollToEnd() {
    this.body.scrollTop = this.body.scrollHeight;
  }

  #isAtEnd() {
    return this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < NEAR_PX;
  }
}
