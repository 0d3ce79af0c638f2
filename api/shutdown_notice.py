"""Tell the application of a worker that it is stopping, while its last requests run."""

from collections.abc import Callable

_callbacks: list[Callable[[], None]] = []


def on_leave(callback: Callable[[], None]) -> None:
    """Have `callback` called, in the event loop, once the worker is told to leave."""
    _callbacks.append(callback)


def leave() -> None:
    """The worker takes no new connection from now on; requests that only wait should end."""
    for callback in _callbacks:
        callback()
