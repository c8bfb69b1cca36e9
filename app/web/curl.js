// What the page asked of the service, as commands for a shell: one of each kind, the newest.

import { $, clone, setText } from "./dom.js";

const KINDS = [
  ["teams", "Which teams are there?"],
  ["runs", "Which runs are there?"],
  ["start", "Start a run."],
  ["watch", "Watch it: everything from the first event, then live."],
  ["stop", "Stop it, or one member of it."],
  ["read", "Read its result."],
];

export class CurlCommands {
  #items = new Map();

  constructor(hasKey) {
    this.hasKey = hasKey;
  }

  /** Show a request; `kind` names one of the places above. */
  show(kind, request) {
    const item = this.#items.get(kind) ?? this.#add(kind);
    setText(item.querySelector("code"), command(request, this.hasKey()));
  }

  /** Show a request that the page made. */
  asked(request) {
    const kind = kindOf(request);
    if (kind) this.show(kind, request);
  }

  #add(kind) {
    const item = clone("curl-template");
    const order = KINDS.findIndex(([name]) => name === kind);
    const words = KINDS[order][1];
    item.dataset.order = order;
    setText(item.querySelector("p"), words);
    item.querySelector("pre").setAttribute("aria-label", words);
    const button = item.querySelector("button");
    button.setAttribute("aria-label", `Copy: ${words}`);
    button.onclick = () => copy(item.querySelector("code").textContent, button);
    this.#items.set(kind, item);
    const places = [...$("curl").querySelectorAll("li")];
    const behind = places.find((one) => Number(one.dataset.order) > order);
    $("curl").querySelector("ol").insertBefore(item, behind ?? null);
    return item;
  }
}

function kindOf({ method, path }) {
  if (method === "POST") return "start";
  if (method === "DELETE") return "stop";
  if (path === "/teams") return "teams";
  if (/^\/runs(\?|$)/.test(path)) return "runs";
  return /^\/runs\/[^/]+$/.test(path) ? "read" : null;
}

/** The key itself is never shown: the command takes it from the environment. */
function command({ method, path, body, isStream }, hasKey) {
  const words = ["curl"];
  if (isStream) words.push("-N");
  if (method === "DELETE") words.push("-X DELETE");
  if (hasKey) words.push('-H "Authorization: Bearer $TEAM_RUNS_KEY"');
  if (body) words.push("--json", quoted(JSON.stringify(body)));
  words.push(quoted(location.origin + path));
  return words.join(" ");
}

const quoted = (text) => (/^[\w/:.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling); // then Ctrl + C does it
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
