"""A name server for one name, as Docker's answers for what several containers are called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Final, cast

_HEADER: Final = 12
_ANSWERED: Final = b"\x81\x80"
_ONE: Final = b"\x00\x01"
_ADDRESS_IN_1_S: Final = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04"
"""The name that was asked for, an IPv4 address, good for one second, four bytes long."""


class _Names(asyncio.DatagramProtocol):
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        self._transport.sendto(_answer(data, self._addresses), addr)


def _answer(query: bytes, addresses: Sequence[str]) -> bytes:
    question = query[_HEADER : query.index(b"\0", _HEADER) + 5]
    count = len(addresses).to_bytes(2, "big")
    header = query[:2] + _ANSWERED + _ONE + count + b"\0\0\0\0"
    answers = (_ADDRESS_IN_1_S + IPv4Address(address).packed for address in addresses)
    return header + question + b"".join(answers)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[int]:
    """Answer every question for a name with these addresses; yield the port, on 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Names(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
