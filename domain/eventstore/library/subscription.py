"""The library's subscription to the notification log, which asks the log again and again.

The library's own waits for NOTIFY, which no append of ours sends: it would yield what there is and
then nothing for good.
"""

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Final

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

POLL_S: Final = 0.05
SELECTED: Final = 500
"""Notifications at a time."""


class PollingSubscription(Subscription[ApplicationRecorder]):
    """Every notification after a position in commit order, and those to come until it is stopped.

    gt: the last position seen, None for the start. topics: none for all.
    """

    def __init__(
        self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()
    ) -> None:
        super().__init__(recorder, gt=gt, topics=topics)
        self._unread: Iterator[Notification] = iter(())
        self._stopped = Event()

    def stop(self) -> None:
        """End the iteration, of whichever thread."""
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        """The next notification; waits for it. Raises what the recorder raises."""
        while not self._stopped.is_set():
            notification = next(self._unread, None)
            if notification is not None:
                self._last_notification_id = notification.id
                return notification
            found = self._recorder.select_notifications(
                start=self._last_notification_id or 0,
                limit=SELECTED,
                topics=self._topics,
                inclusive_of_start=False,
            )
            self._unread = iter(found)
            if not found:
                self._stopped.wait(POLL_S)
        raise StopIteration
