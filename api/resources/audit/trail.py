"""The resources of the audit trail: `/audit`, a token's events, its use over time. Read-only."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from api.admission import requires
from api.errors import BadRequest, FieldError
from api.http.instants import instant, span
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.http.values import Check
from api.resources.audit.formats import MEDIA_TYPES, Format, InEveryFormat, csv, negotiate
from api.service import InjectedService, Service, admitted_again, visible_teams
from domain.api_token.permissions import Permission
from domain.errors import InvalidValue, NotFound
from domain.eventstore.lookups.api_tokens import Caller
from domain.networks.plain import plain_network
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import KINDS, AuditEvent, Kind, kinds_left, secret_number
from projections.described import EIGHT_HEX_DIGITS, Instant, rfc3339
from projections.usage.queries import STEPS, STEPS_MAX, UsageStep, from_when

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
ADMITTED_FOR_S: Final = 1.0
"""How long an export goes on before it is asked again whether its caller is good still."""

EXAMPLE: Final = AuditEvent(
    position=4711,
    at="2021-08-10T10:00:00.000Z",
    kind="scim_token.used",
    outcome="success",
    reason=None,
    team_id=UUID("05daecaf-4365-42e8-8370-8127de5dd717"),
    token_id=UUID("d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0"),
    user_id=None,
    api_token_id=None,
    door="scim",
    source="192.0.2.1",
    user_agent="Okta SCIM Client 1.0.0",
    method="PATCH",
    path_class="Users/{id}",
    note=None,
    count=3,
    use_id=UUID("0b8e2a35-1c2f-4a0a-9a8e-6a2f6f4f4a11"),
    operator=None,
    secret="5e1f09ab",  # noqa: S106 - its id
    cause=None,
)
"""Examples are structs: Litestar leaves out what is None in a mapping,
and a null is part of the contract.
"""


class AuditList(msgspec.Struct, frozen=True):
    """One page. next_cursor: null on the last page."""

    limit: int
    next_cursor: str | None
    result: Sequence[AuditEvent]


class TokenUsage(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A token's use from `from` to `to`, a step at a time, oldest first;
    steps without any use are zeros.
    """

    from_: Instant
    to: Instant
    step: Literal["hour", "day"]
    result: Sequence[UsageStep]


Order = Annotated[
    Literal["newest", "oldest"],
    QueryParameter(description="Which end comes first.", required=False),
]
Limit = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        description=f"Rows: of a page {LIMIT_DEFAULT} unless given and "
        f"{LIMIT_MAX} at most; of a stream all.",
        required=False,
    ),
]
Cursor = Annotated[
    str | None,
    QueryParameter(description="From the page before; empty for the first.", required=False),
]
Kinds = Annotated[
    list[Kind] | None,
    QueryParameter(name="kind", description="Only these events.", required=False),
    Check(lambda kind, _: _check_kind(kind)),
]
Secret = Annotated[
    str | None,
    QueryParameter(
        description="Only about this secret of the token, by its id: how it was used, and refused.",
        required=False,
        pattern=EIGHT_HEX_DIGITS,
    ),
    Check(lambda secret, _: _check_secret(secret)),
]
Outcome = Annotated[
    Literal["success", "refused"] | None, QueryParameter(description="Only these.", required=False)
]
From = Annotated[
    datetime | None, QueryParameter(name="from", description="The first instant.", required=False)
]
To = Annotated[
    datetime | None,
    QueryParameter(name="to", description="The first instant after.", required=False),
]
AsFormat = Annotated[
    Format | None,
    QueryParameter(name="format", description="Instead of the Accept header.", required=False),
]
_PAGE: Final = ResponseSpec(
    AuditList,
    description="One page as JSON; or every row as NDJSON or CSV, as `format` or `Accept` ask.",
    examples=[Example(value=AuditList(100, None, [EXAMPLE]))],
)


class AuditController(Controller):
    """`/audit`: every fact of the ledger that the caller may know."""

    path = "/audit"
    tags = ("Audit trail",)
    opt = requires(Permission.AUDIT_READ)

    @get(
        operation_id="listAuditEvents",
        operation_class=InEveryFormat,
        summary="Query the audit trail",
        responses={200: _PAGE, **documented(400, 401, 403, 406, 503)},
    )
    async def list_(  # noqa: PLR0917 - a filter per column
        self,
        request: StrictRequest,
        service: InjectedService,
        team_id: Annotated[
            UUID | None, QueryParameter(description="Only this team's.", required=False)
        ] = None,
        token_id: Annotated[
            UUID | None, QueryParameter(description="Only about this token.", required=False)
        ] = None,
        user_id: Annotated[
            UUID | None, QueryParameter(description="Only what this user did.", required=False)
        ] = None,
        api_token_id: Annotated[
            UUID | None, QueryParameter(description="Only what this API token did.", required=False)
        ] = None,
        secret: Secret = None,
        kind: Kinds = None,
        outcome: Outcome = None,
        source: Annotated[
            str | None,
            QueryParameter(description="Only from this address or network (CIDR).", required=False),
            Check(lambda source, _: _check_network(source)),
        ] = None,
        from_: From = None,
        to: To = None,
        order: Order = "newest",
        limit: Limit = None,
        next_cursor: Cursor = None,
        format_: AsFormat = None,
    ) -> Response[AuditList]:
        """One page of the trail, or all of it as a stream.

        A caller with teams sees what is theirs. `secret` needs `token_id`.
        """
        if secret is not None and token_id is None:
            detail = "needs token_id: a secret's id is one among those of its token"
            raise BadRequest("A parameter is not valid.", [FieldError("secret", detail)])
        from_at, to_at = span(from_, to)
        narrow = AuditFilter(
            teams=visible_teams(request.user.api_token.teams, team_id),
            token_id=token_id,
            user_id=user_id,
            api_token_id=api_token_id,
            secret=None if secret is None else secret_number(secret),
            kinds=kinds_left(kind, outcome),
            source=None if source is None else plain_network(source),
            from_at=from_at,
            to_at=to_at,
        )
        return await answer(request, service, narrow, order, limit, next_cursor, format_)


class TokenHistoryController(Controller):
    """`/scim-token/{id}/events` and `/scim-token/{id}/usage`: what one token did."""

    path = "/scim-token/{token_id:uuid}"
    tags = ("Audit trail",)
    opt = requires(Permission.AUDIT_READ)

    @get(
        "/events",
        operation_id="listScimTokenEvents",
        operation_class=InEveryFormat,
        summary="Read the history of a SCIM token",
        responses={200: _PAGE, **documented(400, 401, 403, 404, 406, 503)},
    )
    async def events(  # noqa: PLR0917 - a filter per column
        self,
        request: StrictRequest,
        service: InjectedService,
        token_id: FromPath[UUID],
        secret: Secret = None,
        kind: Kinds = None,
        outcome: Outcome = None,
        from_: From = None,
        to: To = None,
        order: Order = "newest",
        limit: Limit = None,
        next_cursor: Cursor = None,
        format_: AsFormat = None,
    ) -> Response[AuditList]:
        """All that ever happened to a token, also when it is revoked.

        Foreign and missing ones are 404.
        """
        caller = request.user
        from_at, to_at = span(from_, to)
        await _require(service, caller, token_id)
        narrow = AuditFilter(
            teams=caller.api_token.teams,
            token_id=token_id,
            secret=None if secret is None else secret_number(secret),
            kinds=kinds_left(kind, outcome),
            from_at=from_at,
            to_at=to_at,
        )
        return await answer(request, service, narrow, order, limit, next_cursor, format_)

    @get(
        "/usage",
        operation_id="getScimTokenUsage",
        summary="Read the use of a SCIM token over time",
        responses={
            200: ResponseSpec(
                TokenUsage,
                description="Uses, refusals and distinct sources of each step.",
                examples=[
                    Example(
                        value={
                            "from": "2021-08-10T10:00:00.000Z",
                            "to": "2021-08-10T11:00:00.000Z",
                            "step": "hour",
                            "result": [
                                {
                                    "at": "2021-08-10T10:00:00.000Z",
                                    "uses": 120,
                                    "refusals": 0,
                                    "sources": 2,
                                }
                            ],
                        }
                    )
                ],
            ),
            **documented(400, 401, 403, 404, 503),
        },
    )
    async def usage(  # noqa: PLR0917 - the query of the usage
        self,
        request: StrictRequest,
        service: InjectedService,
        token_id: FromPath[UUID],
        from_: From = None,
        to: To = None,
        step: Annotated[
            Literal["hour", "day"],
            QueryParameter(description="Hours, or days of UTC.", required=False),
        ] = "hour",
    ) -> TokenUsage:
        """Up to 1,000 steps; the last day by the hour unless asked otherwise.

        Also of a revoked token.
        """
        caller = request.user
        to_at = instant("to", to) or caller.at
        from_at = instant("from", from_) or from_when(step, to_at)
        if not timedelta(0) < to_at - from_at <= STEPS[step] * (STEPS_MAX - 1):
            detail = f"must be before `to`, by {STEPS_MAX - 1} steps at most"
            raise BadRequest("A parameter is not valid.", [FieldError("from", detail)])
        await _require(service, caller, token_id)
        steps = await service.usage.steps(
            token_id, from_at=from_at, to_at=to_at, step=STEPS[step], ledger_head=caller.ledger_head
        )
        return TokenUsage(rfc3339(from_at), rfc3339(to_at), step, steps)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidValue("/kind", f"must be one of: {', '.join(sorted(KINDS))}")


async def _require(service: Service, caller: Caller, token_id: UUID) -> None:
    if not await service.tokens.is_known(
        token_id, teams=caller.api_token.teams, ledger_head=caller.ledger_head
    ):
        raise NotFound("no such token")


def _check_secret(secret: str) -> None:
    if re.fullmatch(EIGHT_HEX_DIGITS, secret) is None:
        raise InvalidValue("/secret", "must be eight hex digits, in small letters")


def _check_network(source: str) -> None:
    try:
        plain_network(source)
    except ValueError:
        detail = "must be an address or a network, such as 192.0.2.0/24"
        raise InvalidValue("/source", detail) from None


async def answer(  # noqa: PLR0917
    request: StrictRequest,
    service: Service,
    narrow: AuditFilter,
    order: str,
    limit: int | None,
    next_cursor: str | None,
    format_: Format | None,
) -> Response[Any]:
    """A page of the trail as JSON, or all of it in another format."""
    caller = request.user
    wanted = negotiate(format_, request.list_field("accept"))
    scope = "audit", order, narrow
    after = await service.cursors.position(next_cursor, scope=scope)
    span = Span(is_newest_first=order == "newest", after=after)
    if wanted is not Format.JSON:
        whole = narrow, span
        if wanted is Format.NDJSON:
            lines = service.audit.lines(*whole, limit=limit, ledger_head=caller.ledger_head)
            return await _stream(_while_good(lines, service, caller), wanted)
        rows = service.audit.stream(*whole, limit=limit, ledger_head=caller.ledger_head)
        return await _stream(_while_good(csv(rows), service, caller), wanted)
    if limit is not None and limit > LIMIT_MAX:
        detail = f"must be at most {LIMIT_MAX}; NDJSON and CSV have no limit"
        raise BadRequest("A parameter is not valid.", [FieldError("limit", detail)])
    limit = limit or LIMIT_DEFAULT
    page = await service.audit.page(narrow, span, limit=limit, ledger_head=caller.ledger_head)
    cursor = None if page.next is None else service.cursors.encode_position(page.next, scope=scope)
    return Response(AuditList(limit, cursor, page.events))


async def _while_good(
    pieces: AsyncIterator[bytes], service: Service, caller: Caller
) -> AsyncIterator[bytes]:
    """The pieces, until the caller may have no more: who reads slowly may read for hours."""
    loop = asyncio.get_running_loop()
    admitted_at = loop.time()
    async for piece in pieces:
        if loop.time() > admitted_at + ADMITTED_FOR_S:
            await admitted_again(service, caller, Permission.AUDIT_READ)
            admitted_at = loop.time()
        yield piece


async def _stream(pieces: AsyncIterator[bytes], format_: Format) -> Response[Any]:
    """Send piece after piece, each when the one before is on its way.

    The first one is read before the status is sent, so an outage is a 503; a later one breaks the
    connection off, which chunked coding makes visible.
    """
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {"Content-Disposition": f'attachment; filename="audit.{format_}"'}
    return Stream(whole(), media_type=MEDIA_TYPES[format_], headers=headers)
