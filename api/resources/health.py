"""Liveness and readiness (`/healthz`, `/readyz`), without authentication."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation

from api.admission import FOR_ANYONE
from api.http.openapi import or_problem
from api.http.problems import documented
from api.service import InjectedService, Service
from domain.errors import (
    ClockSkewed,
    EventsLost,
    HeadFileUnusable,
    PepperMismatch,
    ProjectionStopped,
    SharedSession,
    StoreReadOnly,
    Unavailable,
)
from domain.eventstore.ledger_clock import AHEAD_MAX
from projections.described import one_of, rfc3339
from projections.follow import positions
from projections.registry import PROJECTIONS
from projections.warnings.queries import LATE_AFTER

_KNOWN: Final = (
    [projection.name for projection in PROJECTIONS],
    [projection.shape for projection in PROJECTIONS],
)

_LASTING: Final = (
    *(ClockSkewed, EventsLost, HeadFileUnusable, PepperMismatch),
    *(SharedSession, StoreReadOnly),
)
"""What somebody has to mend."""


class ProjectionHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """One view.

    state: live, stopped, building. lag: events behind. stopped_at: what it could not apply.
    """

    name: str
    state: Annotated[str, one_of("live", "building", "stopped")]
    lag: int
    stopped_at: int | None = None


class Readiness(msgspec.Struct, frozen=True):
    """How the process is.

    status: "ready", "degraded" (a view stopped, ledger time has jumped, warnings are not told, the
    head file is not kept, or a key was added to the pepper since this process began; authentication
    goes on, but for secrets under that key), "unavailable" (503: no database, a lock that
    another session holds and every use waits for, a database that refuses what is to be recorded, a
    clock that the database does not believe, another pepper, events that this host has known and
    the ledger has not, a head file that cannot be read),
    "read_only" (503: the database takes no writes, so nothing can be authenticated), or "building"
    (503): a view of this release is being built from the ledger for the first time. Its doors
    answer; its reads do not, so until then the release before goes on serving.
    problems: in words, where the status is not about a view.
    """

    status: Literal["ready", "degraded", "unavailable", "read_only", "building"]
    projections: Sequence[ProjectionHealth] = ()
    problems: Sequence[str] = ()


CAUSES: Final = (
    *("database", "pepper", "events_lost", "clock", "read_only", "building"),
    *("stopped_view", "ledger_time", "warnings", "head_file"),
)
"""Why a process is not ready, or degraded (the last four, and the pepper where a key was added
since the process began; without a head file that can be read, no new connection to the database is
made, and one that has none is not ready).
"""


@dataclass(frozen=True)
class Examined:
    """A readiness with its causes. retry_after_s: None for one that can answer."""

    readiness: Readiness
    causes: Sequence[str]
    retry_after_s: int | None = None


@dataclass
class Probe(Operation):
    """An operation whose 503 is its own, or a problem where it is not even asked."""

    def __post_init__(self) -> None:
        """Litestar's hook for what it cannot see in the handler."""
        or_problem(self, 503)


@get(
    "/healthz",
    operation_id="liveness",
    opt=FOR_ANYONE,
    summary="Is the process alive",
    tags=["Operations"],
    security=[{}],
    responses=documented(),
)
async def healthz() -> Readiness:
    """Always 200 while the process answers at all."""
    return Readiness("ready")


@get(
    "/readyz",
    operation_id="readiness",
    opt=FOR_ANYONE,
    summary="Can the process answer",
    tags=["Operations"],
    security=[{}],
    operation_class=Probe,
    responses={
        **documented(),
        503: ResponseSpec(Readiness, description="The ledger cannot answer, and why."),
    },
)
async def readyz(service: InjectedService) -> Response[Readiness]:
    """200 when the ledger lets in and answers, 503 when it cannot, and why.

    A stopped view is told, and does not take the doors down.
    """
    found = await examine(service)
    if found.retry_after_s is None:
        return Response(found.readiness)
    return Response(
        found.readiness, status_code=503, headers={"Retry-After": str(found.retry_after_s)}
    )


async def examine(service: Service) -> Examined:
    """How this process is."""
    ledger = service.ledger
    try:
        await ledger.require_appends()
        at = await ledger.time()
        rows = await ledger.reads.fetch(positions.STATES, _KNOWN)
    except Unavailable as error:
        readiness, cause = _why(error)
        return Examined(readiness, [cause], 5 if isinstance(error, _LASTING) else 1)
    projections = [
        ProjectionHealth(name, state, lag, stopped_at) for name, state, stopped_at, lag in rows
    ]
    if any(projection.state == "building" for projection in projections):
        return Examined(Readiness("building", projections), ["building"], 5)
    has_stopped = any(projection.stopped_at is not None for projection in projections)
    told = {
        "ledger_time": _jumped(at - ledger.clock()),
        "warnings": await _late(service, at, has_stopped=has_stopped),
        "head_file": next((each.not_kept for each in ledger.known_head if each.not_kept), None),
        "pepper": await _lacks_key(service),
    }
    causes = ["stopped_view"] * has_stopped + [cause for cause, text in told.items() if text]
    problems = [text for text in told.values() if text]
    return Examined(Readiness("degraded" if causes else "ready", projections, problems), causes)


def _why(error: Unavailable) -> tuple[Readiness, str]:
    match error:
        case ClockSkewed():
            problem = f"{error}; synchronise the clocks (NTP)"
            return Readiness("unavailable", problems=[problem]), "clock"
        case PepperMismatch():
            return Readiness("unavailable", problems=[str(error)]), "pepper"
        case EventsLost():
            return Readiness("unavailable", problems=[str(error)]), "events_lost"
        case HeadFileUnusable():
            return Readiness("unavailable", problems=[str(error)]), "head_file"
        case StoreReadOnly():
            return Readiness("read_only", problems=[str(error)]), "read_only"
        case _:
            return Readiness("unavailable", problems=[str(error)]), "database"


async def _late(service: Service, at: datetime, *, has_stopped: bool) -> str | None:
    """Whether warnings are told, and whether the views can be read at all.

    has_stopped: the rest of the answer tells why they cannot.
    """
    try:
        since = await service.warnings.due_since(at)
    except Unavailable as error:
        is_told = has_stopped or not isinstance(error, ProjectionStopped)
        return None if is_told else f"{error}: see scim-ledger doctor"
    if since is not None and at - since > LATE_AFTER:
        what = f"warnings about tokens are due since {rfc3339(since)} and not told"
        why = "they wait while a process of another release runs"
        return f"{what}: {why}; else restart the service, or see warnings.failed in its log"
    return None


async def _lacks_key(service: Service) -> str | None:
    """Whether a key was added elsewhere: the doors answer 503 for each secret under it."""
    try:
        await service.ledger.require_all_keys()
    except PepperMismatch as error:
        return str(error)
    except Unavailable:  # which the next question tells
        return None
    return None


def _jumped(ahead: timedelta) -> str | None:
    if ahead <= AHEAD_MAX:
        return None
    return (
        f"ledger time is {ahead.total_seconds():.0f} s ahead of this process's clock: "
        "synchronise the clocks (NTP), and see scim-ledger doctor"
    )
