"""Functions that the example team in `app/teams/text_review.yaml` uses: offline, deterministic.

They show all there is to a tool: types, a docstring, and, where a parameter's name does not say
enough, a description.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

_WORD: Final = re.compile(r"\w+(?:['’-]\w+)*")  # noqa: RUF001 - the typographic apostrophe
_SENTENCE_END: Final = re.compile(r"[.!?…]+(?=\W*(?:\s|$))")
_SHOWN: Final = 20


@dataclass(frozen=True)
class TextStatistics:
    """Counts of a text; the averages are rounded to one decimal, and 0 for a text without words."""

    characters: int
    words: int
    sentences: int
    paragraphs: int
    words_per_sentence: float
    letters_per_word: float


def text_statistics(text: Annotated[str, Field(description="The whole text.")]) -> TextStatistics:
    """Count the characters, words, sentences and paragraphs of a text, and how long they are."""
    words = _WORD.findall(text)
    sentences = len(_SENTENCE_END.findall(text)) or bool(words)
    return TextStatistics(
        characters=len(text),
        words=len(words),
        sentences=int(sentences),
        paragraphs=sum(bool(part.strip()) for part in re.split(r"\n\s*\n", text)),
        words_per_sentence=round(len(words) / max(sentences, 1), 1),
        letters_per_word=round(sum(map(len, words)) / max(len(words), 1), 1),
    )


def repeated_words(
    text: Annotated[str, Field(description="The whole text.")],
    min_letters: Annotated[int, Field(ge=1, description="Shorter words are not counted.")] = 4,
) -> dict[str, int]:
    """Tell which words of a text are used more than once, and how often; at most 20 of them."""
    counts = Counter(word for word in _WORD.findall(text.lower()) if len(word) >= min_letters)
    return {word: count for word, count in counts.most_common(_SHOWN) if count > 1}
