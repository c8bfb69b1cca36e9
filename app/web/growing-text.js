// A model's text on the page: text nodes only, so that whatever it writes stays text.
//
// The text is laid out in blocks of about BLOCK characters, each ending where a line ends, since the
// browser lays the whole of a block out again whenever something is appended to it. The blocks'
// `textContent`, put together, is the text, character for character.

const BLOCK = 2_000;

export class GrowingText {
  #length = 0;
  #tail = null;

  constructor(parent, kind) {
    this.element = document.createElement("div");
    this.element.className = `piece ${kind}`;
    parent.append(this.element);
  }

  /** Show the text; it only ever grows. */
  draw(text) {
    let rest = text.slice(this.#length);
    this.#length = text.length;
    while (rest) {
      if (!this.#tail || isFull(this.#tail.data)) this.#tail = this.#newBlock();
      const end = blockEnd(rest, this.#tail.length);
      this.#tail.appendData(rest.slice(0, end));
      rest = rest.slice(end);
    }
  }

  #newBlock() {
    const block = document.createElement("p");
    const text = new Text();
    block.append(text);
    this.element.append(block);
    return text;
  }
}

const isFull = (data) =>
  data.length >= BLOCK && (data.endsWith("\n") || (data.length >= 3 * BLOCK && data.endsWith(" ")));

/** Where a block that holds `filled` characters ends: behind a newline, or late behind a space. */
function blockEnd(text, filled) {
  const newline = text.indexOf("\n", Math.max(0, BLOCK - filled - 1));
  const space = text.indexOf(" ", Math.max(0, 3 * BLOCK - filled - 1));
  const ends = [newline, space].filter((place) => place >= 0);
  return ends.length ? Math.min(...ends) + 1 : text.length;
}
