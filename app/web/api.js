// HTTP as the service's contract has it: JSON in, JSON out, problems as errors.
//
// Where the service asks for a key it is asked for once, kept in sessionStorage (this tab, until it
// is closed) and sent as a bearer token. It never becomes part of an address.

import { clock } from "./clock.js";

const KEY = "team-runs-key";

/** The service said no, or (status 0) could not be reached. `body` is its problem, `code` stable. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? "The service does not answer as it should.");
    this.status = status;
    this.code = body.code;
    this.body = body;
  }

  /** Everything that is wrong, in one line. */
  get sentence() {
    const flaws = (this.body.errors ?? []).map((one) => `${one.loc.slice(1).join(".")}: ${one.msg}`);
    return flaws.length ? flaws.join("; ") : this.message;
  }
}

export class Api {
  /** `askForKey(isWrong)` resolves to a key; `onAsked(request)` hears of what was asked. */
  constructor(askForKey, onAsked) {
    this.askForKey = askForKey;
    this.onAsked = onAsked;
  }

  get hasKey() {
    return sessionStorage.getItem(KEY) !== null;
  }

  forgetKey() {
    sessionStorage.removeItem(KEY);
  }

  teams() {
    return this.ask("GET", "/teams");
  }

  /** `query` has status, team, after; empty ones are left out. */
  runs(query) {
    const given = Object.entries(query).filter(([, value]) => value);
    return this.ask("GET", `/runs?${new URLSearchParams(given)}`.replace(/\?$/, ""));
  }

  run(id) {
    return this.ask("GET", `/runs/${encodeURIComponent(id)}`);
  }

  /** Start a run. The idempotency key makes it safe to ask again where the answer got lost. */
  async start(order) {
    const headers = { "Idempotency-Key": Array.from(randomBytes(16), hex).join("") };
    try {
      return await this.ask("POST", "/runs", order, headers);
    } catch (problem) {
      if (problem.status !== 0) throw problem;
      return this.ask("POST", "/runs", order, headers);
    }
  }

  /** Ask a run or a member run to stop; answers with it, `cancelling` as a rule. */
  stop(id) {
    return this.ask("DELETE", `/runs/${encodeURIComponent(id)}`);
  }

  async ask(method, path, body, headers = {}) {
    this.onAsked?.({ method, path, body });
    for (let isWrong = false; ; isWrong = true) {
      const sent = sessionStorage.getItem(KEY);
      const answer = await send(method, path, body, { ...headers, ...authorization(sent) });
      clock.learn(answer.headers.get("Date"));
      if (answer.status !== 401) return read(answer);
      // while we asked, another request may have been given the key
      if (sessionStorage.getItem(KEY) !== sent) continue;
      sessionStorage.setItem(KEY, await this.askForKey(isWrong && sent !== null));
    }
  }
}

const authorization = (key) => (key === null ? {} : { Authorization: `Bearer ${key}` });
const randomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));
const hex = (byte) => byte.toString(16).padStart(2, "0");

async function send(method, path, body, headers) {
  const options = { method, headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  try {
    return await fetch(path, options);
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "The service cannot be reached." });
  }
}

async function read(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}
