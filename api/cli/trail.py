"""Filters, queries and output of the commands that read the audit trail."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from cyclopts import Parameter

from api.cli.console import asked_at, caught_up, show
from api.cli.ending import run
from domain.errors import InvalidValue
from domain.networks.plain import plain_network
from domain.postgres.read_pool import ReadPool
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Network
from projections.audit_trail.view import KINDS, AuditEvent, kinds_left, secret_number
from projections.described import EIGHT_HEX_DIGITS
from projections.follow.ledger_head import LedgerHeadWatch

T = TypeVar("T")

Kinds = Annotated[
    tuple[str, ...] | None,
    Parameter(
        name="--kind",
        help="Only this kind, such as scim_token.used; repeat it for several.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class What:
    """Which facts: about which secret, of which kinds, and from when until when."""

    secret: Annotated[
        str | None, Parameter(help="Only about this secret of the token, by its id.")
    ] = None
    kind: Kinds = None
    outcome: Annotated[str | None, Parameter(help="success or refused.")] = None
    since: Annotated[datetime | None, Parameter(help="From this instant on, with a time zone.")] = (
        None
    )
    until: Annotated[
        datetime | None, Parameter(help="Until before this instant, with a time zone.")
    ] = None

    def narrow(self) -> AuditFilter:
        """The same for a query. Raises InvalidValue."""
        from_at, to_at = asked_at("--since", self.since), asked_at("--until", self.until)
        if from_at is not None and to_at is not None and from_at > to_at:
            raise InvalidValue("--since", "must not be after --until")
        if self.outcome not in {None, "success", "refused"}:
            raise InvalidValue("--outcome", "must be success or refused")
        if self.secret is not None and not re.fullmatch(EIGHT_HEX_DIGITS, self.secret):
            raise InvalidValue("--secret", "must be eight hex digits, as token secrets lists them")
        return AuditFilter(
            secret=None if self.secret is None else secret_number(self.secret),
            kinds=kinds_of(self.kind, self.outcome),
            from_at=from_at,
            to_at=to_at,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters(What):
    """What the trail is narrowed to."""

    team: Annotated[UUID | None, Parameter(help="Only of this team.")] = None
    token: Annotated[UUID | None, Parameter(help="Only of this SCIM token, by its id.")] = None
    user: Annotated[UUID | None, Parameter(help="Only what this user did.")] = None
    api_token: Annotated[
        UUID | None, Parameter(help="Only what was done with this API token, by its id.")
    ] = None
    source: Annotated[
        str | None, Parameter(help="Only from this address or network, such as 192.0.2.0/24.")
    ] = None

    def narrow(self) -> AuditFilter:
        """The same for a query. Raises InvalidValue."""
        if self.secret is not None and self.token is None:
            raise InvalidValue("--secret", "needs --token: it is one among those of its token")
        return replace(
            super().narrow(),
            teams=None if self.team is None else (self.team,),
            token_id=self.token,
            user_id=self.user,
            api_token_id=self.api_token,
            source=_network(self.source),
        )


EVERYTHING: Final = What()
ALL: Final = Filters()


def kinds_of(kind: tuple[str, ...] | None, outcome: str | None = None) -> frozenset[str] | None:
    """The kinds that are left, None for all. Raises InvalidValue."""
    if kind is not None and not KINDS.issuperset(kind):
        raise InvalidValue("--kind", f"must be one of {', '.join(sorted(KINDS))}")
    return kinds_left(kind, outcome)


class Trail(NamedTuple):
    """What a command asks. ledger_head: the ledger's when it started; the views have reached it."""

    conninfo: str
    audit: AuditQueries
    heads: LedgerHeadWatch
    ledger_head: int


def ask_trail(data_dir: Path | None, ask: Callable[[Trail], Awaitable[T]]) -> T:
    """Ask beside a running service, or on a server started for it:
    then nobody else fills the views.
    """

    async def ask_beside(conninfo: str) -> T:
        pool = ReadPool(conninfo)
        try:
            heads = LedgerHeadWatch(pool)
            return await ask(Trail(conninfo, AuditQueries(pool), heads, await heads.now()))
        finally:
            await pool.close()

    with caught_up(data_dir) as settings:
        assert settings.database_url is not None
        return run(ask_beside(settings.database_url))


def show_events(
    events: Sequence[AuditEvent],
    *,
    as_json: bool,
    fields: Callable[[AuditEvent], Mapping[str, Any]] | None = None,
) -> None:
    """All that is known of each with --json;
    else what `fields` tell, or what fits a terminal's line.
    """
    fields = msgspec.to_builtins if as_json else fields or brief
    show([fields(event) for event in events], as_json=as_json)


def brief(event: AuditEvent) -> Mapping[str, Any]:
    """What fits a terminal's line; --json has the rest."""
    return {
        "at": event.at,
        "kind": kind_of(event),
        "outcome": event.reason if event.outcome == "refused" else event.outcome,
        "token": event.token_id,
        "team": event.team_id,
        "by": event.operator or event.user_id or event.source,
    }


def kind_of(event: AuditEvent) -> str:
    """Its kind, and how many presentations it stands for."""
    return event.kind if event.count == 1 else f"{event.kind} x{event.count}"


def _network(source: str | None) -> Network | None:
    try:
        return None if source is None else plain_network(source)
    except ValueError:
        raise InvalidValue(
            "--source", "must be an address or a network, such as 192.0.2.0/24"
        ) from None
