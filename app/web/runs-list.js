// The list of runs, newest first, with its filters. Each run is a link, to be shared and opened.

import { duration } from "./clock.js";
import { $, clone, setText, showBadge } from "./dom.js";

const EVERY_MS = 5_000;

export class RunsList {
  #items = new Map();
  #older = [];
  #next = null;

  constructor(api, teams) {
    this.api = api;
    $("filter-team").append(...teams.map((team) => new Option(team.name, team.id)));
    for (const id of ["filter-status", "filter-team"]) $(id).onchange = () => this.#restart();
    $("more-runs").onclick = () => this.#showMore();
    setInterval(() => document.hidden || this.refresh(), EVERY_MS);
  }

  /** Mark the run that is open. */
  set current(runId) {
    this.open = runId;
    for (const [id, item] of this.#items) mark(item, id === runId);
  }

  /** Look what the newest are; those that were asked for further down stay as they were. */
  async refresh() {
    const page = await this.#page().catch(() => null); // the next look will tell
    if (page === null) return;
    if (this.#older.length === 0) this.#next = page.next;
    const newest = new Set(page.runs.map((run) => run.run_id));
    this.#draw([...page.runs, ...this.#older.filter((run) => !newest.has(run.run_id))]);
  }

  #restart() {
    this.#older = [];
    return this.refresh();
  }

  async #showMore() {
    const page = await this.#page(this.#next);
    this.#older.push(...page.runs);
    this.#next = page.next;
    await this.refresh();
  }

  #page(after) {
    return this.api.runs({ status: $("filter-status").value, team: $("filter-team").value, after });
  }

  #draw(runs) {
    const items = runs.map((run) => this.#item(run));
    const isSame = items.length === $("runs").children.length
      && items.every((item, place) => item === $("runs").children[place]);
    if (!isSame) $("runs").replaceChildren(...items);
    $("no-runs").hidden = runs.length > 0;
    $("more-runs").hidden = this.#next === null;
  }

  #item(run) {
    const item = this.#items.get(run.run_id) ?? clone("run-template");
    this.#items.set(run.run_id, item);
    item.querySelector("a").href = `/?run=${run.run_id}`;
    setText(item.querySelector(".words"), run.input + (run.input_truncated ? "…" : ""));
    showBadge(item.querySelector(".badge"), run.status);
    setText(item.querySelector("time"), facts(run));
    item.querySelector("time").dateTime = run.created_at;
    mark(item, run.run_id === this.open);
    return item;
  }
}

function mark(item, isOpen) {
  if (isOpen) item.querySelector("a").setAttribute("aria-current", "page");
  else item.querySelector("a").removeAttribute("aria-current");
}

function facts({ created_at: from, started_at: begun, finished_at: to }) {
  const time = new Date(from);
  const isToday = time.toDateString() === new Date().toDateString();
  const when = isToday ? time.toLocaleTimeString() : time.toLocaleString();
  return to && begun ? `${when}, ${duration(Date.parse(to) - Date.parse(begun))}` : when;
}
