"""The parent process: keeps a handful of child processes alive, and takes them down with it.

It knows nothing of what they do. HTTP workers share one listening socket, which this process opens and never
reads from: while a worker is being replaced, connections wait in its backlog instead of being refused.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 10.0
"""A child that lived this long is restarted after the first back-off again."""

_log = structlog.get_logger()


class ListenError(Exception):
    """The address cannot be served; the text says why, for an operator."""


def listen(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """Return an inheritable listening socket, IPv4 or IPv6 as the host asks; port 0 takes a free one.

    Raises ListenError.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"port {port} on {host} is in use") from error
        raise ListenError(f"cannot listen on port {port} of {host}: {error.strerror}") from error
    listener.set_inheritable(True)
    return listener


@dataclass(frozen=True)
class Program:
    """What to run as a child.

    pass_fds: descriptors it inherits under the same numbers, besides the lifeline.
    """

    name: str
    argv: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()


class Supervisor:
    """Runs programs until SIGTERM or SIGINT, restarting those that end.

    lifeline_fd: read end of a pipe that ends when this process does, in whatever way; every child has it.
    grace_s: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, *, grace_s: float = 15.0) -> None:
        self._grace_s = grace_s
        self.lifeline_fd, self._lifeline_write_fd = os.pipe()
        self._exits: dict[subprocess.Popen[bytes], asyncio.Future[int]] = {}
        self._stopping = asyncio.Event()

    def run(self, programs: Sequence[Program]) -> int:
        """Return the exit code, 0, once all children are gone after a signal to stop."""
        asyncio.run(self._run(programs))
        return 0

    async def _run(self, programs: Sequence[Program]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    group.create_task(self._keep_running(program))
        finally:
            self._signal_all(signal.SIGKILL)

    async def _keep_running(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        log = _log.bind(program=program.name)
        backoff_s = BACKOFF_FIRST_S
        while True:
            started_at = loop.time()
            exit_code = await self._run_once(program)
            lived_s = loop.time() - started_at
            if self._stopping.is_set():
                log.info("program stopped", exit_code=exit_code)
                return
            if lived_s >= HEALTHY_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            log.error("program died", exit_code=exit_code, lived_s=round(lived_s, 3), restart_in_s=backoff_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
                return
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _run_once(self, program: Program) -> int | None:
        """Return the exit code, negative for a signal; None if the program could not be started."""
        try:
            process = self._start(program)
        except OSError as error:
            _log.error("program did not start", program=program.name, reason=error.strerror)
            return None
        _log.info("program started", program=program.name, pid=process.pid)
        self._exits[process] = asyncio.get_running_loop().create_future()
        return await self._exits[process]

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the command lines are our own
            program.argv,
            pass_fds=(*program.pass_fds, self.lifeline_fd),
            start_new_session=True,  # Ctrl-C reaches this process only, and children once: through it
        )

    def _reap(self) -> None:
        for process, exited in list(self._exits.items()):
            exit_code = process.poll()
            if exit_code is not None:
                del self._exits[process]
                exited.set_result(exit_code)

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            if number == signal.SIGINT:
                self._signal_all(signal.SIGKILL)
            return
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._grace_s, self._signal_all, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._exits:
            process.send_signal(number)
