"""Logs are cut at frames, wherever they lie."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from app.domain.events import Origin, RunContent, encode
from app.stores.pages import Tail, page_of, split

WHO = Origin("run", "team", "Team")
FRAMES = [encode(n, "now", WHO, RunContent("x\n\n" * (n % 4), 1)).frame for n in range(1, 31)]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    after=st.integers(0, 45),
    limit=st.integers(0, 3000),
    kept=st.integers(0, 4000),
)
def test_file_and_memory_give_the_same_pages(
    sizes: list[int], after: int, limit: int, kept: int
) -> None:
    ends = [min(end, len(FRAMES)) for end in accumulate(sizes)]
    begins = [0, *ends[:-1]]
    tail, written = Tail(), FRAMES[: ends[-1]]
    for begin, end in zip(begins, ends, strict=True):
        tail.add(FRAMES[begin:end], kept)
    assert tail.size <= max(kept, sum(map(len, FRAMES[begins[-1] : ends[-1]])))
    assert tail.reaches(len(written))
    behind = [
        (begin + 1, b"".join(FRAMES[begin:end]))
        for begin, end in zip(begins, ends, strict=True)
        if end > after and end > begin
    ]
    frames, last = page_of(behind, after, limit)
    assert frames == b"".join(written[after:last])
    assert (last > after) == (after < len(written))
    assert len(split(frames)) == last - after
    assert len(b"".join(split(frames)[:-1])) < max(limit, 1)
    if tail.reaches(after):
        assert tail.page(after, limit) == (frames, last)
