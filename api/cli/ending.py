"""How a command ends that is told to: what was begun is ended, as after Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def end_when_told() -> None:
    """Raise SystemExit on a signal to end, but where it is ignored, as nohup has it."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


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
