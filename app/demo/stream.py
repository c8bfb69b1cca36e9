"""The events of a run as a client reads them: on, and on again, until the final one.

A stream that ends without a final event is not the end of the run: the reader asks again for what
comes after the last event it saw, as a browser's `EventSource` does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import httpx

from app.demo.transcript import Fact

MAX_BREAKS: Final = 10  # in a row, without one event in between
FINAL: Final = ("TeamRunCompleted", "TeamRunCancelled", "TeamRunError")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class RunStream:
    """The events of one run, over as many connections as it takes."""

    def __init__(self, client: httpx.Client, order: Mapping[str, Any]) -> None:
        self.run_id = ""
        self._client = client
        self._order = order
        self._cursor = 0
        self._retry_s = 2.0

    def events(self) -> Iterator[Fact | None]:
        """Yield `None` when the run has its id, then every event up to the final one."""
        breaks = 0
        while breaks < MAX_BREAKS:
            try:
                for event in self._connection():
                    yield event
                    breaks = 0
                    if event is not None and event["event"] in FINAL:
                        return
            except httpx.TransportError as error:
                if not self.run_id:
                    raise DemoFailed(f"no answer from {self._client.base_url}") from error
            breaks += 1
            time.sleep(self._retry_s)
        raise DemoFailed("the stream breaks off again and again, and the run has not ended")

    def _connection(self) -> Iterator[Fact | None]:
        with self._connect() as response:
            check(response)
            if not self.run_id:
                self.run_id = response.headers["X-Run-Id"]
                yield None
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "retry":
                    self._retry_s = int(value) / 1000
                elif field == "data":
                    event = json.loads(value)
                    self._cursor = event["seq"]
                    yield event

    def _connect(self) -> AbstractContextManager[httpx.Response]:
        if not self.run_id:
            return self._client.stream("POST", "/runs", json=self._order)
        place = {"Last-Event-ID": str(self._cursor), "Accept": "text/event-stream"}
        return self._client.stream("GET", f"/runs/{self.run_id}/events", headers=place)


def check(response: httpx.Response) -> None:
    """Raise `DemoFailed` unless an answer is a `200`."""
    if response.status_code == 200:
        return
    response.read()
    raise DemoFailed(f"the server answered {told(response)}")


def told(response: httpx.Response) -> str:
    """Say an answer's status, and what its body tells: a run's status, or a problem's detail."""
    try:
        body = response.json()
        what = body.get("detail") or body.get("status") or ""
    except (ValueError, AttributeError):
        what = ""
    return f"{response.status_code} {what}".strip()
