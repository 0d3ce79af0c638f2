"""The resource `/projections`: positions of the views, rebuild and retry.

A rebuild is not done here: a row in the database asks for it, and a projection process carries it
out, so it survives this worker.
"""

from typing import Annotated, TypeAlias

from litestar import Controller, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, QueryParameter, SkipValidation
from msgspec import structs

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.view_status import (
    EXAMPLE,
    REBUILD_EXAMPLE,
    ProjectionList,
    ProjectionStatus,
    RebuildStatus,
    all_positions,
    ask_for_rebuild,
    latest_rebuild,
    live_status,
    rebuild_status_of,
    sees_all_teams,
    status_of,
    try_again,
)
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.errors import NotFound
from projections.projection import Projection
from projections.registry import PROJECTIONS

InjectedView: TypeAlias = NamedDependency[SkipValidation[Projection]]
"""The parameter `view` of a handler: what the path names."""


async def named(name: FromPath[str]) -> Projection:
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
    dependencies = {"view": Provide(named)}  # noqa: RUF012 - as the framework declares it

    @get(
        operation_id="listProjections",
        summary="How far the views are",
        responses={
            200: ResponseSpec(
                ProjectionList,
                description="The views.",
                examples=[Example(value=ProjectionList([EXAMPLE]))],
            ),
            **documented(401, 403, 503),
        },
    )
    async def list_(self, request: StrictRequest, service: InjectedService) -> ProjectionList:
        """Every version that is live or building, other releases' included."""
        found = await all_positions(service.ledger.reads)
        sees_all = sees_all_teams(request.user)
        return ProjectionList([status_of(at, sees_all=sees_all) for at in found])

    @get(
        "/{name:str}",
        operation_id="getProjection",
        summary="How far one view is",
        responses={
            200: ResponseSpec(
                ProjectionStatus, description="The view.", examples=[Example(value=EXAMPLE)]
            ),
            **documented(401, 403, 404, 503),
        },
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, view: InjectedView
    ) -> ProjectionStatus:
        """The live version in the shape that this release reads; 404 while there is none."""
        return await live_status(service.ledger.reads, request.user, view)

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
                examples=[Example(value=structs.replace(REBUILD_EXAMPLE, state="requested"))],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 503),
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
        await ask_for_rebuild(reads, view, accepts_difference=accept_difference)
        return Response(
            rebuild_status_of(
                await latest_rebuild(reads, view), sees_all=sees_all_teams(request.user)
            ),
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
                examples=[Example(value=REBUILD_EXAMPLE)],
            ),
            **documented(401, 403, 404, 503),
        },
    )
    async def rebuild_status(
        self, request: StrictRequest, service: InjectedService, view: InjectedView
    ) -> RebuildStatus:
        """The latest rebuild, under way or over; 404 when there never was one."""
        return rebuild_status_of(
            await latest_rebuild(service.ledger.reads, view), sees_all=sees_all_teams(request.user)
        )

    @post(
        "/{name:str}/retry",
        operation_id="retryProjection",
        summary="Let a stopped view go on",
        status_code=200,
        responses={
            200: ResponseSpec(
                ProjectionStatus, description="The view.", examples=[Example(value=EXAMPLE)]
            ),
            **documented(400, 401, 403, 404, 413, 415, 503),
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
        await try_again(reads, view)
        return await live_status(reads, request.user, view)
