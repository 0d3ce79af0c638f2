"""The instruments of one process, on its page."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from time import monotonic_ns
from typing import Any, Final

from api.telemetry import catalogue
from api.telemetry.catalogue import (
    FIRST_CELLS,
    OUTCOMES,
    REQUEST_DURATION,
    REQUESTS,
    ROUTES,
    STATUSES,
    Metric,
)
from api.telemetry.logs import log_answer, log_refusal
from api.telemetry.pages import Pages
from api.telemetry.routes import route_of
from domain.instruments import (
    BatchTracer,
    Cells,
    Counter,
    Gauge,
    Histogram,
    LaneInstruments,
    LedgerInstruments,
    ReadInstruments,
)

KEY: Final = "instruments"
"""Where the application puts its instruments into the state of the ASGI lifespan."""

_BOUNDS: Final = REQUEST_DURATION.bounds
_SUM: Final = len(_BOUNDS) + 1


class HttpInstruments:
    """Of the HTTP server: answers, limits, connections. is_logging: a line for each answer."""

    def __init__(self, cells: Cells, *, is_logging: bool) -> None:
        self._is_logging = is_logging
        self._cells = cells
        answers, durations = FIRST_CELLS[REQUESTS.name], FIRST_CELLS[REQUEST_DURATION.name]
        self._first_cells = {
            route: (answers[route, STATUSES[0]] - 1, durations[route,]) for route in ROUTES[:-1]
        }
        self._unread = answers[ROUTES[-1], STATUSES[0]] - 1
        self.limited: Counter[str] = _limited(cells)
        self.connections = _gauge(cells, catalogue.CONNECTIONS)
        self.connections_max = _gauge(cells, catalogue.CONNECTIONS_MAX)

    def answered(self, scope: Mapping[str, Any], status: int, began_at: int) -> None:
        """A request was answered. began_at: `monotonic_ns` when its head had come."""
        answers, durations = self._first_cells[route_of(scope["path"])]
        duration_us = (monotonic_ns() - began_at) // 1000
        cells = self._cells
        cells[answers + status // 100] += 1
        # A Histogram's `observe`, in place: a call costs half of it, and this is each request.
        cells[durations + bisect_left(_BOUNDS, duration_us)] += 1
        cells[durations + _SUM] += duration_us
        if self._is_logging:
            log_answer(scope, status, duration_us)

    def refused(self, status: int, request_id: str) -> None:
        """What came was no request that could be read. request_id: what the answer calls it."""
        self._cells[self._unread + status // 100] += 1
        if self._is_logging:
            log_refusal(status, request_id)


@dataclass(frozen=True, slots=True)
class DoorInstruments:
    """Of the doors. authentications: by door and reason. limited: by limit."""

    authentications: Counter[tuple[str, str]]
    limited: Counter[str]


class Instruments:
    """All of them. pages: what they count on. logs_access: a line for each answer, too.

    tracer: of batches.
    """

    def __init__(
        self, pages: Pages, *, logs_access: bool = False, tracer: BatchTracer | None = None
    ) -> None:
        cells = pages.own
        self.pages = pages
        self.http = HttpInstruments(cells, is_logging=logs_access)
        places = {
            (door, reason): FIRST_CELLS[catalogue.AUTHENTICATIONS.name][door, outcome, reason]
            for door in catalogue.DOORS
            for reason, outcome in OUTCOMES.items()
        }
        self.doors = DoorInstruments(Counter(cells, places), _limited(cells))
        self.ledger = LedgerInstruments(
            uses=_lane(cells, "uses", tracer),
            commands=_lane(cells, "commands", tracer),
            reads=ReadInstruments(
                in_use=_gauge(cells, catalogue.READ_CONNECTIONS),
                pool_wait=_histogram(cells, catalogue.READ_POOL_WAIT),
                view_wait=_histogram(cells, catalogue.VIEW_WAIT),
                timed_out=_by_one_label(cells, catalogue.READ_TIMEOUTS),
            ),
        )
        self.read_connections_max = _gauge(cells, catalogue.READ_CONNECTIONS_MAX)
        self.feed_beyond = Counter(cells, FIRST_CELLS[catalogue.FEED_BEYOND.name])


def of_state(state: Mapping[str, Any]) -> Instruments:
    """Those of the application whose lifespan's state this is; of another one, nobody reads any."""
    found = state.get(KEY)
    return found if isinstance(found, Instruments) else _unread()


@cache
def _unread() -> Instruments:
    return Instruments(Pages())


def _lane(cells: Cells, lane: str, tracer: BatchTracer | None) -> LaneInstruments:
    return LaneInstruments(
        name=lane,
        tracer=tracer,
        waiting=_gauge(cells, catalogue.QUEUE, lane),
        depth=_histogram(cells, catalogue.QUEUE_DEPTH, lane),
        batch=_histogram(cells, catalogue.BATCH_SIZE, lane),
        lock_wait=_histogram(cells, catalogue.LOCK_WAIT, lane),
        append=_histogram(cells, catalogue.APPEND_DURATION, lane),
        limited=_limited(cells),
    )


def _limited(cells: Cells) -> Counter[str]:
    return _by_one_label(cells, catalogue.LIMITED)


def _by_one_label(cells: Cells, metric: Metric) -> Counter[str]:
    return Counter(cells, {values[0]: cell for values, cell in FIRST_CELLS[metric.name].items()})


def _gauge(cells: Cells, metric: Metric, *values: str) -> Gauge:
    return Gauge(cells, FIRST_CELLS[metric.name][values])


def _histogram(cells: Cells, metric: Metric, *values: str) -> Histogram:
    return Histogram(cells, FIRST_CELLS[metric.name][values], metric.bounds)
