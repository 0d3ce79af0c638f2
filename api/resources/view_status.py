"""The answers about views: the position of each, and the progress of its rebuild."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from msgspec import Struct, structs

from domain.errors import AlreadyUnderway, NotFound
from domain.eventstore.lookups.api_tokens import Caller
from domain.postgres.read_pool import ReadPool
from projections.described import Instant, one_of, rfc3339, rfc3339_or_none
from projections.follow import positions
from projections.follow.positions import Position
from projections.projection import Projection
from projections.rebuild import requests as rebuild_requests
from projections.rebuild.requests import Rebuild


class ProjectionStatus(Struct, frozen=True):
    """One built version of a view. state: live, building or stopped.

    shape: the release's version of its columns; another release may read another shape beside it.
    position, head: last event applied, and last of the ledger. lag: events behind; lag_s: how long
    the first of them has waited. stopped_at, error: the event that could not be applied, and why.
    To a caller confined to teams, position, head, lag, stopped_at and error are null: they tell of
    all.
    """

    name: str
    version: int
    shape: int
    state: Annotated[str, one_of("live", "building", "stopped")]
    position: int | None
    head: int | None
    lag: int | None
    lag_s: float
    stopped_at: int | None
    error: str | None
    updated_at: Instant


class ProjectionList(Struct, frozen=True):
    """Every version that is live or building, by name."""

    result: Sequence[ProjectionStatus]


class RebuildStatus(Struct, frozen=True):
    """The latest rebuild of a view.

    state: requested, building, indexing, comparing, switching; then done or failed, with `error`.
    position, target: events so far, and all. eta_s: None when it is over or nobody knows.
    To a caller confined to teams, position, target, events_per_s and error are null: they tell of
    all.
    """

    name: str
    state: Annotated[
        str, one_of("requested", "building", "indexing", "comparing", "switching", "done", "failed")
    ]
    version: int | None
    position: int | None
    target: int | None
    events_per_s: float | None
    eta_s: float | None
    error: str | None
    accepts_difference: bool
    requested_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


EXAMPLE: Final = ProjectionStatus(
    name="scim_tokens",
    version=1,
    shape=1,
    state="live",
    position=1000000,
    head=1000000,
    lag=0,
    lag_s=0.0,
    stopped_at=None,
    error=None,
    updated_at="2021-08-10T10:00:00.000Z",
)
REBUILD_EXAMPLE: Final = RebuildStatus(
    name="scim_tokens",
    state="building",
    version=2,
    position=500000,
    target=1000000,
    events_per_s=400000.0,
    eta_s=1.3,
    error=None,
    accepts_difference=False,
    requested_at="2021-08-10T10:00:00.000Z",
    started_at="2021-08-10T10:00:00.250Z",
    finished_at=None,
)


def sees_all_teams(caller: Caller) -> bool:
    """Whether the caller may know what the teams do together:
    how many events there are, and which failed.
    """
    return caller.api_token.teams is None


async def all_positions(reads: ReadPool) -> list[Position]:
    """How far every version of every view is."""
    return [Position(*row) for row in await reads.fetch(positions.ALL)]


async def live_status(reads: ReadPool, caller: Caller, view: Projection) -> ProjectionStatus:
    """How far the live version of a view is. Raises NotFound."""
    for at in await all_positions(reads):
        if at.is_live_of(view):
            return status_of(at, sees_all=sees_all_teams(caller))
    raise NotFound("no such view")


async def latest_rebuild(reads: ReadPool, view: Projection) -> Rebuild:
    """The newest rebuild of a view. Raises NotFound."""
    for row in await reads.fetch(rebuild_requests.LATEST, [view.name, view.shape]):
        return Rebuild(*row)
    raise NotFound("no rebuild")


async def latest_rebuilds(reads: ReadPool, views: Sequence[Projection]) -> Mapping[str, Rebuild]:
    """The newest rebuild of each view that ever had one, by its name."""
    asked = [[view.name for view in views], [view.shape for view in views]]
    rows = await reads.fetch(rebuild_requests.LATEST_OF_EACH, asked)
    return {found.name: found for found in (Rebuild(*row) for row in rows)}


async def ask_for_rebuild(
    reads: ReadPool, view: Projection, *, accepts_difference: bool = False
) -> None:
    """Ask the projection process for one. Raises AlreadyUnderway."""
    async with reads.connection() as connection:
        asked = await connection.execute(
            rebuild_requests.REQUEST, [view.name, view.shape, accepts_difference]
        )
    if asked.rowcount != 1:
        raise AlreadyUnderway("the view is being rebuilt already")


async def try_again(reads: ReadPool, view: Projection) -> None:
    """Let a view that stopped try its event again; any other is left as it is."""
    async with reads.connection() as connection:
        await connection.execute(positions.RETRY, [view.name, view.shape])


def status_of(at: Position, *, sees_all: bool) -> ProjectionStatus:
    """What a caller is told of a version."""
    status = ProjectionStatus(
        name=at.name,
        version=at.version,
        shape=at.shape,
        state=at.state,
        position=at.position,
        head=at.head,
        lag=at.lag,
        lag_s=round(at.lag_s(positions.now()), 3),
        stopped_at=at.stopped_at,
        error=at.error,
        updated_at=rfc3339(at.updated_at),
    )
    if sees_all:
        return status
    return structs.replace(status, position=None, head=None, lag=None, stopped_at=None, error=None)


def rebuild_status_of(found: Rebuild, *, sees_all: bool) -> RebuildStatus:
    """What a caller is told of a rebuild."""
    status = RebuildStatus(
        name=found.name,
        state=found.state,
        version=found.version,
        position=found.position,
        target=found.target,
        events_per_s=None if found.events_per_s is None else round(found.events_per_s, 1),
        eta_s=None if found.eta_s is None else round(found.eta_s, 1),
        error=found.error,
        accepts_difference=found.accepts_difference,
        requested_at=rfc3339(found.requested_at),
        started_at=rfc3339_or_none(found.started_at),
        finished_at=rfc3339_or_none(found.finished_at),
    )
    if sees_all:
        return status
    return structs.replace(status, position=None, target=None, events_per_s=None, error=None)
