"""Where an event's CPU goes: the service without its readers, and without its provider.

What is missing from the whole is what that side costs, its share of the event loop included. The
script's words are waited for by a timer each, so the provider's side is a little more than that.
A bare pipe for both sides is how far a replacement of the libraries there could go at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import Tally, ask, request
from tests.benchmarks.measures import SETTLE_S, Load, marked, streams
from tests.benchmarks.servers import PASSTHROUGH, Server, Target, serving
from tests.benchmarks.upstream import Plan, Upstream

_LOAD: Final = Load()
_SCRIPT: Final = """
pace_s: {pace_s}
agents:
  - turns:
      - - say: "{words}"
"""


async def of_an_event(bench: Bench, target: Target) -> None:
    """Measure the whole, each of the two lacks, and a pipe, in turn."""
    with TemporaryDirectory() as folder:
        script = Path(folder) / "words.yaml"
        words = "word " * int(_LOAD.rate * 30)
        script.write_text(_SCRIPT.format(pace_s=1 / _LOAD.rate, words=words.strip()), "utf-8")
        scripted = target.with_settings("no provider", MODEL=f"scripted:{script}")
        spent: dict[str, list[float]] = {}
        for _ in range(bench.rounds):
            for each, is_read in (
                (target, True),
                (target, False),
                (scripted, True),
                (PASSTHROUGH, True),
            ):
                name = each.name if is_read else "no reader"
                async with serving(each, bench.upstream.port) as server:
                    cost_us = await _cost_us(server, bench.upstream, is_read=is_read)
                    spent.setdefault(name, []).append(cost_us)
    bench.report.section("Parts of an event, 100 runs x 20 tokens a second")
    for name, values in spent.items():
        bench.report.add("CPU per event, in parts", name, "µs", values)
    whole, unread, unfed, pipe = spent.values()
    sides = {"readers' side": unread, "provider's side": unfed}
    for name, lacking in sides.items():
        part = [a - b for a, b in zip(whole, lacking, strict=True)]
        bench.report.add("of it", name, "µs", part)
    rest = [b + c - a for a, b, c in zip(whole, unread, unfed, strict=True)]
    bench.report.add("of it", "between them", "µs", rest)
    bound = [(middle + least) / least for middle, least in zip(rest, pipe, strict=True)]
    bench.report.add("with a pipe for both sides, beside the pipe", target.name, "x", bound)


async def _cost_us(server: Server, upstream: Upstream, *, is_read: bool) -> float:
    upstream.plan = Plan(rate=_LOAD.rate)
    async with (_read if is_read else _unread)(server, upstream):
        await asyncio.sleep(SETTLE_S)
        spent = server.cpu
        await asyncio.sleep(_LOAD.seconds)
        return (server.cpu - spent) / (_LOAD.runs * _LOAD.rate * _LOAD.seconds) * 1e6


@asynccontextmanager
async def _read(server: Server, upstream: Upstream) -> AsyncIterator[None]:
    tally = Tally(server.target.marker, server.target.final)
    async with streams(server, upstream, tally, _LOAD):
        yield


@asynccontextmanager
async def _unread(server: Server, upstream: Upstream) -> AsyncIterator[None]:
    for _ in range(_LOAD.runs):
        await ask(server.port, request("POST", "/runs", {"input": marked()[1]}))
    try:
        yield
    finally:
        upstream.release()
