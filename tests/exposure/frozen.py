"""Reads so many streams of one address, and takes nothing of them: its sockets fill, and stay full.

    python -m tests.exposure.frozen PORT COUNT PATH...

Says `ready` when every stream has begun, and then waits to be ended (or stopped by SIGSTOP).
"""

from __future__ import annotations

import signal
import socket
import sys
from itertools import cycle, islice


def open_stream(port: int, path: str) -> socket.socket:
    """Ask for a stream and read only that it begins."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def main(port: str, count: str, *paths: str) -> None:
    """Open the streams and wait."""
    streams = [open_stream(int(port), path) for path in islice(cycle(paths), int(count))]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.pause()
    del streams


if __name__ == "__main__":
    main(*sys.argv[1:])
