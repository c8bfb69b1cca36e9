"""What Chromium's own EventSource makes of our streams: the ground the page stands on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Page

from app.api.readers import Readers
from tests import laws
from tests.api.serving import Served, services_for, serving
from tests.browser import waiting
from tests.browser.logs import HandMade, hand_made
from tests.browser.seen import holds
from tests.browser.wire import Wire, wired
from tests.runtime.playing import Cast, saying

pytestmark = [pytest.mark.anyio, pytest.mark.system]

CONNECTING, CLOSED = 0, 2

LISTEN = """async (path) => {
    const { EVENT_NAMES } = await import('/assets/log.js');
    const heard = { events: [], states: [], others: 0 };
    const source = new EventSource(path);
    for (const name of EVENT_NAMES) {
        source.addEventListener(name, (message) => {
            heard.events.push({ id: message.lastEventId, name, data: message.data });
        });
    }
    source.onmessage = () => heard.others++;
    const note = (what) => () => heard.states.push([what, source.readyState, performance.now()]);
    source.onopen = note('open');
    source.onerror = note('error');
    window.heard = heard;
}"""


async def listen(page: Page, url: str, run_id: str, query: str = "") -> None:
    """Open the page for its origin, and an EventSource of our own on it."""
    await page.goto(url)
    await page.evaluate(LISTEN, f"/runs/{run_id}/events{query}")


async def until(page: Page, condition: str) -> dict[str, Any]:
    """Wait until a condition of what was heard holds; return that."""
    await holds(page, f"(({{ events, states }}) => {condition})(window.heard)")
    heard: dict[str, Any] = await page.evaluate("window.heard")
    return heard


async def a_run(served: Served) -> HandMade:
    return await hand_made(served.services.store)


def gaps_ms(heard: dict[str, Any]) -> list[float]:
    """How long each reconnect was waited for."""
    states = heard["states"]
    return [
        after[2] - before[2]
        for before, after in pairwise(states)
        if (before[0], after[0]) == ("error", "open")
    ]


async def test_ids_names_and_data_arrive_as_they_were_written(page: Page) -> None:
    async with serving(Cast(saying("A ", "tale.\n\nid: 7\r\n\u2028\x00"))) as served:
        run = await served.finish()
        await listen(page, f"http://localhost:{served.port}", run["run_id"])
        heard = await until(page, f"events.length >= {run['last_event_id']}")
        log = laws.parse((await served.client.get(run["links"]["events"])).content)
        told = [(event["id"], event["name"]) for event in heard["events"]]
        assert told == [(str(event["seq"]), event["event"]) for event in log]
        assert heard["others"] == 0


async def test_the_retry_ahead_of_the_first_event_counts_before_any_event_came(page: Page) -> None:
    async with serving() as served, wired(served.port) as wire:
        run = await a_run(served)
        wire.cut_streams_behind(b": ok\n")
        await listen(page, wire.url, run.run_id)
        heard = await until(page, "states.length >= 3")
        assert [state[:2] for state in heard["states"]] == [["open", 1], ["error", 0], ["open", 1]]
        assert 1900 < gaps_ms(heard)[0] < 2900, "Chromium's own is 3000"


async def test_pings_are_no_events(page: Page) -> None:
    services = services_for(Cast(saying("Hm.")), readers=Readers(heartbeat_s=0.05))
    async with serving(services=services) as served, wired(served.port) as wire:
        run = await a_run(served)
        run.begin()
        await listen(page, wire.url, run.run_id)
        await waiting.until(lambda: wire.received.count(b": ping\n") >= 5)
        run.write(1)
        heard = await until(page, "events.length >= 4")
        assert [event["id"] for event in heard["events"]] == ["1", "2", "3", "4"]
        assert heard["others"] == 0
        assert len(heard["states"]) == 1


async def test_the_soft_answer_is_waited_out_with_the_cursor_kept(page: Page) -> None:
    services = services_for(Cast(saying("Hm.")), readers=Readers(max_readers=1))
    async with serving(services=services) as served, wired(served.port) as wire:
        run = await a_run(served)
        run.begin()
        await listen(page, wire.url, run.run_id)
        await until(page, "events.length >= 3")
        wire.cut()
        await waiting.until(lambda: services.readers.count == 0)
        async with served.client.stream("GET", f"/runs/{run.run_id}/events"):
            wire.mend()
            await until(page, "states.filter(([what]) => what === 'open').length >= 2")
        run.write(2)
        heard = await until(page, "events.length >= 5")
        assert [event["id"] for event in heard["events"]] == ["1", "2", "3", "4", "5"]
        assert 4800 < gaps_ms(heard)[-1] < 7000, "the soft answer says 5000"
        assert b"last-event-id: 3" in wire.requests[-1].lower()
        assert b": busy\n" in wire.received


async def test_a_204_behind_the_final_event_ends_it(page: Page) -> None:
    async with serving(Cast(saying("Done."))) as served, wired(served.port) as wire:
        run = await served.finish()
        await listen(page, wire.url, run["run_id"])
        heard = await until(page, f"states.at(-1)?.[1] === {CLOSED}")
        assert [event["id"] for event in heard["events"]] == ["1", "2", "3"]
        assert len(wire.requests) == 2
        assert b"last-event-id: 3" in wire.requests[-1].lower()


async def test_a_cut_in_the_middle_of_a_frame_costs_nothing_and_repeats_nothing(page: Page) -> None:
    async with serving() as served, wired(served.port) as wire:
        run = await a_run(served)
        run.begin()
        run.write(3)
        wire.cut_streams_behind(b"id: 2", b'"seq":3,"run_', b'"turn":1}\n')
        await listen(page, wire.url, run.run_id)
        await until(page, "events.length >= 3")
        run.write(2)
        heard = await until(page, "events.length >= 8")
        assert [event["id"] for event in heard["events"]] == [str(seq) for seq in range(1, 9)]
        # what came in the same moment as a cut may be lost with it, so whole frames are read again
        places = [int(cursor or 0) for cursor in cursors(wire)]
        assert len(places) == 4
        assert places == sorted(places)
        assert places[0] < places[-1]


def cursors(wire: Wire) -> list[bytes | None]:
    found = []
    for request in wire.requests:
        _, is_there, rest = request.lower().partition(b"last-event-id: ")
        found.append(rest.split(b"\r\n")[0] if is_there else None)
    return found


async def test_a_refusal_closes_it_for_ever_which_is_why_the_page_asks_why(page: Page) -> None:
    async with serving() as served:
        await listen(
            page, f"http://localhost:{served.port}", "00000000-0000-4000-8000-000000000000"
        )
        heard = await until(page, "states.length >= 1")
        assert heard["states"][0][:2] == ["error", CLOSED]
