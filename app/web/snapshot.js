// A run's JSON told as a log, for the moments until its events are here: both look the same.
//
// What only events tell is missing: earlier turns, tool calls, thinking, who worked when.

import { AgentRun, Lane, Log, step } from "./log.js";

const STATE_OF = {
  pending: "waiting",
  running: "writing",
  cancelling: "stopping",
  completed: "done",
  cancelled: "stopped",
  error: "failed",
};

export function logOf(run, team) {
  const log = new Log(team);
  log.status = run.status;
  log.seq = run.last_event_id;
  log.startedAt = Date.parse(run.started_at ?? run.created_at);
  log.finishedAt = run.finished_at ? Date.parse(run.finished_at) : null;
  log.error = run.error;
  log.usage = run.usage;
  for (const member of run.members) tellMember(log, member);
  const leader = new AgentRun(run.run_id, log.leader);
  log.runs.set(run.run_id, leader);
  tell(leader, run);
  return log;
}

function tellMember(log, member) {
  const { run_id: id, agent_id: key, agent_name: name, task } = member;
  if (!log.lanes.has(key)) log.lanes.set(key, new Lane(key, { name, model: "" }));
  const run = new AgentRun(id, log.lanes.get(key));
  log.runs.set(id, run);
  run.add("task", task);
  tell(run, member);
  const [{ from: startedAt, to: finishedAt }] = run.lane.spans.slice(-1);
  const given = { from: log.leader.name, to: [name], task, startedAt, finishedAt };
  log.steps.set(id, step({ ...given, state: run.state }));
}

function tell(run, { status, content, error, started_at: from, finished_at: to }) {
  if (content) run.add("text", content);
  if (error) run.add("note", error.message);
  run.state = STATE_OF[status];
  if (from) {
    const span = { state: "writing", from: Date.parse(from), to: to ? Date.parse(to) : null };
    run.lane.spans.push(span);
  }
}
