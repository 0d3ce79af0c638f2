"""Remember which keys of a view are stored, so that no batch sends their rows again for nothing.

Only for rows that leave a stored one as it is. The memory holds for one connection and until a
batch fails: what a transaction did not commit, or another database stores, is never taken for
stored.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final

from psycopg import Connection

from projections.kinds.row_per_key import RowPerKey

MAX_KNOWN: Final = 50_000
"""Keys of all views together; about 10 MB."""

_Keys = dict[tuple[str, int], set[Any]]
"""By the name and the version of the view."""


class StoredKeys:
    """Keys whose rows earlier batches have stored.

    max_known: how many it remembers before it starts anew.
    """

    def __init__(self, *, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._connection: Connection | None = None
        self._known: _Keys = defaultdict(set)
        self._sent: _Keys = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    @contextmanager
    def once_committed(self, connection: Connection) -> Iterator[None]:
        """Around a transaction: remembers what it sent when it has committed, else nothing."""
        if connection is not self._connection:
            self._forget()
            self._connection = connection
        try:
            yield
        except BaseException:
            self._forget()
            raise
        for view, keys in self._sent.items():
            self._known[view] |= keys
        self._sent.clear()
        if len(self) > self._max_known:
            self._forget()

    def to_send(self, projection: RowPerKey, version: int, rows: Sequence[Any]) -> Sequence[Any]:
        """Those of the rows, which leave a stored one as it is, whose key may not be stored;
        one of them in any case, so that a view without its table is noticed.
        """
        view = (projection.name, version)
        known, key_of = self._known[view], attrgetter(projection.key_column)
        sending = [row for row in rows if key_of(row) not in known] or rows[:1]
        self._sent[view].update(map(key_of, sending))
        return sending

    def _forget(self) -> None:
        self._known.clear()
        self._sent.clear()
