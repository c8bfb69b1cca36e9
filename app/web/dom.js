// Small helps for the page's elements.

export const $ = (id) => document.getElementById(id);

/** A copy of a template's one element. */
export const clone = (id) => $(id).content.firstElementChild.cloneNode(true);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A state as a word with a dot; the word is what counts, the colour only helps. */
export function showBadge(element, state) {
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  element.textContent = state;
}

const announcer = { waiting: [], timer: null };

/**
 * Tell people who hear the page what happened: states, never text as it is written. What comes
 * within a second is said in one go, the newest sentence on each subject only.
 */
export function announce(subject, sentence) {
  announcer.waiting = announcer.waiting.filter((one) => one.subject !== subject);
  announcer.waiting.push({ subject, sentence });
  announcer.timer ??= setTimeout(() => {
    $("announcer").textContent = announcer.waiting.map((one) => one.sentence).join(" ");
    Object.assign(announcer, { waiting: [], timer: null });
  }, 1000);
}
