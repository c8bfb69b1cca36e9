"""Bodies that are being sent at the same time: what they may be together."""

from __future__ import annotations

import pytest

from app.api.uploads import Uploads
from app.domain.errors import Overloaded

pytestmark = pytest.mark.anyio


async def test_all_together_may_be_so_much_and_no_more() -> None:
    uploads = Uploads(max_bytes=100)
    with uploads.join() as one, uploads.join() as other:
        one.grow(60)
        other.grow(40)
        with pytest.raises(Overloaded):
            other.grow(1)


async def test_one_alone_may_be_as_long_as_another_limit_lets_it() -> None:
    uploads = Uploads(max_bytes=100)
    with uploads.join() as one:
        one.grow(10_000)


async def test_what_was_read_or_refused_no_longer_counts() -> None:
    uploads = Uploads(max_bytes=100)
    for _ in range(3):
        with uploads.join() as one, uploads.join() as other:
            one.grow(50)
            with pytest.raises(Overloaded):
                other.grow(51)
