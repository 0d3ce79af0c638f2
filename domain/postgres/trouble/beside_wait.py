"""Look at the server beside a wait for its answer, which may take as long as it takes."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Sent = TypeVar("Sent")
Said = TypeVar("Said")


class Looker(ABC):
    """Looks at something beside one wait."""

    @abstractmethod
    def look(self) -> None:
        """Called several times a second while nothing comes; what it raises ends the wait."""

    def heard(self) -> None:  # noqa: B027 - not everybody minds
        """Called when something has come, and the wait goes on."""


def looked_after(work: Generator[Said, Sent, T], *lookers: Looker) -> Generator[Said, Sent, T]:
    """The same generator of the library's: it is sent something several times a second."""
    sent = None
    while True:
        try:
            said = work.send(sent)  # type: ignore[arg-type]  # nothing, to begin with
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        sent = yield said
        for looker in lookers:
            if sent:
                looker.heard()
            else:
                looker.look()
