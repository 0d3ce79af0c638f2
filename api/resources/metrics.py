"""`/metrics`: the service, its views and what the ledger holds, in Prometheus' text format."""

from collections.abc import Iterator, Sequence
from typing import Final

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.health import examine
from api.resources.store_metrics import of_process, of_store
from api.resources.view_status import all_positions, sees_all_teams
from api.service import InjectedService
from api.telemetry.exposition import Samples, counted, gauge
from domain.api_token.permissions import Permission
from projections.follow import positions
from projections.follow.positions import Position
from projections.warnings.queries import VIEWS

METRICS_PATH: Final = "/metrics"
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OF_ALL: Final = frozenset({"position", "lag_events"})
"""Metrics that count the events of every team."""


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
    """One answer for all workers, whichever is asked; docs/reference/metrics.md lists the metrics.

    While the database is away it tells that, and what the workers counted. Needs
    `projections:manage`; without a confinement to teams it tells more than the views. An API token
    is not known while the database is away; a token of SCIM_LEDGER_METRICS_TOKEN_FILE is. With
    SCIM_LEDGER_PUBLIC_METRICS=true all of it is for anyone who can reach it.
    """
    sees_all = "user" not in request.scope or sees_all_teams(request.user)
    examined = await examine(service)
    lines = [*of_process(examined)]
    if examined.readiness.status not in {"unavailable", "read_only"}:
        found = await all_positions(service.ledger.reads)
        lines += of_views(found, sees_all=sees_all)
        if sees_all:
            has_views = all(any(at.is_live_of(view) for at in found) for view in VIEWS)
            lines += [line async for line in of_store(service, has_views=has_views)]
    if sees_all:  # last: what this answer took is counted, too
        lines += counted(service.instruments.pages.sums())
    body = "".join(f"{line}\n" for line in lines)
    return Response(body.encode(), headers={"Content-Type": METRICS_MEDIA_TYPE})


def of_views(found: Sequence[Position], *, sees_all: bool) -> Iterator[str]:
    """How far the views are."""
    if sees_all:
        head = max((at.head for at in found), default=0)
        yield from gauge("scim_ledger_head_position", "Last event of the ledger.", [], {(): head})
    now, labels = positions.now(), ["projection", "version", "shape"]
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
        samples: Samples = {(at.name, str(at.version), str(at.shape)): value(at) for at in found}
        yield from gauge(f"scim_ledger_projection_{name}", help_, labels, samples)
