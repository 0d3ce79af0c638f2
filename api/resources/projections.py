"""The resource `/projections`: positions of the views, rebuild and retry; and `/metrics`.

A rebuild is not done here: a row in the database asks for it, and a projection process carries it
out, so it survives this worker.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, TypeAlias

from litestar import Controller, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, QueryParameter, SkipValidation
from msgspec import Struct, structs
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.service import InjectedService
from domain.api_token import Permission
from domain.errors import AlreadyUnderway, NotFound
from domain.eventstore.api_token_lookup import Caller
from domain.postgres.read_pool import ReadPool
from projections.described import Instant, one_of
from projections.follow import positions
from projections.follow.positions import Position
from projections.projection import Projection
from projections.rebuild import requests as rebuild_requests
from projections.rebuild.requests import Rebuild
from projections.registry import PROJECTIONS
from projections.scim_tokens.view import rfc3339

METRICS_PATH: Final = "/metrics"
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OF_ALL: Final = frozenset({"position", "lag_events"})
"""Metrics that count the events of every team."""


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


_EXAMPLE: Final = ProjectionStatus(
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
_REBUILD_EXAMPLE: Final = RebuildStatus(
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


InjectedView: TypeAlias = NamedDependency[SkipValidation[Projection]]
"""The parameter `view` of a handler: what the path names."""


async def _named(name: FromPath[str]) -> Projection:
    """The view of that name. Raises NotFound."""
    for projection in PROJECTIONS:
        if projection.name == name:
            return projection
    raise NotFound("no such view")


class ProjectionController(Controller):
    """`/projections`: for whoever runs the service; needs `projections:manage`."""

    path = "/projections"
    tags = ("Operations",)
    opt = requires(Permission.PROJECTIONS_MANAGE)
    dependencies = {"view": Provide(_named)}  # noqa: RUF012 - as the framework declares it

    @get(
        operation_id="listProjections",
        summary="How far the views are",
        responses={
            200: ResponseSpec(
                ProjectionList,
                description="The views.",
                examples=[Example(value=ProjectionList([_EXAMPLE]))],
            ),
            **documented(401, 403, 503),
        },
    )
    async def list_(self, request: StrictRequest, service: InjectedService) -> ProjectionList:
        """Every version that is live or building, other releases' included."""
        found = await _positions(service.ledger.reads)
        sees_all = _sees_all(request.user)
        return ProjectionList([_status(at, sees_all=sees_all) for at in found])

    @get(
        "/{name:str}",
        operation_id="getProjection",
        summary="How far one view is",
        responses={
            200: ResponseSpec(
                ProjectionStatus, description="The view.", examples=[Example(value=_EXAMPLE)]
            ),
            **documented(401, 403, 404, 503),
        },
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, view: InjectedView
    ) -> ProjectionStatus:
        """The live version in the shape that this release reads; 404 while there is none."""
        return await _live(service.ledger.reads, request.user, view)

    @post(
        "/{name:str}/rebuild",
        operation_id="rebuildProjection",
        summary="Rebuild a view beside the live one",
        status_code=202,
        response_headers=[
            ResponseHeader(
                name="Location", description="The rebuild's status.", documentation_only=True
            ),
        ],
        responses={
            202: ResponseSpec(
                RebuildStatus,
                description="Asked for; see its status.",
                examples=[Example(value=structs.replace(_REBUILD_EXAMPLE, state="requested"))],
            ),
            **documented(400, 401, 403, 404, 409, 503),
        },
    )
    async def rebuild(
        self,
        request: StrictRequest,
        service: InjectedService,
        view: InjectedView,
        accept_difference: Annotated[
            bool,
            QueryParameter(
                description="Switch even where the new rows differ: to repair a damaged view.",
                required=False,
            ),
        ] = False,
    ) -> Response[RebuildStatus]:
        """From the first event into a new table, while the old one serves; then an atomic switch.

        409 while one is under way already.
        """
        reads = service.ledger.reads
        async with reads.connection() as connection:
            asked = await connection.execute(
                rebuild_requests.REQUEST, [view.name, view.shape, accept_difference]
            )
        if asked.rowcount != 1:
            raise AlreadyUnderway("the view is being rebuilt already")
        return Response(
            _rebuild(await _latest(reads, view), sees_all=_sees_all(request.user)),
            headers={"Location": f"/projections/{view.name}/rebuild"},
        )

    @get(
        "/{name:str}/rebuild",
        operation_id="getProjectionRebuild",
        summary="How far the rebuild of a view is",
        responses={
            200: ResponseSpec(
                RebuildStatus,
                description="The latest one.",
                examples=[Example(value=_REBUILD_EXAMPLE)],
            ),
            **documented(401, 403, 404, 503),
        },
    )
    async def rebuild_status(
        self, request: StrictRequest, service: InjectedService, view: InjectedView
    ) -> RebuildStatus:
        """The latest rebuild, under way or over; 404 when there never was one."""
        return _rebuild(await _latest(service.ledger.reads, view), sees_all=_sees_all(request.user))

    @post(
        "/{name:str}/retry",
        operation_id="retryProjection",
        summary="Let a stopped view go on",
        status_code=200,
        responses={
            200: ResponseSpec(
                ProjectionStatus, description="The view.", examples=[Example(value=_EXAMPLE)]
            ),
            **documented(401, 403, 404, 503),
        },
    )
    async def retry(
        self, request: StrictRequest, service: InjectedService, view: InjectedView
    ) -> ProjectionStatus:
        """Try the event again that could not be applied, after its cause was mended;
        it may stop again.

        A view that is not stopped is left as it is.
        """
        reads = service.ledger.reads
        async with reads.connection() as connection:
            await connection.execute(positions.RETRY, [view.name, view.shape])
        return await _live(reads, request.user, view)


@get(
    METRICS_PATH,
    operation_id="metrics",
    summary="Metrics in Prometheus' text format",
    tags=["Operations"],
    opt=requires(Permission.PROJECTIONS_MANAGE),
    media_type=METRICS_MEDIA_TYPE,
    responses={
        200: ResponseSpec(
            str,
            description="One sample a line.",
            media_type=METRICS_MEDIA_TYPE,
            generate_examples=False,
        ),
        **documented(401, 403, 503),
    },
)
async def metrics(request: StrictRequest, service: InjectedService) -> Response[bytes]:
    """The views and the ledger's head, as the database knows them: every worker tells the same.

    Needs `projections:manage`, and without a confinement to teams tells how many events there are;
    with SCIM_LEDGER_PUBLIC_METRICS=true all of it is for anyone who can reach it.
    """
    sees_all = "user" not in request.scope or _sees_all(request.user)
    found = await _positions(service.ledger.reads)
    body = "".join(f"{line}\n" for line in exposition(found, sees_all=sees_all))
    return Response(body.encode(), headers={"Content-Type": METRICS_MEDIA_TYPE})


def exposition(found: Sequence[Position], *, sees_all: bool) -> Iterator[str]:
    """Prometheus' text format 0.0.4, by hand:
    a dozen lines without labels of unknown text to escape.

    A client library would bring a registry per process and a directory to share it; ours is the
    database.
    """
    if sees_all:
        head = max((at.head for at in found), default=0)
        yield "# HELP scim_ledger_head_position Last event of the ledger."
        yield "# TYPE scim_ledger_head_position gauge"
        yield f"scim_ledger_head_position {head}"
    now = positions.now()
    for name, help_, value in (
        ("position", "Last event applied.", lambda at: at.position),
        ("lag_events", "Events not applied yet.", lambda at: at.lag),
        (
            "lag_seconds",
            "How long the first event not applied has waited.",
            lambda at: at.lag_s(now),
        ),
        (
            "stopped",
            "1 when an event could not be applied.",
            lambda at: int(at.stopped_at is not None),
        ),
        ("building", "1 while a version is being built.", lambda at: int(at.role == "building")),
    ):
        if name in _OF_ALL and not sees_all:
            continue
        yield f"# HELP scim_ledger_projection_{name} {help_}"
        yield f"# TYPE scim_ledger_projection_{name} gauge"
        for at in found:
            labels = f'projection="{at.name}",version="{at.version}",shape="{at.shape}"'
            yield f"scim_ledger_projection_{name}{{{labels}}} {value(at)}"


def _sees_all(caller: Caller) -> bool:
    """Whether the caller may know what the teams do together:
    how many events there are, and which failed.
    """
    return caller.api_token.teams is None


async def _positions(reads: ReadPool) -> list[Position]:
    async def ask(connection: AsyncConnection[TupleRow]) -> list[Position]:
        async with connection.cursor(row_factory=class_row(Position)) as cursor:
            return await (await cursor.execute(positions.ALL)).fetchall()

    return await reads.read(ask)


async def _live(reads: ReadPool, caller: Caller, view: Projection) -> ProjectionStatus:
    for at in await _positions(reads):
        if at.is_live_of(view):
            return _status(at, sees_all=_sees_all(caller))
    raise NotFound("no such view")


async def _latest(reads: ReadPool, view: Projection) -> Rebuild:
    async def ask(connection: AsyncConnection[TupleRow]) -> Rebuild | None:
        async with connection.cursor(row_factory=class_row(Rebuild)) as cursor:
            asked: list[Any] = [view.name, view.shape]
            return await (await cursor.execute(rebuild_requests.LATEST, asked)).fetchone()

    found = await reads.read(ask)
    if found is None:
        raise NotFound("no rebuild")
    return found


def _status(at: Position, *, sees_all: bool) -> ProjectionStatus:
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


def _rebuild(found: Rebuild, *, sees_all: bool) -> RebuildStatus:
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
        started_at=None if found.started_at is None else rfc3339(found.started_at),
        finished_at=None if found.finished_at is None else rfc3339(found.finished_at),
    )
    if sees_all:
        return status
    return structs.replace(status, position=None, target=None, events_per_s=None, error=None)
