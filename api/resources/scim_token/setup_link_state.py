"""`GET /scim-token/{id}/setup-link`: what became of the link that hands a token over."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.ledger import TokenLedger
from domain.scim_token.handover.decide import end_of
from domain.scim_token.token import ScimToken
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent
from projections.described import EIGHT_HEX_DIGITS, Instant, one_of, rfc3339, rfc3339_or_none
from projections.follow.ledger_head import LedgerHeadWatch

_NEWEST: Final = Span()
_AS_OF_A_SECRET: Final = msgspec.Meta(extra_json_schema={"pattern": EIGHT_HEX_DIGITS})
"""A pattern that the schema of a string has also where it may be null."""


class SetupLinkState(msgspec.Struct, frozen=True):
    """The newest link of a token, and never its code.

    state: "open"; "used" once it has shown a secret; "expired", unused, by its time; "ended" by a
    command, a suspension or a revocation; "none" where none was made. id, ends_at, used_at: null
    where the token has let the link go, and used_at of one that has shown nothing. created_by: the
    user; null of one that was made at the command line for nobody.
    """

    state: Annotated[str, one_of("open", "used", "expired", "ended", "none")]
    id: Annotated[str, _AS_OF_A_SECRET] | None
    created_at: Instant | None
    created_by: UUID | None
    ends_at: Instant | None
    used_at: Instant | None


_EXAMPLE: Final = SetupLinkState(
    "open",
    id="5e1f09ab",
    created_at="2021-08-10T10:00:00.000Z",
    created_by=UUID("4f9b5c02-6f39-4c2f-8f6e-3f2d0d9f7a11"),
    ends_at="2021-08-11T10:00:00.000Z",
    used_at=None,
)
_NONE: Final = SetupLinkState(
    "none", id=None, created_at=None, created_by=None, ends_at=None, used_at=None
)


async def link_of(
    token: ScimToken,
    ledger: TokenLedger,
    audit: AuditQueries,
    heads: LedgerHeadWatch,
    *,
    at: datetime,
) -> SetupLinkState:
    """What became of the newest link of a token: its state tells, and the trail by whom it was.

    Both are read until they are of one link: another may be made between the two reads.
    """
    made = AuditFilter(token_id=token.id, kinds={"scim_token.setup_link_created"})
    while True:
        page = await audit.page(made, _NEWEST, limit=1, ledger_head=await heads.now())
        before, token = token, await ledger.scim_token(token.id)
        if _digest(before) == _digest(token):
            return _told(token, page.events[0], at=at) if page.events else _NONE


def _digest(token: ScimToken) -> bytes | None:
    return None if token.setup_link is None else token.setup_link.digest


def _told(token: ScimToken, created: AuditEvent, *, at: datetime) -> SetupLinkState:
    link = token.setup_link
    if link is None:
        return msgspec.structs.replace(
            _NONE, state="ended", created_at=created.at, created_by=created.user_id
        )
    ends_at = end_of(link, token)
    is_used = link.revealed_at is not None
    return SetupLinkState(
        "used" if is_used else "open" if at < ends_at else "expired",
        id=link.id,
        created_at=created.at,
        created_by=created.user_id,
        ends_at=rfc3339(ends_at),
        used_at=rfc3339_or_none(link.revealed_at),
    )


class SetupLinkStateController(Controller):
    """The read of `/scim-token/{id}/setup-link`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @get(
        "/{token_id:uuid}/setup-link",
        operation_id="getSetupLink",
        opt=requires(Permission.SCIM_TOKENS_READ),
        summary="See what became of the link that hands a SCIM token over (extension)",
        responses={
            200: ResponseSpec(
                SetupLinkState,
                description="The newest one; never its address.",
                examples=[Example(value=_EXAMPLE)],
            ),
            **documented(400, 401, 403, 404, 503),
        },
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, token_id: FromPath[UUID]
    ) -> SetupLinkState:
        """Also of a revoked token. Foreign and missing ones are 404."""
        caller = request.user
        token = await service.ledger.scim_token(token_id)
        caller.api_token.require_team(token.team_id)
        return await link_of(token, service.ledger, service.audit, service.heads, at=caller.at)
