"""The instruments of one process, on its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from time import monotonic_ns
from typing import Any, Final

from api.telemetry import catalogue
from api.telemetry.catalogue import OUTCOMES, PLACES, ROUTES, STATUSES, Metric
from api.telemetry.pages import Pages
from domain.instruments import (
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

_ROUTE_OF: Final = {route: route for route in ROUTES[:-1]} | {
    **dict.fromkeys(("healthz", "readyz"), "health"),
    **dict.fromkeys(("", "problems", "robots.txt", "favicon.ico"), "docs"),
}


def route_of(path: str) -> str:
    """The class of a request's route, of which there are few."""
    parts = path.split("/", 2)
    return _ROUTE_OF.get(parts[1], "other") if len(parts) > 1 else "other"


class HttpInstruments:
    """Of the HTTP server: answers, limits, connections."""

    def __init__(self, cells: Cells) -> None:
        self._answers = {
            route: PLACES[catalogue.REQUESTS.name][route, STATUSES[0]] - 1 for route in ROUTES
        }
        self._cells = cells
        self._durations = {
            route: _histogram(cells, catalogue.REQUEST_DURATION, route) for route in ROUTES[:-1]
        }
        self.limited: Counter[str] = _limited(cells)
        self.connections = _gauge(cells, catalogue.CONNECTIONS)
        self.connections_max = _gauge(cells, catalogue.CONNECTIONS_MAX)

    def answered(self, path: str, status: int, began_at: int) -> None:
        """A request was answered. began_at: `monotonic_ns` when its head had come."""
        route = route_of(path)
        self._cells[self._answers[route] + status // 100] += 1
        self._durations[route].observe((monotonic_ns() - began_at) // 1000)

    def refused(self, status: int) -> None:
        """What came was no request that could be read."""
        self._cells[self._answers["unread"] + status // 100] += 1


@dataclass(frozen=True, slots=True)
class DoorInstruments:
    """Of the doors. authentications: by door and reason. limited: by limit."""

    authentications: Counter[tuple[str, str]]
    limited: Counter[str]


class Instruments:
    """All of them. pages: what they count on."""

    def __init__(self, pages: Pages) -> None:
        cells = pages.own
        self.pages = pages
        self.http = HttpInstruments(cells)
        places = {
            (door, reason): PLACES[catalogue.AUTHENTICATIONS.name][door, outcome, reason]
            for door in catalogue.DOORS
            for reason, outcome in OUTCOMES.items()
        }
        self.doors = DoorInstruments(Counter(cells, places), _limited(cells))
        self.ledger = LedgerInstruments(
            uses=_lane(cells, "uses"),
            commands=_lane(cells, "commands"),
            reads=ReadInstruments(
                in_use=_gauge(cells, catalogue.READ_CONNECTIONS),
                pool_wait=_histogram(cells, catalogue.READ_POOL_WAIT),
                view_wait=_histogram(cells, catalogue.VIEW_WAIT),
                timed_out=_by_one_label(cells, catalogue.READ_TIMEOUTS),
            ),
        )
        self.read_connections_max = _gauge(cells, catalogue.READ_CONNECTIONS_MAX)


def of_state(state: Mapping[str, Any]) -> Instruments:
    """Those of the application whose lifespan's state this is; of another one, nobody reads any."""
    found = state.get(KEY)
    return found if isinstance(found, Instruments) else _unread()


@cache
def _unread() -> Instruments:
    return Instruments(Pages())


def _lane(cells: Cells, lane: str) -> LaneInstruments:
    return LaneInstruments(
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
    return Counter(cells, {values[0]: place for values, place in PLACES[metric.name].items()})


def _gauge(cells: Cells, metric: Metric, *values: str) -> Gauge:
    return Gauge(cells, PLACES[metric.name][values])


def _histogram(cells: Cells, metric: Metric, *values: str) -> Histogram:
    return Histogram(cells, PLACES[metric.name][values], metric.bounds)
