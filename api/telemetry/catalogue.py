"""What is counted in memory: each metric, its labels and all of their values.

Every series has its cells from the start, so nothing that a client sends can make one.
docs/reference/metrics.md is the same list for people; a test compares it with what is answered.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

Type = Literal["counter", "gauge", "histogram"]

_US: Final = 1_000_000
"""Cells hold microseconds where a metric is in seconds."""

DOORS: Final = ("scim", "nginx", "forward", "envoy", "verify", "introspect", "revoke", "api")
OUTCOMES: Final = {
    "good": "accepted",
    "missing": "refused",
    "malformed": "refused",
    "ambiguous": "refused",
    "unknown": "refused",
    "revoked": "refused",
    "suspended": "refused",
    "expired": "refused",
    "network": "refused",
    "throttled": "refused",
    "unavailable": "failed",
}
"""By reason."""
ROUTES: Final = (
    *("scim", "gateway", "verify", "introspect", "revoke", "scim-token", "api-token", "audit"),
    *("events", "policy", "projections", "leak-report", "whoami", "metrics", "health", "docs"),
    *("console", "other", "unread"),
)
"""Classes of routes. unread: what came was no request that could be read."""
STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
LIMITS: Final = (
    *("token_rate", "source_rate", "connections", "pipeline", "message_size", "queue"),
    *("upstream_share", "upstream_connections"),
)
LANES: Final = ("uses", "commands")
WAITS: Final = ("connection", "database", "view", "stopped_view")
QUESTIONS: Final = ("ends", "rotation_ends", "sources", "silences", "rotations")
"""Of `DueWarnings`."""

_JOBS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
_MS: Final = tuple(ms * 1000 for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000))
_WAIT: Final = (100, 500, *_MS)


@dataclass(frozen=True)
class Metric:
    """One metric. name: with its unit; `_total` for a counter. series: all values of its labels.

    bounds: of a histogram, in the unit of its cells. per: cells' units in one of the metric's.
    is_age: a gauge that tells how long ago its cell's instant is (Unix seconds); 0 of none.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    bounds: tuple[int, ...] = ()
    per: int = 1
    is_age: bool = False

    @property
    def cells(self) -> int:
        """Cells of one series."""
        return len(self.bounds) + 2 if self.type == "histogram" else 1


def _of(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


AUTHENTICATIONS: Final = Metric(
    "scim_ledger_authentications_total",
    "counter",
    "Secrets that were presented, or should have been.",
    ("door", "outcome", "reason"),
    tuple((door, outcome, reason) for door in DOORS for reason, outcome in OUTCOMES.items()),
)
REQUESTS: Final = Metric(
    "scim_ledger_http_requests_total",
    "counter",
    "Requests that were answered.",
    ("route", "status"),
    tuple(product(ROUTES, STATUSES)),
)
REQUEST_DURATION: Final = Metric(
    "scim_ledger_http_request_duration_seconds",
    "histogram",
    "From the head of a request to the end of its answer.",
    ("route",),
    _of(*ROUTES[:-1]),
    _MS,
    _US,
)
LIMITED: Final = Metric(
    "scim_ledger_limited_total",
    "counter",
    "Requests and connections that a limit turned away.",
    ("limit",),
    _of(*LIMITS),
)
CONNECTIONS: Final = Metric(
    "scim_ledger_connections", "gauge", "Connections of clients that are open."
)
CONNECTIONS_MAX: Final = Metric(
    "scim_ledger_connections_max", "gauge", "Connections of clients that may be open."
)
QUEUE: Final = Metric(
    "scim_ledger_append_queue", "gauge", "Jobs that wait for a batch.", ("lane",), _of(*LANES)
)
QUEUE_DEPTH: Final = Metric(
    "scim_ledger_append_queue_depth",
    "histogram",
    "Jobs that waited when a batch began.",
    ("lane",),
    _of(*LANES),
    _JOBS,
)
BATCH_SIZE: Final = Metric(
    "scim_ledger_append_batch_size",
    "histogram",
    "Jobs of a batch.",
    ("lane",),
    _of(*LANES),
    _JOBS,
)
LOCK_WAIT: Final = Metric(
    "scim_ledger_append_lock_wait_seconds",
    "histogram",
    "How long a batch waited for the append lock.",
    ("lane",),
    _of(*LANES),
    _WAIT,
    _US,
)
APPEND_DURATION: Final = Metric(
    "scim_ledger_append_duration_seconds",
    "histogram",
    "From sending a batch until it is committed.",
    ("lane",),
    _of(*LANES),
    _WAIT,
    _US,
)
READ_CONNECTIONS: Final = Metric(
    "scim_ledger_read_connections", "gauge", "Connections for reads that are in use."
)
READ_CONNECTIONS_MAX: Final = Metric(
    "scim_ledger_read_connections_max", "gauge", "Connections for reads that there may be."
)
READ_POOL_WAIT: Final = Metric(
    "scim_ledger_read_pool_wait_seconds",
    "histogram",
    "How long a read waited for a connection.",
    bounds=_WAIT,
    per=_US,
)
VIEW_WAIT: Final = Metric(
    "scim_ledger_view_wait_seconds",
    "histogram",
    "How long a read took until its views were fresh enough, the query included.",
    bounds=_WAIT,
    per=_US,
)
READ_TIMEOUTS: Final = Metric(
    "scim_ledger_read_timeouts_total",
    "counter",
    "Reads that gave up, by what they waited for.",
    ("waited_for",),
    _of(*WAITS),
)
FEED_BEYOND: Final = Metric(
    "scim_ledger_feed_beyond_total",
    "counter",
    "Readers of the feed that named a position beyond the ledger.",
)
WORKER_STARTS: Final = Metric(
    "scim_ledger_worker_starts_total", "counter", "HTTP workers that were started."
)
WARNINGS_ROUND: Final = Metric(
    "scim_ledger_warnings_round_age_seconds",
    "gauge",
    "How long ago all that a question about warnings finds was last told; 0 where another leads.",
    ("question",),
    _of(*QUESTIONS),
    is_age=True,
)

COUNTED: Final = (
    *(AUTHENTICATIONS, REQUESTS, REQUEST_DURATION, LIMITED, CONNECTIONS, CONNECTIONS_MAX),
    *(QUEUE, QUEUE_DEPTH, BATCH_SIZE, LOCK_WAIT, APPEND_DURATION),
    *(READ_CONNECTIONS, READ_CONNECTIONS_MAX, READ_POOL_WAIT, VIEW_WAIT, READ_TIMEOUTS),
    *(FEED_BEYOND, WORKER_STARTS, WARNINGS_ROUND),
)
"""In the order of their cells."""


def _first_cells() -> dict[str, dict[tuple[str, ...], int]]:
    found: dict[str, dict[tuple[str, ...], int]] = {}
    first = 0
    for metric in COUNTED:
        cells = found[metric.name] = {}
        for values in metric.series:
            cells[values] = first
            first += metric.cells
    return found


FIRST_CELLS: Final = _first_cells()
"""The first cell of each series, by metric and label values."""
CELLS: Final = sum(metric.cells * len(metric.series) for metric in COUNTED)
