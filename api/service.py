"""What the handlers of one process work with, and how they reach it from a request."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from litestar.types import Scope

from api.cursor import Cursors
from api.json_body import StrictRequest
from domain.eventstore.callers import Caller
from domain.ledger import TokenLedger
from projections.queries import TokenQueries


@dataclass(frozen=True, slots=True)
class Service:
    """The ledger, the queries, and what the edge needs besides them. One per process."""

    ledger: TokenLedger
    tokens: TokenQueries
    cursors: Cursors
    clock: Callable[[], datetime]


def service_of(request: StrictRequest) -> Service:
    """The process's service."""
    service: Service = request.app.state.service
    return service


def caller_of(scope: Scope) -> Caller:
    """Who called: set by the edge before any handler runs."""
    caller: Caller = scope["state"]["caller"]
    return caller
