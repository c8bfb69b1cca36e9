"""One run as a client sees it: read in one thread, cancelled from another, summed up at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from app.demo.stream import DemoFailed, RunStream, check, told
from app.demo.transcript import Transcript, shorten

PREVIEW: Final = 200


class Watch:
    """A run that was ordered with the JSON body `order`; its methods run in several threads."""

    def __init__(
        self, client: httpx.Client, transcript: Transcript, order: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._order = order
        self._transcript = transcript
        self._started = threading.Event()
        self._over = threading.Event()
        self._run_id = ""
        self._asked_at: float | None = None
        self._took_s: float | None = None
        self._failure: Exception | None = None

    @property
    def has_started(self) -> bool:
        """Whether the run has its id."""
        return bool(self._run_id)

    def read(self) -> None:
        """Start the run and print its events until it is over."""
        stream = RunStream(self._client, self._order)
        try:
            for event in stream.events():
                if event is not None:
                    self._transcript.show(event)
                else:
                    self._run_id = stream.run_id
                    self._transcript.note(
                        f"run {self._run_id}: {shorten(self._order['input'], 90)}"
                    )
                    self._started.set()
        except Exception as error:  # told by `summarize`, in the main thread
            self._failure = error
        finally:
            self._took_s = time.monotonic() - self._asked_at if self._asked_at else None
            self._over.set()
            self._started.set()

    def cancel_after(self, delay_s: float) -> None:
        """Wait, counted from the run's start, then cancel it; not if it is over before."""
        self._started.wait()
        if not self._over.wait(delay_s):
            self.cancel("team-runs demo")

    def cancel(self, reason: str) -> None:
        """Ask the server to stop the run, and print what it answers."""
        self._transcript.note(f"→ DELETE /runs/{self._run_id}")
        self._asked_at = time.monotonic()
        try:
            answer = self._client.delete(f"/runs/{self._run_id}", params={"reason": reason})
        except httpx.TransportError:
            self._transcript.note("← no answer")
        else:
            self._transcript.note(f"← {told(answer)}")

    def wait_until_over(self, timeout_s: float = float("inf")) -> None:
        """Return when the run has ended, or the time is over; show signs of life meanwhile.

        Raises `BrokenPipeError` when nobody reads them.
        """
        deadline = time.monotonic() + timeout_s
        while not self._over.wait(0.25) and time.monotonic() < deadline:
            self._transcript.tick()

    def summarize(self) -> str:
        """Print how it went; return the run's status. Raises `DemoFailed` when reading failed."""
        if isinstance(self._failure, DemoFailed):
            raise self._failure
        if self._failure is not None:
            raise DemoFailed(f"{type(self._failure).__name__} while reading the stream")
        run = self._final_run()
        lines = {
            "status": run["status"],
            "run": run["run_id"],
            "cancelled": "yes" if run["status"] == "cancelled" else "no",
            "cancel took": f"{self._took_s:.3f} s" if self._took_s is not None else "",
            "tokens": _tokens(run["usage"]),
            "content": preview(run),
        }
        self._transcript.note("")
        for label, value in lines.items():
            if value:
                self._transcript.note(f"{label:12} {value}")
        return str(run["status"])

    def _final_run(self) -> dict[str, Any]:
        try:
            answer = self._client.get(f"/runs/{self._run_id}")
            check(answer)
        except httpx.TransportError as error:
            raise DemoFailed("no answer to the question how the run ended") from error
        run: dict[str, Any] = answer.json()
        return run


def preview(run: Mapping[str, Any]) -> str:
    """Return the leader's text, or that of the last member that spoke, with its name."""
    if run["content"]:
        return shorten(run["content"], PREVIEW)
    for member in reversed(run["members"]):
        if member["content"]:
            return f"({member['agent_name']}) {shorten(member['content'], PREVIEW)}"
    return "(none yet)"


def _tokens(usage: Mapping[str, Any]) -> str:
    about = "about " if usage["estimated"] else ""
    return (
        f"{about}{usage['total_tokens']} ({usage['input_tokens']} in, {usage['output_tokens']} out)"
    )
