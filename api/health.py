"""Liveness and readiness, for orchestrators; both without authentication and without a secret to tell."""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from api.json_body import StrictRequest
from api.service import service_of
from domain.errors import Unavailable

PROJECTIONS: Final[LiteralString] = """
    SELECT name, CASE WHEN stopped_at IS NULL THEN role ELSE 'stopped' END, stopped_at,
        coalesce((SELECT max(notification_id) FROM ledger.events), 0) - position
    FROM ledger.projection_positions WHERE role <> 'retired' ORDER BY name, version
"""


class ProjectionHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """One view. lag: events behind. stopped_at: the event that it could not apply."""

    name: str
    state: str
    lag: int
    stopped_at: int | None = None


class Readiness(msgspec.Struct, frozen=True):
    """status: "ready", "degraded" (a view stopped; authentication goes on) or "unavailable" (503)."""

    status: str
    projections: Sequence[ProjectionHealth] = ()


@get("/healthz", operation_id="liveness", summary="Is the process alive", tags=["Operations"], security=[{}])
async def healthz() -> Readiness:
    """Always 200 while the process answers at all."""
    return Readiness("ready")


@get(
    "/readyz",
    operation_id="readiness",
    summary="Can the process answer",
    tags=["Operations"],
    security=[{}],
    responses={503: ResponseSpec(Readiness, description="The ledger cannot be reached.")},
)
async def readyz(request: StrictRequest) -> Response[Readiness]:
    """200 when the ledger can be reached; a stopped view is told, and does not take the doors down."""
    try:
        async with service_of(request).ledger.reads.connection() as connection:
            rows = await (await connection.execute(PROJECTIONS)).fetchall()
    except Unavailable:
        return Response(Readiness("unavailable"), status_code=503, headers={"Retry-After": "1"})
    projections = [ProjectionHealth(name, state, lag, stopped_at) for name, state, stopped_at, lag in rows]
    is_degraded = any(projection.stopped_at is not None for projection in projections)
    return Response(Readiness("degraded" if is_degraded else "ready", projections))
