"""The extension `/scim-token/revoke`: many tokens at once, by conditions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body
from msgspec import UNSET, UnsetType

from api.admission import requires
from api.bulk_revocation import BulkOutcome, BulkRevocation
from api.http.deadline import deadline_of
from api.http.instants import FIRST, LAST, OUT_OF_RANGE
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.http.values import Check
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import EXAMPLE, IsPast, Reason
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.authority import ApiCall
from domain.commands import CommandKey
from domain.errors import InvalidValue
from domain.scim_token.conditions import TokenConditions
from projections.scim_tokens.matching import ChosenToken

IDS_MAX: Final = 1000
WITHIN_S: Final = 50.0
"""Proxies give up after a minute. What is not done by then, a repeat with the same key does."""


def _check_in_range(at: datetime) -> None:
    if not FIRST <= at < LAST:
        raise InvalidValue("", OUT_OF_RANGE)


def _check_true(is_asked: bool) -> None:
    if not is_asked:
        raise InvalidValue("", "must be true, or left out")


_Instant = Annotated[datetime, msgspec.Meta(tz=True), Check(lambda at, _: _check_in_range(at))]


class Where(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What tokens are revoked: those that are not yet, and meet all of the conditions given.

    ids: 1 to 1000. unused_since: there then, and not used since. created_before: made before.
    violates_policy: with an end, or none, that the policy forbids which is in force when the
    request begins, and still when the token is revoked; that a team has more live tokens than it
    may have is no matter of one token.
    """

    team_id: Annotated[UUID, msgspec.Meta(description="Of this team.")] | UnsetType = UNSET
    created_by: Annotated[UUID, msgspec.Meta(description="Made by this user.")] | UnsetType = UNSET
    ids: (
        Annotated[
            list[UUID],
            msgspec.Meta(min_length=1, max_length=IDS_MAX, description="One of these."),
        ]
        | UnsetType
    ) = UNSET
    unused_since: (
        Annotated[_Instant, msgspec.Meta(description="There then, and not used since."), IsPast]
        | UnsetType
    ) = UNSET
    created_before: (
        Annotated[_Instant, msgspec.Meta(description="Made before this instant.")] | UnsetType
    ) = UNSET
    violates_policy: (
        Annotated[
            bool,
            msgspec.Meta(description="True: with an end, or none, that the policy forbids."),
            Check(lambda is_asked, _: _check_true(is_asked)),
        ]
        | UnsetType
    ) = UNSET

    def conditions(self) -> TokenConditions:
        """For the ledger."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not UNSET
        }
        if "ids" in given:
            given["ids"] = frozenset(given["ids"])
        return TokenConditions(**given)


def _check_given(where: Where) -> None:
    if where == Where():
        raise InvalidValue("", "must have one condition at least")


class RevokeScimTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens to revoke. dry_run: say which they would be, and revoke none."""

    where: Annotated[Where, Check(lambda where, _: _check_given(where))]
    dry_run: Annotated[
        bool, msgspec.Meta(description="True: say which they would be, and revoke none.")
    ] = False
    reason: Reason | None = None


class RevokedScimTokens(msgspec.Struct, frozen=True):
    """How many tokens matched, how many of them are revoked now, and the first thousand of those
    that matched, newest first.

    cause: in the trail and the feed, of each of these revocations; null for a dry run.
    """

    matched: int
    revoked: int
    result: Sequence[ChosenToken]
    cause: UUID | None


_ASK: Final = {"where": {"unused_since": "2021-05-10T10:00:00.000Z"}, "reason": "nobody used it"}
_ANSWER: Final = RevokedScimTokens(
    matched=1,
    revoked=1,
    result=[ChosenToken(EXAMPLE.id, EXAMPLE.team_id, EXAMPLE.name, None)],
    cause=UUID("8c7d0a52-3f0e-5a51-9f0c-0d7c2f0e6b1a"),
)


class BulkRevocationController(Controller):
    """`/scim-token/revoke`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @post(
        "/revoke",
        operation_id="revokeScimTokens",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Revoke many SCIM tokens (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                RevokedScimTokens,
                description="Revoked, everywhere, from now on; or what would be.",
                examples=[Example(value=_ANSWER)],
            ),
            **documented(400, 401, 403, 413, 415, 422, 503),
        },
    )
    async def revoke_many(
        self,
        request: StrictRequest,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        data: Annotated[RevokeScimTokens, Body(examples=[Example(value=_ASK)])],
    ) -> RevokedScimTokens:
        """Final and immediate. Of teams that the caller may not touch, nothing is matched.

        Takes as long as it needs, 50 seconds at most: then 503, and what is done stays done. A
        repeat with the same Idempotency-Key goes on where it was, and tells of all of it; it never
        touches tokens that were made since the first time.
        """
        key = key or CommandKey(service.ledger.clock_and_ids.new_id(), b"")
        where = data.where.conditions()
        done = await carry_out(
            request, service, call, where, key, reason=data.reason, is_rehearsal=data.dry_run
        )
        cause = None if data.dry_run else key.id
        return RevokedScimTokens(done.matched, done.revoked, done.told, cause)


async def carry_out(
    request: StrictRequest,
    service: Service,
    call: ApiCall,
    where: TokenConditions,
    key: CommandKey,
    *,
    reason: str | None,
    is_rehearsal: bool = False,
) -> BulkOutcome:
    """Revoke them, or say which would be, within `WITHIN_S`: the request's own deadline waits."""
    caller = request.user
    ask = BulkRevocation(
        where,
        reason=reason,
        by=call,
        teams=caller.api_token.teams,
        key=key,
        ledger_head=caller.ledger_head,
    )
    deadline = deadline_of(request.scope)
    deadline.pause()
    try:
        do = service.bulk.rehearse if is_rehearsal else service.bulk.revoke
        return await do(ask, within_s=WITHIN_S)
    finally:
        deadline.resume()
