// The page, put together. A run has an address, `/?run=ID`: opening it, reloading it in mid-run and
// going back to it are one and the same, because everything shown comes from the run's log.

import { Api } from "./api.js";
import { clock } from "./clock.js";
import { CurlCommands } from "./curl.js";
import { $, setText } from "./dom.js";
import { Follower } from "./follower.js";
import { Log, isFinalEvent } from "./log.js";
import { RunView } from "./run-view.js";
import { RunsList } from "./runs-list.js";
import { logOf } from "./snapshot.js";
import { StartForm } from "./start-form.js";
import { Stops } from "./stops.js";

const curl = new CurlCommands(() => api.hasKey);
const api = new Api(askForKey, (request) => curl.asked(request));
let teams = [];
let runs = null;
let watching = null;

/** One run that is being looked at: its JSON first, then its events as they come. */
class Watching {
  constructor(run, team) {
    this.run = run;
    this.team = team;
    // a final event that we have not heard of by then may be stuck in a dead connection
    this.stops = new Stops(api, () => this.view.change(), () => this.follower.reopen());
    this.view = new RunView(run, team, this.stops, (ids) => ids.forEach((id) => this.stops.press(id)));
    this.log = new Log(team);
    this.isReplay = run.last_event_id > 0;
    if (this.isReplay) this.view.show(logOf(run, team));
    else this.view.show(this.log);
    this.follower = new Follower(run.links, {
      findRun: () => api.run(run.run_id),
      onEvent: (event) => this.#take(event),
      onState: (state, cursor) => this.#showConnection(state, cursor),
    });
    this.follower.open();
    curl.show("watch", { method: "GET", path: `/runs/${run.run_id}/events`, isStream: true });
  }

  close() {
    this.follower.close();
    this.view.close();
  }

  /** The log is shown in place of the JSON when it has caught up with it: no gap, no flicker. */
  #take(event) {
    this.log.apply(event);
    if (isFinalEvent(event)) this.stops.ended(event.run_id, event.event);
    if (!this.isReplay) {
      clock.hasPassed(Date.parse(event.created_at));
      this.view.change();
    } else if (event.seq >= this.run.last_event_id) {
      this.isReplay = false;
      this.view.show(this.log);
      this.#showConnection("live", event.seq);
    } else if (event.seq % 500 === 0) {
      this.#showConnection("live", event.seq);
    }
  }

  #showConnection(state, cursor) {
    const share = Math.floor((100 * cursor) / this.run.last_event_id);
    const words = {
      connecting: "connecting",
      live: this.isReplay ? `replaying ${share} %` : "live",
      reconnecting: cursor ? `reconnecting behind event ${cursor}` : "reconnecting",
      ended: "ended",
      gone: "gone: the service does not know this run any more",
    };
    this.view.connection(state === "live" && this.isReplay ? "replaying" : state, words[state]);
    if (state === "gone") this.#lose();
    if (state === "ended" || state === "gone") runs.refresh();
  }

  #lose() {
    const shown = this.isReplay ? logOf(this.run, this.team) : this.log;
    shown.lose(clock.now());
    this.view.show(shown);
  }
}

// --- addresses ------------------------------------------------------------------------------------

/** Show what the address names: a run, or the start. */
async function route() {
  watching?.close();
  watching = null;
  const id = new URLSearchParams(location.search).get("run");
  $("trouble").hidden = true;
  $("welcome").hidden = id !== null;
  $("curl").open = id === null;
  document.body.dataset.view = id === null ? "start" : "run";
  runs.current = id;
  if (id !== null) await open(id);
  else document.title = "team-runs";
}

async function open(id) {
  try {
    const run = await api.run(id);
    if (new URLSearchParams(location.search).get("run") !== id) return; // somebody went elsewhere
    if (run.parent_run_id) return go(`/?run=${run.parent_run_id}`, "replace");
    show(run);
  } catch (problem) {
    const isGone = problem.status === 404;
    setText($("trouble").querySelector("h2"), isGone ? "There is no such run" : "The run cannot be shown");
    setText(
      $("trouble").querySelector("p"),
      isGone ? "It may be older than what the service keeps, or of another service." : problem.message,
    );
    $("trouble").hidden = false;
  }
}

function show(run) {
  const unknown = { name: run.team_id, mode: "", model: "", members: [] };
  watching = new Watching(run, teams.find((team) => team.id === run.team_id) ?? unknown);
  document.title = `${run.input.slice(0, 40)} · team-runs`;
}

function go(address, how = "push") {
  history[`${how}State`](null, "", address);
  return route();
}

/** Links to this page don't load it again. */
function follow(click) {
  const link = click.target.closest?.("a");
  const isOurs = link?.origin === location.origin && link.pathname === "/" && !link.hash;
  if (!isOurs || click.button || click.ctrlKey || click.metaKey || click.shiftKey) return;
  click.preventDefault();
  go(link.href).then(focusOnRun);
}

function focusOnRun() {
  scrollTo({ top: 0 });
  if (watching) $("run-title").focus({ preventScroll: true });
}

// --- what people do -------------------------------------------------------------------------------

async function start(order) {
  const run = await api.start(order);
  await go(`/?run=${run.run_id}`);
  focusOnRun();
  runs.refresh();
}

let asking = null;

/** Ask for a key, once for all who wait for it. */
function askForKey(wasWrong) {
  $("key-problem").textContent = wasWrong ? "The service does not know this key." : "";
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    dialog.oncancel = (cancel) => cancel.preventDefault(); // nothing works without one
    dialog.onclose = () => {
      asking = null;
      resolve($("key").value.trim());
      $("key").value = "";
      $("forget-key").hidden = false;
    };
    dialog.showModal();
  });
  return asking;
}

$("forget-key").hidden = !api.hasKey;
$("forget-key").onclick = () => {
  api.forgetKey();
  location.assign("/");
};
document.addEventListener("click", follow);
addEventListener("popstate", route);

// --- the beginning --------------------------------------------------------------------------------

try {
  ({ teams } = await api.teams());
  runs = new RunsList(api, teams);
  new StartForm(teams, start, (order) => {
    if (!watching) curl.show("start", { method: "POST", path: "/runs", body: order });
  });
  await route();
  await runs.refresh();
} catch (problem) {
  $("start-error").textContent = problem.message;
}
