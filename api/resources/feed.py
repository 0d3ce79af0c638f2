"""The feed `/events`: the trail in commit order for collectors (SIEM), as CloudEvents,
with a long poll.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import Response, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from api.admission import requires
from api.doors.client_address import reached
from api.errors import BadRequest, FieldError
from api.http.deadline import Deadline, deadline_of
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.audit.trail import EXAMPLE, LIMIT_DEFAULT, LIMIT_MAX, Kinds
from api.service import InjectedService, Service, admitted_again
from domain.api_token.permissions import Permission
from domain.eventstore.lookups.api_tokens import Caller
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent, Kind, kinds_left
from projections.described import Instant

BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"
WAIT_MAX_S: Final = 30
POSITION_MAX: Final = 2**63 - 1
BEYOND: Final = (
    "is beyond the ledger: if you have stored an event of that position, the ledger was restored "
    "from an older state. Tell whoever runs it (scim-ledger recover --seen), and do not start over."
)

logger = structlog.get_logger()


class CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of the feed (CloudEvents 1.0, JSON format).

    id: the position. source: this ledger's address; source and id together are unique. type: the
    event's kind. subject: what it is about, e.g. "scim_token/<uuid>". data: the row of the audit
    trail.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]
    source: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri"})]
    type: Kind
    time: Instant
    data: AuditEvent
    subject: str | None = None
    specversion: Literal["1.0"] = msgspec.field(default_factory=lambda: "1.0")
    datacontenttype: Literal["application/json"] = msgspec.field(
        default_factory=lambda: "application/json"
    )


EXAMPLE_EVENT: Final = CloudEvent(
    id="4711",
    source="https://scim-ledger.example.com/events",
    type="scim_token.used",
    time="2021-08-10T10:00:00.000Z",
    data=EXAMPLE,
    subject="scim_token/d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0",
)


@get(
    "/events",
    operation_id="followEvents",
    opt=requires(Permission.AUDIT_READ),
    summary="Follow the ledger",
    tags=["Audit trail"],
    response_headers=[
        ResponseHeader(
            name="Link", description='rel="next": where to go on.', documentation_only=True
        )
    ],
    responses={
        200: ResponseSpec(
            list[CloudEvent],
            media_type=BATCH_MEDIA_TYPE,
            generate_examples=False,
            description="Events after the position, in commit order; empty "
            "when there were none in time.",
            examples=[Example(value=[EXAMPLE_EVENT])],
        ),
        **documented(400, 401, 403, 503),
    },
)
async def follow_events(  # noqa: PLR0917 - the query of the feed
    request: StrictRequest,
    service: InjectedService,
    after: Annotated[
        int,
        QueryParameter(
            ge=0, le=POSITION_MAX, description="The last position seen.", required=False
        ),
    ] = 0,
    limit: Annotated[
        int, QueryParameter(ge=1, le=LIMIT_MAX, description="Events a batch.", required=False)
    ] = LIMIT_DEFAULT,
    wait: Annotated[
        int,
        QueryParameter(
            ge=0,
            le=WAIT_MAX_S,
            description="Seconds to wait where there is nothing yet.",
            required=False,
        ),
    ] = 0,
    kind: Kinds = None,
) -> Response[list[CloudEvent]]:
    """Every event at least once, in order: go on after the last position that you stored.

    `Link: <…>; rel="next"` says where that is, also past events that the caller's teams or `kind`
    leave out.
    """
    caller = request.user
    if after > caller.ledger_head:
        # Evidence, or a slip of the pen: it is told, and stops nobody else.
        service.instruments.feed_beyond.add(())
        logger.warning(
            "feed.beyond_the_ledger",
            after=after,
            ledger_head=caller.ledger_head,
            api_token_id=str(caller.api_token.id),
        )
        raise BadRequest("A parameter is not valid.", [FieldError("after", BEYOND)])
    narrow = AuditFilter(teams=caller.api_token.teams, kinds=kinds_left(kind, None))
    deadline = deadline_of(request.scope)
    events, next_ = await _await_events(
        service, caller, narrow, after, deadline, limit=limit, wait_s=wait
    )
    source = f"{_address(request, service)}/events"
    again = [
        ("after", next_),
        ("limit", limit),
        ("wait", wait),
        *(("kind", name) for name in kind or ()),
    ]
    return Response(
        [_cloud_event(event, source) for event in events],
        media_type=BATCH_MEDIA_TYPE,
        headers={"Link": f'</events?{urlencode(again)}>; rel="next"'},
    )


async def _await_events(
    service: Service,
    caller: Caller,
    narrow: AuditFilter,
    after: int,
    deadline: Deadline,
    *,
    limit: int,
    wait_s: float,
) -> tuple[Sequence[AuditEvent], int]:
    """Events after a position, and the position up to which there are no others.

    deadline: of the request; the wait that the client asked for does not count against it.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        span = Span(is_newest_first=False, after=after)
        page = await service.audit.page(narrow, span, limit=limit, ledger_head=caller.ledger_head)
        after = page.seen_to(after, ledger_head=caller.ledger_head)
        left_s = until - loop.time()
        if page.events or left_s <= 0:
            return page.events, after
        deadline.pause()
        try:
            has_news = await service.heads.beyond(after, timeout_s=left_s)
        finally:
            # A collector of rare kinds looks again at each commit of the others: that is bounded
            # by the wait, and each look for itself.
            deadline.start_anew()
        if not has_news:
            return page.events, after
        # Who waited half a minute may have been revoked meanwhile.
        caller = await admitted_again(service, caller, Permission.AUDIT_READ)


def _address(request: StrictRequest, service: Service) -> str:
    """Ours as the client knows it, in whatever spelling: it tells ledgers apart, and leads nobody
    anywhere.
    """
    origin = service.doors.client_addresses.origin(request.scope)
    host = origin.host or request.headers.get("host") or reached(request.scope)
    return f"{origin.scheme}://{host}"


def _cloud_event(event: AuditEvent, source: str) -> CloudEvent:
    aggregate = event.kind.partition(".")[0]
    return CloudEvent(
        id=str(event.position),
        source=source,
        type=event.kind,
        time=event.at,
        data=event,
        subject=None if event.token_id is None else f"{aggregate}/{event.token_id}",
    )
