"""The supervisor: it starts, watches, replaces and stops the child processes.

It knows nothing of what they do. HTTP workers share the listening sockets, which this process binds
and never reads from; the first worker that is ready listens. While one is being replaced,
connections wait in the backlog instead of being refused.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from api.server.heartbeat import EVERY_S, Pulse
from api.server.listening import is_listening, refuse

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 10.0
"""A child that lived this long is restarted after the first back-off again."""
LISTENING_EVERY_S = 0.02
LAST_GRACE_S = 5.0
"""For programs that are told to stop when the others have ended."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class Program:
    """What to run as a child.

    pass_fds: descriptors it inherits under the same numbers, besides the lifeline and its pulse's.
    pulse: of a program that beats; None for one that need not.
    is_last: the others need it until they have ended.
    """

    name: str
    argv: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()
    pulse: Pulse | None = None
    is_last: bool = False


class Supervisor:
    """Runs programs until it is told to stop, restarting those that end.

    Told by SIGTERM, SIGINT or SIGHUP, the last but where it is ignored, as nohup has it.

    lifeline_fd: read end of a pipe that ends when this process does, in whatever way; every child
    has it. grace_s: seconds from SIGTERM to SIGKILL. listeners: they refuse connections from
    the moment it stops, so that a load balancer asks elsewhere and nobody waits for what has ended.
    on_listening: called once a worker accepts from all of them.
    """

    def __init__(
        self,
        *,
        grace_s: float = 15.0,
        listeners: Sequence[socket.socket] = (),
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        self._grace_s = grace_s
        self._on_listening = on_listening
        self._listeners = listeners
        self.lifeline_fd, self._lifeline_write_fd = os.pipe()
        self._running: dict[subprocess.Popen[bytes], Program] = {}
        self._exits: dict[subprocess.Popen[bytes], asyncio.Future[int]] = {}
        # By whether a program is one of the last.
        self._stopping = {False: asyncio.Event(), True: asyncio.Event()}
        self._told: list[signal.Signals] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, programs: Sequence[Program]) -> int:
        """Return the exit code, 0, once all children are gone after a signal to stop.

        Such signals are taken from before there is an event loop, in which nothing may raise, and
        ignored from then on: a second one must not cut short how the process ends.
        """
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self._take)
        try:
            asyncio.run(self._run(programs))
        finally:
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)
        return 0

    def _take(self, number: int, _: object) -> None:
        self._told.append(signal.Signals(number))
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        while self._told:
            self._on_signal(self._told.pop(0))

    async def _run(self, programs: Sequence[Program]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._obey()  # what came before there was a loop
        watching = loop.create_task(self._watch())
        self._look_for_listening()
        try:
            async with asyncio.TaskGroup() as group:
                # The last come up first as well: the others need them.
                for program in sorted(programs, key=lambda program: not program.is_last):
                    group.create_task(self._keep_running(program))
                group.create_task(self._stop_the_last())
        finally:
            watching.cancel()
            self._signal(signal.SIGKILL)
            self._refuse()

    def _look_for_listening(self) -> None:
        if all(map(is_listening, self._listeners)):
            self._on_listening()
        elif not self._stopping[False].is_set():
            asyncio.get_running_loop().call_later(LISTENING_EVERY_S, self._look_for_listening)

    async def _watch(self) -> None:
        """Kill whoever has a pulse and no longer beats."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            await asyncio.sleep(EVERY_S)
            was_away, looked_at = loop.time() - looked_at > 2 * EVERY_S, loop.time()
            for process, program in self._running.items():
                if program.pulse is None:
                    continue
                if was_away:
                    program.pulse.excuse(looked_at)
                elif program.pulse.is_silent(looked_at):
                    _log.error("program does not answer", program=program.name, pid=process.pid)
                    process.kill()

    async def _keep_running(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        log = _log.bind(program=program.name)
        backoff_s, stopping = BACKOFF_FIRST_S, self._stopping[program.is_last]
        while not stopping.is_set():
            started_at = loop.time()
            exit_code = await self._run_once(program)
            lived_s = loop.time() - started_at
            if stopping.is_set():
                log.info("program stopped", exit_code=exit_code)
                return
            if lived_s >= HEALTHY_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            log.error(
                "program died",
                exit_code=exit_code,
                lived_s=round(lived_s, 3),
                restart_in_s=backoff_s,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), backoff_s)
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
        self._running[process] = program
        self._exits[process] = asyncio.get_running_loop().create_future()
        return await self._exits[process]

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        pulse_fds: tuple[int, ...] = ()
        if program.pulse is not None:
            program.pulse.expect(asyncio.get_running_loop().time())
            pulse_fds = (program.pulse.beat_fd,)
        return subprocess.Popen(  # noqa: S603 - the command lines are our own
            program.argv,
            pass_fds=(*program.pass_fds, *pulse_fds, self.lifeline_fd),
            # Ctrl-C reaches this process only, and children once: through it
            start_new_session=True,
        )

    def _reap(self) -> None:
        for process, exited in list(self._exits.items()):
            exit_code = process.poll()
            if exit_code is not None:
                del self._exits[process], self._running[process]
                exited.set_result(exit_code)

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stopping[False].is_set():
            # First of all: whoever is refused asks elsewhere; what nobody takes in is lost.
            self._refuse()
            self._stop(is_last=False, grace_s=self._grace_s)
            _log.info("stopping", signal=number.name)
        elif number == signal.SIGINT:
            self._stopping[True].set()
            self._signal(signal.SIGKILL)

    async def _stop_the_last(self) -> None:
        """Once the others have ended: what they were still answering needed the last."""
        await self._stopping[False].wait()
        while others := [self._exits[process] for process in self._of(is_last=False)]:
            await asyncio.wait(others)
        self._stop(is_last=True, grace_s=LAST_GRACE_S)

    def _stop(self, *, is_last: bool, grace_s: float) -> None:
        self._stopping[is_last].set()
        self._signal(signal.SIGTERM, is_last=is_last)
        loop = asyncio.get_running_loop()
        loop.call_later(grace_s, lambda: self._signal(signal.SIGKILL, is_last=is_last))

    def _refuse(self) -> None:
        for listener in self._listeners:
            refuse(listener)

    def _signal(self, number: signal.Signals, *, is_last: bool | None = None) -> None:
        for process in self._of(is_last=is_last):
            process.send_signal(number)

    def _of(self, *, is_last: bool | None) -> list[subprocess.Popen[bytes]]:
        """The processes that run, or those of one kind."""
        return [
            process
            for process, program in self._running.items()
            if is_last in {None, program.is_last}
        ]
