"""Look at the server beside a wait for its answer, which may take as long as it takes."""

from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Sent = TypeVar("Sent")
Said = TypeVar("Said")


def looked_after(
    work: Generator[Said, Sent, T], *looks: Callable[[], None]
) -> Generator[Said, Sent, T]:
    """The same generator of the library's: it is sent something several times a second.

    looks: called each time that nothing has come; what one raises ends the wait.
    """
    sent = None
    while True:
        try:
            said = work.send(sent)  # type: ignore[arg-type]  # nothing, to begin with
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        sent = yield said
        if not sent:
            for look in looks:
                look()
