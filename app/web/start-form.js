// Choosing a team, writing an input, starting a run.

import { $ } from "./dom.js";

const MODES = {
  coordinate: "The leader gives its members tasks, then answers.",
  route: "The leader hands the input to the member that fits best.",
  broadcast: "All members work on it side by side, then the leader answers.",
};

export class StartForm {
  /** `onStart(order)` starts a run; `onChange(order)` hears what Start would ask for. */
  constructor(teams, onStart, onChange) {
    this.teams = teams;
    this.onStart = onStart;
    this.onChange = onChange;
    $("team").append(...teams.map((team) => new Option(team.name, team.id)));
    $("team").onchange = () => this.#changed();
    $("input").oninput = () => this.#changed();
    $("input").onkeydown = (press) => {
      if (press.key === "Enter" && (press.ctrlKey || press.metaKey)) $("start").requestSubmit();
    };
    $("start").onsubmit = (submit) => {
      submit.preventDefault();
      this.#start();
    };
    this.#changed();
  }

  get order() {
    return { team: $("team").value, input: $("input").value };
  }

  async #start() {
    const button = $("start").querySelector("button");
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", true);
    $("start-error").textContent = "";
    try {
      await this.onStart(this.order);
    } catch (problem) {
      $("start-error").textContent = problem.sentence ?? String(problem);
    } finally {
      button.setAttribute("aria-disabled", false);
    }
  }

  #changed() {
    const team = this.teams.find((one) => one.id === $("team").value);
    $("about-team").replaceChildren(...(team ? about(team) : []));
    this.onChange(this.order);
  }
}

function about({ description, mode, model, members }) {
  const list = element("ul");
  list.append(agent("Leader", model), ...members.map((one) => agent(one.name, one.model, one.description)));
  return [element("p", description), element("p", `${mode}: ${MODES[mode] ?? ""}`), list];
}

function agent(name, model, description = "") {
  const item = element("li");
  item.title = description;
  item.append(element("span", name), " ", element("small", model));
  return item;
}

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
