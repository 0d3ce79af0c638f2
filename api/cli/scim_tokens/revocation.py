"""`scim-ledger token revoke` and `token revoke-many`: the end of SCIM tokens."""

from collections.abc import Mapping
from datetime import datetime
from math import inf
from typing import Annotated, Any
from uuid import UUID

import msgspec
from cyclopts import Parameter

from api.bulk_revocation import BulkRevocation, BulkRevoker
from api.cli.console import (
    AsJson,
    DataDir,
    OnBehalf,
    Reason,
    TokenId,
    ask_ledger,
    asked_at,
    caught_up,
    operator,
    show,
    with_ledger,
)
from api.clock_and_ids import now
from domain.commands import CommandKey
from domain.errors import InvalidValue
from domain.eventstore.ledger_clock import APART_MAX
from domain.ledger import TokenLedger
from domain.scim_token.conditions import TokenConditions
from domain.scim_token.values import check_reason
from projections.follow.ledger_head import LedgerHeadWatch
from projections.scim_tokens.matching import TokenMatches


def revoke(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    if_unused_since: Annotated[
        datetime | None,
        Parameter(help="Only if it was not used at or after this instant, with a time zone."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a SCIM token, from now on and everywhere."""
    check_reason(reason)
    by, unused_since = operator(user), _unused("--if-unused-since", if_unused_since)
    with_ledger(
        data_dir,
        lambda ledger: ledger.revoke_scim_token(
            token_id, by=by, reason=reason, unused_since=unused_since
        ),
    )
    show({"id": str(token_id)}, as_json=as_json)


def revoke_many(
    *,
    team: Annotated[UUID | None, Parameter(help="Those of this team.")] = None,
    created_by: Annotated[UUID | None, Parameter(help="Those that this user made.")] = None,
    token: Annotated[
        list[UUID] | None,
        Parameter(help="This one, by its id; repeat it for several."),
    ] = None,
    unused_since: Annotated[
        datetime | None,
        Parameter(help="Those there at this instant, and not used since; with a time zone."),
    ] = None,
    created_before: Annotated[
        datetime | None, Parameter(help="Those made before this instant, with a time zone.")
    ] = None,
    violates_policy: Annotated[
        bool,
        Parameter(help="Those with an end, or none, that the policy in force forbids."),
    ] = False,
    confirm: Annotated[
        bool, Parameter(help="Do it; without this, say which would be revoked.")
    ] = False,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke every SCIM token that meets all of the conditions given; with --confirm, really."""
    where = TokenConditions(
        team_id=team,
        created_by=created_by,
        ids=frozenset(token) if token else None,
        unused_since=_unused("--unused-since", unused_since),
        created_before=asked_at("--created-before", created_before),
        violates_policy=violates_policy,
    )
    check_reason(reason)
    by = operator(user)

    async def ask(ledger: TokenLedger) -> Mapping[str, Any]:
        heads = LedgerHeadWatch(ledger.reads)
        revoker = BulkRevoker(ledger, TokenMatches(ledger.reads), heads)
        key = CommandKey(ledger.clock_and_ids.new_id(), b"")
        asked = BulkRevocation(where, reason, by, None, key, await heads.now())
        if confirm:
            done = await revoker.revoke(asked, within_s=inf)
        else:
            done = await revoker.rehearse(asked, within_s=inf)
        return {
            "matched": done.matched,
            "revoked": done.revoked,
            "result": [msgspec.to_builtins(each) for each in done.told],
            "cause": str(key.id) if confirm else None,
        }

    with caught_up(data_dir) as settings:
        if not where.are_given:
            raise InvalidValue("--team", "is needed, or another condition")
        found = ask_ledger(settings, ask)
    if as_json:
        show(found, as_json=True)
    else:
        show(found["result"], as_json=False)
        show({name: found[name] for name in ("matched", "revoked", "cause")}, as_json=False)


def _unused(name: str, since: datetime | None) -> datetime | None:
    """Of an instant that is still to come every token is unused, whoever uses it."""
    return asked_at(name, since, latest=now() + APART_MAX)
