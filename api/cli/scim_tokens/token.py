"""`scim-ledger token …`: the operations of `/scim-token`, for the operator."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from api.cli.console import (
    LIST_MAX,
    AsJson,
    DataDir,
    Reason,
    TokenId,
    ask_ledger,
    asked_at,
    aware,
    caught_up,
    operator,
    show,
    with_ledger,
)
from api.cli.trail import EVERYTHING, Trail, What, ask_trail, kind_of, show_events
from domain.commands import NewScimToken
from domain.errors import InvalidValue, NotFound
from domain.eventstore.lookups.page_end import PageEnd
from domain.ledger import TokenLedger
from domain.scim_token.token import ScimToken
from domain.scim_token.values import NAME_MAX_LENGTH, check_name
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent
from projections.follow.ledger_head import LedgerHeadWatch
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.filters import TokenFilter, of_the_present
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.view import document
from projections.usage.queries import STEPS, STEPS_MAX, UsageQueries, UsageStep, from_when

app = App(name="token", help="SCIM tokens.")

AsOf = Annotated[datetime | None, Parameter(help="As it was at this instant, with a time zone.")]


class Step(StrEnum):
    """What a token's use is counted by."""

    HOUR = "hour"
    DAY = "day"


@app.command(name="create")
def token_create(
    *,
    team: Annotated[UUID, Parameter(help="The team that will own it.")],
    name: Annotated[str, Parameter(help=f"What it is for, 1 to {NAME_MAX_LENGTH} characters.")],
    user: Annotated[UUID, Parameter(help="The user on whose behalf it is made.")],
    expires_at: Annotated[
        datetime | None, Parameter(help="Its end, with a time zone; without it, none.")
    ] = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a SCIM token for a team on behalf of a user; its secret is printed once."""
    ask = NewScimToken(team, name, aware("--expires-at", expires_at), reason)
    by = operator(user)
    token, secret = with_ledger(data_dir, lambda ledger: ledger.create_scim_token(ask, by=by))
    show({**fields_of(token), "token": secret.reveal()}, as_json=as_json)


@app.command(name="list")
def token_list(
    *,
    team: Annotated[UUID | None, Parameter(help="Only this team's.")] = None,
    name: Annotated[
        str | None,
        Parameter(
            help="Only those of exactly this name; with --as-of, the one that they have now."
        ),
    ] = None,
    status: Annotated[
        str, Parameter(help="active, suspended, revoked, expired or all.")
    ] = "active",
    unused_since: Annotated[
        datetime | None, Parameter(help="Only those not used since this instant, with a time zone.")
    ] = None,
    never_used: Annotated[bool, Parameter(help="Only those that were never used.")] = False,
    new_source_since: Annotated[
        datetime | None,
        Parameter(help="Only those used since then from an address that was new for them."),
    ] = None,
    rotating: Annotated[bool, Parameter(help="Only those with two good secrets.")] = False,
    created_by: Annotated[UUID | None, Parameter(help="Only those that this user made.")] = None,
    expires_before: Annotated[
        datetime | None,
        Parameter(help="Only those that end, before this instant, with a time zone."),
    ] = None,
    violates: Annotated[
        str | None,
        Parameter(help="policy: only those with an end, or none, that the policy forbids."),
    ] = None,
    as_of: AsOf = None,
    after: Annotated[
        UUID | None,
        Parameter(help="Only those after this one: the last of a page before, by its id."),
    ] = None,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest SCIM tokens, now or as they were at an instant."""
    if status not in {"active", "suspended", "revoked", "expired", "all"}:
        raise InvalidValue("--status", "must be active, suspended, revoked, expired or all")
    if violates not in {None, "policy"}:
        raise InvalidValue("--violates", "must be policy")
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}")
    if name is not None:
        check_name(name)
    narrow = TokenFilter(
        None if team is None else (team,),
        name=name,
        status=status,
        unused_since=asked_at("--unused-since", unused_since),
        is_never_used=never_used,
        new_source_since=asked_at("--new-source-since", new_source_since),
        is_rotating=rotating,
        created_by=created_by,
        expires_before=asked_at("--expires-before", expires_before),
        violates_policy=violates is not None,
    )
    for present in of_the_present(narrow) if as_of is not None else ():
        raise InvalidValue(f"--{present.replace('_', '-')}", "cannot go with --as-of")

    async def ask(ledger: TokenLedger) -> str:
        at, ledger_head = await ledger.time(), await LedgerHeadWatch(ledger.reads).now()
        then = asked_at("--as-of", as_of, latest=at)
        source = TokenQueries(ledger.reads) if then is None else AsOfQueries(ledger.reads)
        page_end = None if after is None else _page_end(ledger, after)
        page = await source.page(
            narrow, after=page_end, limit=limit, at=then or at, ledger_head=ledger_head
        )
        return page.documents

    with caught_up(data_dir) as settings:
        documents = ask_ledger(settings, ask)
    show(json.loads(documents), as_json=as_json)


@app.command(name="show")
def token_show(
    token_id: TokenId, *, as_of: AsOf = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """One SCIM token, as its own events tell it, now or at an instant; also when it is revoked."""

    async def ask(ledger: TokenLedger) -> ScimToken:
        then = asked_at("--as-of", as_of, latest=await ledger.time())
        return _replayed(ledger, token_id, until=then)

    show(fields_of(with_ledger(data_dir, ask)), as_json=as_json)


@app.command(name="history")
def token_history(
    token_id: TokenId, what: What = EVERYTHING, *, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """All that ever happened to one token, oldest first, also when it is revoked."""
    whole = AuditFilter(token_id=token_id)
    narrow = replace(what.narrow(), token_id=token_id)

    async def ask(trail: Trail) -> Sequence[AuditEvent]:
        if not (
            await trail.audit.page(whole, Span(), limit=1, ledger_head=trail.ledger_head)
        ).events:
            raise NotFound("no such token")
        pages = trail.audit.stream(
            narrow, Span(is_newest_first=False), limit=None, ledger_head=trail.ledger_head
        )
        return [event async for page in pages for event in page]

    show_events(ask_trail(data_dir, ask), as_json=as_json, fields=_of_one_token)


@app.command(name="usage")
def token_usage(
    token_id: TokenId,
    *,
    since: Annotated[
        datetime | None,
        Parameter(help="From this instant on, with a time zone; a day, or 30, ago."),
    ] = None,
    until: Annotated[
        datetime | None, Parameter(help="Until before this instant, with a time zone; now.")
    ] = None,
    step: Annotated[Step, Parameter(help="Hours, or days of UTC.")] = Step.HOUR,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """How often a SCIM token was used and refused, and from how many addresses,
    by the hour or the day.
    """
    first, end = asked_at("--since", since), asked_at("--until", until)

    async def ask(ledger: TokenLedger) -> Sequence[UsageStep]:
        to_at = end or await ledger.time()
        from_at = first or from_when(step, to_at)
        if not timedelta(0) < to_at - from_at <= STEPS[step] * (STEPS_MAX - 1):
            raise InvalidValue(
                "--since", f"must be before --until, by {STEPS_MAX - 1} steps at most"
            )
        ledger_head = await LedgerHeadWatch(ledger.reads).now()
        if not await TokenQueries(ledger.reads).is_known(
            token_id, teams=None, ledger_head=ledger_head
        ):
            raise NotFound("no such token")
        usage = UsageQueries(ledger.reads)
        return await usage.steps(
            token_id, from_at=from_at, to_at=to_at, step=STEPS[step], ledger_head=ledger_head
        )

    with caught_up(data_dir) as settings:
        steps = ask_ledger(settings, ask)
    show([msgspec.structs.asdict(each) for each in steps], as_json=as_json)


def _replayed(
    ledger: TokenLedger,
    token_id: UUID,
    *,
    version: int | None = None,
    until: datetime | None = None,
) -> ScimToken:
    with suppress(NotFound):
        found = ledger.replay(token_id, version=version, until=until)
        if isinstance(found, ScimToken):
            return found
    raise NotFound("no such token")


def _page_end(ledger: TokenLedger, token_id: UUID) -> PageEnd:
    """Where a token stands in the list."""
    return PageEnd(_replayed(ledger, token_id, version=1).created_at, token_id)


def _of_one_token(event: AuditEvent) -> Mapping[str, Any]:
    """Its team and id are known; so there is room for why and where from."""
    return {
        "at": event.at,
        "kind": kind_of(event),
        "outcome": event.outcome,
        "reason": event.reason,
        "by": event.operator or event.user_id,
        "source": event.source,
    }


def fields_of(token: ScimToken) -> Mapping[str, Any]:
    """A token as the command line shows it: the token object, also what was never used of it;
    and the networks from which alone it is good, where there are any.
    """
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(document(token)))
    del fields["rotation"]  # how its secrets are used, no event of a token says
    if token.networks:
        fields["networks"] = token.networks
    return fields
