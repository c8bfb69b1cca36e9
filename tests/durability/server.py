"""A Valkey that replicas reach by `redis://`, on the same port again after a restart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.stores.valkey import Valkey


class TcpValkey(Valkey):
    """Listens on a loopback port beside its socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port = _free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, and return when it answers on its port too."""
        super().start()
        self.do("CONFIG", "SET", "port", str(self._port))


@contextmanager
def tcp_valkey() -> Iterator[TcpValkey]:
    """Yield a new, empty server."""
    with TemporaryDirectory(prefix="valkey-") as folder:
        server = TcpValkey(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
