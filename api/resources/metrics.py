"""`/metrics`: positions of the views and what is due, in Prometheus' text format."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Final

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.view_status import all_positions, sees_all_teams
from api.service import InjectedService, Service
from domain.api_token import Permission
from domain.errors import ProjectionStopped
from projections.follow import positions
from projections.follow.positions import Position
from projections.warnings.queries import COUNTED, VIEWS

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
    """The views and the ledger's head, as the database knows them: every worker tells the same.

    Needs `projections:manage`, and without a confinement to teams tells how many events there are;
    with SCIM_LEDGER_PUBLIC_METRICS=true all of it is for anyone who can reach it.
    """
    sees_all = "user" not in request.scope or sees_all_teams(request.user)
    found = await all_positions(service.ledger.reads)
    lines = [*exposition(found, sees_all=sees_all)]
    are_there = all(any(at.is_live_of(view) for at in found) for view in VIEWS)
    if sees_all and are_there:
        with suppress(ProjectionStopped):  # a view that cannot be read: others still can
            lines += [line async for line in _of_tokens(service)]
    body = "".join(f"{line}\n" for line in lines)
    return Response(body.encode(), headers={"Content-Type": METRICS_MEDIA_TYPE})


async def _of_tokens(service: Service) -> AsyncIterator[str]:
    at = await service.ledger.time()
    due_since = await service.warnings.due_since(at)
    waiting_s = 0.0 if due_since is None else (at - due_since).total_seconds()
    yield "# HELP scim_ledger_warnings_lag_seconds How long the first warning not told has waited."
    yield "# TYPE scim_ledger_warnings_lag_seconds gauge"
    yield f"scim_ledger_warnings_lag_seconds {waiting_s}"
    counts = await service.warnings.expiring(at)
    yield f"# HELP scim_ledger_tokens_expiring Tokens that end within days, {COUNTED} at most."
    yield "# TYPE scim_ledger_tokens_expiring gauge"
    for days, count in sorted(counts.items()):
        yield f'scim_ledger_tokens_expiring{{days="{days}"}} {count}'


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
