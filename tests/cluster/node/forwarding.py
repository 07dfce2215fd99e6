"""Connections carried from one listening socket to another place, byte for byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 65_536  # bytes

Address = tuple[str, int]


async def forward(
    listener: socket.socket, dial: Callable[[], socket.socket], address: Address
) -> asyncio.Server:
    """Return a server that joins each connection of `listener` to one to `address`.

    `dial` makes the unconnected socket for it, in the network namespace where `address` is.
    """

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there = dial()
            there.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(there, address)
            except OSError:
                there.close()
                raise
            their_reader, their_writer = await asyncio.open_connection(sock=there)
            await asyncio.gather(_copy(reader, their_writer), _copy(their_reader, writer))
            their_writer.close()
        writer.close()

    return await asyncio.start_server(join, sock=listener)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends; an end is passed on, the other direction may go on."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()
