"""The view `audit_trail`: one row per fact of the ledger.

Nothing is left out and nothing is ever changed.

A row is keyed by its event's position. Positions and instants run in the same order (ledger time
never goes back), so a range of time is a range of positions, and every index that ends in
`position` serves both.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec

from domain.event import Actor, Event
from domain.eventstore.event_registry import REGISTRY
from domain.secret import SecretId
from projections.addresses import Address, address_of
from projections.audit_trail.details import DETAILS, NOBODY, UNTOLD
from projections.described import Instant, SecretDigits, one_of, rfc3339
from projections.kinds.row_per_event import RowPerEvent
from projections.projection import LogEntry

USED: Final = "scim_token.used"
"""The kind of nearly every row; what is not of it has small indexes of its own."""


def kind_of(topic: str) -> str:
    """The public name of an event: its topic without the version,
    which is a matter of our bytes.
    """
    return topic.rpartition(".")[0]


_NAMES: Final = {topic: (kind_of(topic), topic.partition(".")[0]) for topic in REGISTRY.topics}
"""Of each topic its kind, and the name of the aggregate."""

KINDS: Final = frozenset(kind for kind, _ in _NAMES.values())
REFUSALS: Final = (
    frozenset({"scim_token.refused", "api_token.refused", "refusal_tally.counted"}) & KINDS
)
DOORS: Final = (
    *("api", "envoy", "forward", "introspect", "leak-report", "nginx", "revoke", "scim", "verify"),
)
Kind: TypeAlias = Annotated[str, one_of(*sorted(KINDS))]


class AuditEvent(msgspec.Struct, frozen=True):
    """One fact of the ledger, as an auditor sees it. Never a secret, never a digest of one.

    position: of the event in the ledger: unique, growing, the key to resume from.
    at: ledger time, UTC with three decimals and Z. kind: the event's name, stable, e.g.
    "scim_token.used". outcome: "success" or "refused". reason: why it was refused, or the caller's
    words on a command. team_id: whose token it was. token_id: the SCIM token (for `api_token.*`
    the API token) that it is about. user_id, api_token_id: who acted; of an API token's use or
    refusal its holder; null for an identity
        provider, for a burn by whoever held the secret, and where nobody was named at the command
        line.
    source, user_agent: where a secret or a command came from; source is an address.
    door, method, path_class, note: how a secret was presented; of a warning, `note` says it.
    count: how many presentations the row stands for, 1 for everything else.
    use_id: of the use (`X-Scim-Use-Id`) or of the command that caused it.
    operator: of a command at the command line: user and host of the operating system, such as
    "root@db1". secret: which of the token's secrets was presented or made: its id; null where that
    is not known. cause: what the revocations of one request have in common.
    """

    position: int
    at: Instant
    kind: Kind
    outcome: Annotated[str, one_of("success", "refused")]
    reason: str | None
    team_id: UUID | None
    token_id: UUID | None
    user_id: UUID | None
    api_token_id: UUID | None
    door: Annotated[str, one_of(*DOORS)] | None
    source: str | None
    user_agent: str | None
    method: str | None
    path_class: str | None
    note: str | None
    count: int
    use_id: UUID
    operator: str | None
    secret: SecretDigits | None
    cause: UUID | None


_TOKENS: Final = frozenset({"scim_token", "api_token"})
_OF_TEAMS: Final = frozenset({"scim_token", "policy"})


def outcome_of(kind: str) -> str:
    """Whether a kind tells of a success or of a refusal;
    a function of the kind, so it is not stored.
    """
    return "refused" if kind in REFUSALS else "success"


def kinds_left(asked: Collection[str] | None, outcome: str | None) -> frozenset[str] | None:
    """The kinds that a filter by kind and outcome leaves, None for all."""
    if asked is None and outcome is None:
        return None
    left = KINDS if asked is None else asked
    return frozenset(kind for kind in left if outcome in {None, outcome_of(kind)})


class AuditRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the table: an `AuditEvent` but for what follows from its kind.

    secret: the id as a number, half as long as its digits. name, ends_at: of a SCIM token from then
    on, for reads of the past; see `Detail`.
    """

    position: int
    at: datetime
    team_id: UUID | None
    token_id: UUID | None
    use_id: UUID
    user_id: UUID | None
    api_token_id: UUID | None
    count: int
    secret: int | None
    kind: str
    reason: str | None
    door: str | None
    source: Address | None
    user_agent: str | None
    method: str | None
    path_class: str | None
    note: str | None
    operator: str | None
    cause: UUID | None
    name: str | None
    ends_at: str | None


def secret_number(secret: SecretId) -> int:
    """The id as the table has it."""
    return int.from_bytes(bytes.fromhex(secret), signed=True)


def row_of(entry: LogEntry, event: Event) -> AuditRow:
    """One fact of the ledger."""
    kind, aggregate = _NAMES[entry.topic]
    detail = DETAILS[type(event)](event)
    actor, how = detail.actor or NOBODY, detail.how or UNTOLD
    if detail.is_its_own:
        actor = Actor(user_id=entry.stream_team, api_token_id=entry.originator_id)
    # In the order of the fields: by name they would cost 0.6 µs more, of 2.2 that the fold takes.
    return AuditRow(
        entry.position,
        entry.at,
        entry.stream_team if aggregate in _OF_TEAMS else None,
        entry.originator_id if aggregate in _TOKENS else None,
        entry.command_id,
        actor.user_id,
        actor.api_token_id,
        detail.count,
        None if detail.secret is None else secret_number(detail.secret),
        kind,
        detail.reason,
        how.door or None,
        address_of(how.source or actor.source),
        how.user_agent or actor.user_agent,
        how.method,
        how.path_class,
        how.note,
        actor.operator,
        detail.cause,
        detail.name,
        detail.ends_at,
    )


def secret_digits(number: int | None) -> SecretDigits | None:
    """The id of a secret from how the table keeps it."""
    return None if number is None else number.to_bytes(4, signed=True).hex()


def event_of(row: AuditRow) -> AuditEvent:
    """The documented fact from the row."""
    return AuditEvent(
        position=row.position,
        at=rfc3339(row.at),
        kind=row.kind,
        outcome=outcome_of(row.kind),
        reason=row.reason,
        team_id=row.team_id,
        token_id=row.token_id,
        user_id=row.user_id,
        api_token_id=row.api_token_id,
        door=row.door,
        source=None if row.source is None else str(row.source),
        user_agent=row.user_agent,
        method=row.method,
        path_class=row.path_class,
        note=row.note,
        count=row.count,
        use_id=row.use_id,
        operator=row.operator,
        secret=secret_digits(row.secret),
        cause=row.cause,
    )


PROJECTION: Final = RowPerEvent(
    name="audit_trail",
    shape=6,
    row=AuditRow,
    columns={  # the wide ones first: no padding between them
        "position": "bigint",
        "at": "timestamptz NOT NULL",
        "team_id": "uuid",
        "token_id": "uuid",
        "use_id": "uuid NOT NULL",
        "user_id": "uuid",
        "api_token_id": "uuid",
        "count": "integer NOT NULL",
        "secret": "integer",
        "kind": "text NOT NULL",
        "reason": "text",
        "door": "text",
        "source": "inet",
        "user_agent": "text",
        "method": "text",
        "path_class": "text",
        "note": "text",
        "operator": "text",
        "cause": "uuid",
        "name": "text",
        "ends_at": "text",
    },
    indexes={
        "team": "(team_id, position) WHERE team_id IS NOT NULL",
        "token": "(token_id, position) WHERE token_id IS NOT NULL",
        "secret": "(token_id, secret, position) WHERE secret IS NOT NULL",
        "user": "(user_id, position) WHERE user_id IS NOT NULL",
        "api_token": "(api_token_id, position) WHERE api_token_id IS NOT NULL",
        # Who may see some teams only never waits for what somebody did in the others.
        "team_user": (
            "(team_id, user_id, position) WHERE team_id IS NOT NULL AND user_id IS NOT NULL"
        ),
        "team_api_token": (
            "(team_id, api_token_id, position) "
            "WHERE team_id IS NOT NULL AND api_token_id IS NOT NULL"
        ),
        "at": "(at)",  # rows of one commit share an instant, and equal keys are stored once
        # likewise: identity providers come from few addresses
        "source": "(source) WHERE source IS NOT NULL",
        "cause": "(cause, position) WHERE cause IS NOT NULL",
        # of each token its names and ends, for reads of the past
        "changed": (
            "(token_id, position) WHERE kind IN ('scim_token.created', 'scim_token.changed')"
        ),
        "rare": f"(kind, position) WHERE kind <> '{USED}'",
        "rare_team": f"(team_id, position) WHERE kind <> '{USED}'",
        "rare_token": f"(token_id, position) WHERE kind <> '{USED}'",
    },
    topics=REGISTRY.topics,
    row_of=row_of,
    needs_stream_team=True,
    # That nearly all are uses is what makes the indexes of the rest worth while.
    gathered=frozenset({"kind"}),
)

SELECTED: Final = ", ".join(PROJECTION.columns)
"""The columns of an `AuditRow`, in its order."""
