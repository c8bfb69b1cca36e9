"""How the writer of an SQLite file gathers what is to be written."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from app.stores.sqlite_rows import touch
from app.stores.sqlite_schema import open_for_writing
from app.stores.sqlite_writer import Writer

pytestmark = pytest.mark.anyio


async def test_what_comes_right_behind_a_transaction_shares_the_next(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    commits: list[str] = []
    connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )
    writer = Writer(connection)
    await writer.run(touch)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(writer.run, touch)
            await anyio.lowlevel.checkpoint()  # in a turn of the event loop of its own
    assert 2 <= len(commits) <= 10
    await writer.close()
    connection.close()
