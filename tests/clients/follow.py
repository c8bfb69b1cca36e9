import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
from httpx_sse import ServerSentEvent, connect_sse


def follow(url: str) -> Iterator[ServerSentEvent]:
    cursor = "0"
    with httpx.Client(timeout=httpx.Timeout(10, read=60)) as client:  # a ping comes every 15 s
        while True:
            place = {"Last-Event-ID": cursor}
            with (
                suppress(httpx.TransportError),  # the connection broke, not the run
                connect_sse(client, "GET", url, headers=place) as source,
            ):
                if source.response.status_code == 204:
                    return  # everything was read
                source.response.raise_for_status()
                for event in source.iter_sse():
                    yield event
                    cursor = event.id
            time.sleep(2)
