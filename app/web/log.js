// What a run's events say, folded: lanes, steps and figures. No page, no network, no clock.
//
// `new Log(team)`, and `apply(event)` for each event, in order.

const FINALS = ["RunCompleted", "RunCancelled", "RunError"];
const OTHERS = [
  "RunStarted",
  "RunContent",
  "ReasoningContentDelta",
  "ToolCallStarted",
  "ToolCallCompleted",
  "ModelRetry",
  "RunCancelRequested",
];

export const EVENT_NAMES = [...OTHERS, ...FINALS].flatMap((name) => [name, `Team${name}`]);
/** The events that end a team's run, and with it the log. */
export const FINAL_NAMES = new Set(FINALS.map((name) => `Team${name}`));
/** Whether an event ends the run, or the member run, that it is of. */
export const isFinalEvent = ({ event: name }) => FINALS.includes(name.replace(/^Team/, ""));

const RATE_WINDOW_MS = 3000;
const LEAST_RATE_MS = 500; // over less than that, tokens a second say nothing

/** Whether nothing more comes of a thing in this state. */
export const isOver = (state) => ["done", "stopped", "failed", "lost"].includes(state);

/** One agent's work on one task; of the leader, the whole run. */
export class AgentRun {
  constructor(id, lane) {
    this.id = id;
    this.lane = lane;
    this.state = "waiting";
    this.openCalls = new Set();
    this.usage = null;
    this.bytes = 0;
    this.piece = null;
    lane.runs.push(this);
  }

  /** What it wrote, in tokens; until the service tells, as the service estimates: bytes / 4. */
  get tokens() {
    return this.usage ? this.usage.output_tokens : Math.floor(this.bytes / 4);
  }

  become(state, at) {
    if (this.state === state || isOver(this.state)) return;
    if (this.state === "stopping" && !isOver(state)) return;
    this.state = state;
    this.lane.mark(at);
  }

  say(kind, text, turn) {
    if (this.piece?.kind !== kind || this.piece.turn !== turn) this.add(kind, "", turn);
    this.piece.text += text;
  }

  add(kind, text, turn = null) {
    this.piece = { kind, text, turn };
    this.lane.pieces.push(this.piece);
  }
}

/** Everything that one agent does in a run, whatever number of tasks it is given. */
export class Lane {
  constructor(key, { name, model }) {
    this.key = key;
    this.name = name;
    this.model = model;
    this.runs = [];
    /** `{kind, text, turn}`, kind is task, text, thinking or note; only the texts of open runs grow. */
    this.pieces = [];
    /** `{state, from, to}` in milliseconds since 1970; `to` is null while it lasts. */
    this.spans = [];
  }

  get openRuns() {
    return this.runs.filter((run) => !isOver(run.state));
  }

  get state() {
    return (this.openRuns.at(-1) ?? this.runs.at(-1))?.state ?? "waiting";
  }

  mark(at) {
    const last = this.spans.at(-1);
    if (last?.to === null) {
      if (last.state === this.state) return;
      last.to = at;
    }
    if (!isOver(this.state)) this.spans.push({ state: this.state, from: at, to: null });
  }
}

export class Log {
  constructor(team) {
    this.mode = team.mode;
    this.seq = 0;
    this.status = "pending";
    this.error = null;
    this.startedAt = null;
    this.finishedAt = null;
    this.usage = null;
    this.leader = new Lane("leader", { name: "Leader", model: team.model });
    this.lanes = new Map([["leader", this.leader]]);
    for (const member of team.members) this.lanes.set(member.id, new Lane(member.id, member));
    /** Delegations and tool calls, by the call's id; see `step`. */
    this.steps = new Map();
    this.runs = new Map();
    this.rates = [];
  }

  get isOver() {
    return ["completed", "cancelled", "error", "lost"].includes(this.status);
  }

  get tokens() {
    if (this.usage) return this.usage.output_tokens;
    return [...this.runs.values()].reduce((sum, run) => sum + run.tokens, 0);
  }

  get isEstimate() {
    return this.usage?.estimated ?? true;
  }

  /** Tokens a second: over the last three seconds before `now`; of a run that ended, over all. */
  rate(now) {
    if (this.isOver) return perSecond(this.tokens, this.finishedAt - this.startedAt);
    const recent = this.rates.filter((one) => one.at > now - RATE_WINDOW_MS);
    const since = Math.max(this.startedAt ?? now, now - RATE_WINDOW_MS);
    return perSecond(recent.reduce((sum, one) => sum + one.bytes, 0) / 4, now - since);
  }

  /** Take the next event. Names that are not known are passed over: the service may add some. */
  apply(event) {
    this.seq = event.seq;
    const isTeam = event.event.startsWith("Team");
    const run = this.#runOf(event, isTeam);
    const at = Date.parse(event.created_at);
    APPLY[isTeam ? event.event.slice(4) : event.event]?.(this, run, event, at);
    if (isTeam) this.#applyStatus(event, at);
  }

  /** The service does not know the run any more: nothing comes of what was open. */
  lose(at) {
    for (const run of this.runs.values()) run.become("lost", at);
    this.status = "lost";
    this.finishedAt = at;
  }

  #runOf(event, isTeam) {
    const known = this.runs.get(event.run_id);
    if (known) return known;
    const run = new AgentRun(event.run_id, isTeam ? this.leader : this.#laneOf(event));
    this.runs.set(run.id, run);
    return run;
  }

  #laneOf({ agent_id: id, agent_name: name }) {
    if (!this.lanes.has(id)) this.lanes.set(id, new Lane(id, { name, model: "" }));
    return this.lanes.get(id);
  }

  #applyStatus({ event: name, error, usage }, at) {
    const status = STATUS_AFTER[name];
    if (!status) return;
    this.status = status;
    if (name === "TeamRunStarted") this.startedAt = at;
    if (!FINAL_NAMES.has(name)) return;
    this.startedAt ??= at;
    this.finishedAt = at;
    this.usage = usage;
    this.error = error ?? null;
  }

  count(text, at) {
    const bytes = utf8Length(text);
    const last = this.rates.at(-1);
    if (last && at - last.at < 250) last.bytes += bytes;
    else this.rates.push({ at, bytes });
    return bytes;
  }
}

const perSecond = (tokens, ms) => tokens / (Math.max(LEAST_RATE_MS, ms) / 1000);

const STATUS_AFTER = {
  TeamRunStarted: "running",
  TeamRunCancelRequested: "cancelling",
  TeamRunCompleted: "completed",
  TeamRunCancelled: "cancelled",
  TeamRunError: "error",
};

const APPLY = {
  RunStarted(log, run, event, at) {
    run.lane.model = event.model;
    run.become("thinking", at);
    if (event.task === undefined) return;
    run.add("task", event.task);
    const step = log.steps.get(event.tool_call_id);
    if (!step) return;
    step.to.add(event.agent_name);
    step.task ||= event.task;
  },
  RunContent(log, run, event, at) {
    run.say("text", event.content, event.turn);
    run.become("writing", at);
    // where a run is routed, the leader repeats what its member writes
    if (log.mode !== "route" || run.openCalls.size === 0) run.bytes += log.count(event.content, at);
  },
  ReasoningContentDelta(log, run, event, at) {
    run.say("thinking", event.content, event.turn);
    run.become("thinking", at);
    run.bytes += log.count(event.content, at);
  },
  ToolCallStarted(log, run, event, at) {
    run.openCalls.add(event.tool_call_id);
    run.become("waiting", at);
    const from = { from: run.lane.name, startedAt: at };
    if (!event.tool_name.startsWith("delegate_task_to_member")) {
      const call = { ...from, tool: event.tool_name, task: event.arguments };
      log.steps.set(event.tool_call_id, step(call));
      return;
    }
    const { member_id: id, task } = readArguments(event.arguments);
    const to = log.lanes.has(id) ? [log.lanes.get(id).name] : [];
    log.steps.set(event.tool_call_id, step({ ...from, to, task }));
  },
  ToolCallCompleted(log, run, event, at) {
    run.openCalls.delete(event.tool_call_id);
    if (run.openCalls.size === 0) run.become("thinking", at);
    const step = log.steps.get(event.tool_call_id);
    if (!step) return;
    step.state = { completed: "done", cancelled: "stopped", error: "failed" }[event.status];
    step.finishedAt = at;
    step.result = event.result;
  },
  ModelRetry(_log, run, event) {
    const why = event.code.replaceAll("_", " ");
    run.add("note", `The model was not to be had (${why}); it is asked again in ${event.delay_s} s.`);
  },
  RunCancelRequested(log, run, _event, at) {
    const asked = run.lane === log.leader ? [...log.runs.values()] : [run];
    for (const one of asked) one.become("stopping", at);
  },
  RunCompleted: (_log, run, event, at) => finish(run, "done", event, at),
  RunCancelled: (_log, run, event, at) => finish(run, "stopped", event, at),
  RunError(_log, run, event, at) {
    run.add("note", event.error.message);
    finish(run, "failed", event, at);
  },
};

function finish(run, state, event, at) {
  // the team's usage is everybody's: of the leader alone only the estimate is known
  if (event.parent_run_id) run.usage = event.usage;
  run.become(state, at);
}

/** A step between lanes: `to` names who was given the task, `tool` is empty in a delegation. */
export function step({ from, to = [], tool = "", task = "", state = "working", startedAt, finishedAt }) {
  return { from, to: new Set(to), tool, task: String(task), result: null, state, startedAt, finishedAt };
}

/** A model may write anything as arguments; what cannot be read names nobody. */
function readArguments(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function utf8Length(text) {
  let bytes = 0;
  for (let place = 0; place < text.length; place++) {
    const unit = text.charCodeAt(place);
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit & 0xf800) === 0xd800 ? 2 : 3;
  }
  return bytes;
}
