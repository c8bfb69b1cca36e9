"""`team-runs demo`: a run, and its cancellation, end to end over real HTTP.

One thread starts a run and prints its stream; another waits and sends `DELETE /runs/{run_id}`. The
demo is a client as anybody would write one: it knows the contract and nothing of the service's
inside. The server, unless `--url` names one, is a process of its own.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Final, NoReturn

import httpx

from app.demo.server import local_server
from app.demo.stream import DemoFailed
from app.demo.transcript import Transcript
from app.demo.watch import Watch

DEFAULT_INPUT: Final = "Write a short story about a dragon who learns to code."
DEFAULT_DELAY_S: Final = 8.0
SETTLE_TIMEOUT_S: Final = 30
_NO_ADDRESS: Final = "--url is not an address such as http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `delay_s` is `None` when the run is not to be cancelled."""

    input: str = DEFAULT_INPUT
    team: str | None = None
    url: str | None = None
    key: str | None = None
    delay_s: float | None = DEFAULT_DELAY_S

    @property
    def order(self) -> dict[str, object]:
        """The body of `POST /runs`."""
        return {"input": self.input, "stream": True} | ({"team": self.team} if self.team else {})


def run_demo(options: Options) -> int:
    """Run the demo; return the exit status: 0 when the run ended as asked, 1 when not.

    Ctrl-C cancels the run, and the status is 130. Raises `ConfigurationError` when the server does
    not start because of a setting, a missing model included; and `BrokenPipeError`, the run
    cancelled, when nobody reads the output any more.
    """
    _take_signals()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a story may not fit a plain terminal
    transcript = Transcript(sys.stdout)
    try:
        with _server(options, transcript) as url, _client(options, url) as client:
            return _watch_and_cancel(Watch(client, transcript, options.order), transcript, options)
    except DemoFailed as error:
        transcript.note(f"team-runs demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _take_signals() -> None:
    """Have Ctrl-C and SIGTERM unwind, so that the server is ended; a shell may ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _server(options: Options, transcript: Transcript) -> AbstractContextManager[str]:
    return nullcontext(options.url) if options.url else local_server(transcript)


@contextmanager
def _client(options: Options, url: str) -> Iterator[httpx.Client]:
    if options.key and not options.key.isascii():
        raise DemoFailed("--key has characters that no key has")
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    timeout = httpx.Timeout(10, read=60)  # a stream is never silent for longer: it sends pings
    through_proxy = options.url is not None
    try:
        client = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, trust_env=through_proxy
        )
    except httpx.InvalidURL as error:
        raise DemoFailed(_NO_ADDRESS) from error
    with client:
        if client.base_url.scheme not in ("http", "https"):
            raise DemoFailed(_NO_ADDRESS)
        yield client


def _watch_and_cancel(watch: Watch, transcript: Transcript, options: Options) -> int:
    reader = threading.Thread(target=watch.read, daemon=True)
    canceller = threading.Thread(target=watch.cancel_after, args=[options.delay_s], daemon=True)
    threads = [reader] if options.delay_s is None else [reader, canceller]
    for thread in threads:
        thread.start()
    try:
        watch.wait_until_over()
        for thread in threads:
            thread.join(SETTLE_TIMEOUT_S)
    except BrokenPipeError:
        if watch.has_started:
            watch.cancel("the output is read no further")
        raise
    except KeyboardInterrupt:
        if watch.has_started:
            watch.cancel("Ctrl-C")
            watch.wait_until_over(SETTLE_TIMEOUT_S)
            watch.summarize()
        raise
    exit_status, sentence = verdict(watch.summarize(), options.delay_s is not None)
    transcript.note(sentence)
    return exit_status


def verdict(status: str, is_to_be_cancelled: bool) -> tuple[int, str]:
    """Judge a run's final status: the exit status, and a sentence."""
    wanted = "cancelled" if is_to_be_cancelled else "completed"
    if status == wanted:
        return 0, f"The run was {wanted}, as asked."
    if status == "completed":
        return 1, "The run completed before it could be cancelled: try a shorter --delay."
    return 1, f"The run was to be {wanted}, but its status is {status}."
