"""How a command ends: told to, what was begun is ended, as after Ctrl-C; where nobody reads what it
says any more, it goes on to its end.
"""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_HOW: Final = ("encoding", "errors", "line_buffering", "write_through")


def end_when_told() -> None:
    """Raise SystemExit on a signal to end, but where it is ignored, as nohup has it."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


class _MayBeLeft(io.TextIOWrapper):
    """A stream whose reader may leave, as `head` does: what it is given then goes nowhere.

    No mistake, and no end: a command's exit code says what it has found, whoever reads the rest.
    """

    def write(self, text: str, /) -> int:
        """As of any stream."""
        try:
            return super().write(text)
        except BrokenPipeError:
            to_nobody(self.fileno())
            return len(text)

    def flush(self) -> None:
        """As of any stream."""
        try:
            super().flush()
        except BrokenPipeError:
            to_nobody(self.fileno())


class _MayFail(_MayBeLeft):
    """Standard error: what cannot be written, as on a full disk, is left out.

    It says what happens, and is no part of it: neither a service nor a command ends for its sake.
    """

    def write(self, text: str, /) -> int:
        """As of any stream."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with suppress(OSError):
            super().flush()


def let_readers_leave() -> None:
    """From now on, of standard output and standard error."""
    for name, kind in (("stdout", _MayBeLeft), ("stderr", _MayFail)):
        stream = getattr(sys, name)
        if stream is not None:
            how = {each: getattr(stream, each) for each in _HOW}
            setattr(sys, name, kind(stream.buffer, **how))


def to_nobody(descriptor: int) -> None:
    """What is still buffered goes nowhere; the interpreter would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, with an end as on Ctrl-C: the work is cancelled.

    What a signal raises ends the task in which it comes. Where nobody waits for that one, such as
    a queue's, nobody takes its exception, and asyncio prints it with a traceback.
    """
    told: list[int] = []

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int, _: object) -> None:
            told.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with _instead_of_an_end(cancel):
            return await work

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        if told:
            sys.exit(128 + told[0])
        raise


@contextmanager
def _instead_of_an_end(handler: Callable[[int, object], None]) -> Iterator[None]:
    held = [number for number in ENDING if signal.getsignal(number) is _end]
    for number in held:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
