"""Who accepts a connection, among the workers of one listening socket: one that has the fewest.

The kernel gives it to whoever wakes first, on a busy machine to the same one again and again: of 32
of them one worker of two was seen to take 28. A gateway keeps its connections, so there they stay.

A courtesy and nothing more: a worker that does not come for a connection is not waited for.
"""

import asyncio
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from math import inf
from typing import Final

import structlog

from api.server.protocol import StrictHttpProtocol

PATIENCE_S: Final = 0.01
"""For how long a connection is left to the workers that have fewer."""

STEP_S: Final = 0.00005
"""How much of the processor they are given at a time, until one of them came."""

ABSENT_S: Final = 1.0
"""After which a worker that let one go is waited for again; sooner if its count changes."""

RETRY_S: Final = 0.1
"""After which nothing is accepted anew when descriptors or memory had run out."""

_SLOT_BYTES: Final = 4

_log = structlog.get_logger()


def new_counts(workers: int) -> int | None:
    """A descriptor of memory that workers share, for `Counts`;
    None where the kernel has no such thing.
    """
    if sys.platform != "linux":
        return None
    fd = os.memfd_create("connections")
    os.ftruncate(fd, workers * _SLOT_BYTES)
    return fd


class Counts:
    """How many connections each worker has, as told by itself.

    fd: of `new_counts`. worker_number: 1 to N.

    A slot holds one more than the connections of its worker, and 0 until that one is there.
    """

    def __init__(self, fd: int, worker_number: int) -> None:
        self._slots = memoryview(mmap.mmap(fd, 0)).cast("i")
        self._own = worker_number - 1

    def tell(self, connections: int) -> None:
        """What the others go by."""
        self._slots[self._own] = connections + 1

    def leave(self) -> None:
        """Accept no more."""
        self._slots[self._own] = 0

    def fewer_than(self, connections: int) -> Iterator[tuple[int, int]]:
        """The workers that have fewer, each with its slot, which changes with its count."""
        return ((index, slot) for index, slot in enumerate(self._slots) if 0 < slot <= connections)


class Acceptor:
    """A worker's part in it, from when it is made until `close`.

    make_protocol: for a connection. connections: those that protocols were made for, while they are
    open.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], StrictHttpProtocol],
        *,
        connections: Collection[object],
        counts: Counts,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._connections = connections
        self._counts = counts
        self._opening: dict[StrictHttpProtocol, asyncio.Task[None]] = {}
        self._left_since: dict[tuple[int, int], float] = {}  # loop time, by worker and what it has
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        counts.tell(0)
        self._listen()

    def close(self) -> None:
        """Accept no more."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        self._counts.leave()

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._come)

    def _come(self) -> None:
        own = len(self._connections) + sum(
            opening not in self._connections for opening in self._opening
        )
        self._counts.tell(own)
        if self._is_left(own):
            time.sleep(STEP_S)  # the loop comes back here at once, for as long as nobody took it
        elif (connection := self._accept()) is not None:
            self._counts.tell(own + 1)
            protocol = self._make_protocol()
            self._opening[protocol] = self._loop.create_task(self._open(connection, protocol))

    def _is_left(self, own: int) -> bool:
        """Whether a connection is left to others, at first.

        Among many, a difference of an eighth is none.
        """
        now = self._loop.time()
        self._left_since = {
            worker: since if now < (since := self._left_since.get(worker, -inf)) + ABSENT_S else now
            for worker in self._counts.fewer_than(own - own // 8)
        }
        return any(now < since + PATIENCE_S for since in self._left_since.values())

    def _accept(self) -> socket.socket | None:
        try:
            connection, _ = self._listener.accept()
        except (
            BlockingIOError,
            ConnectionAbortedError,
        ):  # another worker took it, or the client left
            return None
        except OSError as error:
            _log.error("accepts no connection", reason=error.strerror, again_in_s=RETRY_S)
            self._loop.remove_reader(self._listener)
            self._loop.call_later(RETRY_S, self._listen)
            return None
        connection.setblocking(False)
        return connection

    async def _open(self, connection: socket.socket, protocol: StrictHttpProtocol) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        finally:
            del self._opening[protocol]
        if self._is_closed:  # the server told those that were open to end, and not this one
            protocol.shutdown()
