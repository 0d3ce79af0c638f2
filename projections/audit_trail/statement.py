"""What the trail is narrowed to, and the statement that reads a page of it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from projections.audit_trail.view import SELECTED, USED

FEW: Final = 10_000
"""A network with no more rows than this is rare."""

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the trail is narrowed to; None does not narrow.

    teams: rows without a team are for those who may see all. kinds: public event names.
    secret: that of one of the token's secrets, see `secret_number`; nothing without a token_id.
    source: presenters in this network. from_at: the first instant. to_at: the first instant after.
    """

    teams: Sequence[UUID] | None = None
    token_id: UUID | None = None
    user_id: UUID | None = None
    api_token_id: UUID | None = None
    kinds: Collection[str] | None = None
    secret: int | None = None
    source: Network | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the filtered trail, and from which end.

    after: the position that the page before ended with; None for the start.
    until: the last position to look at, for an answer that is to end.
    """

    is_newest_first: bool = True
    after: int | None = None
    until: int | None = None


def statement(narrow: AuditFilter, span: Span, *, limit: int) -> tuple[str, list[Any]]:
    """SQL for a `ViewReader`, and its parameters.

    Every form is bounded by indexes that end in the position, so a page costs as much as it holds:
    a token's, one of its secrets', a user's, an API token's, a team's, what a user or an API token
    did in a team, a rare kind's, those of a stretch of time. Where one of several teams or kinds
    will do, it is one short read for each, merged: ANY would read all that each of them ever had,
    or walk past everybody else's rows.
    """
    narrow = _without_uses(narrow)
    split = _split(narrow)
    found = [*_equalities(narrow), *_positions(narrow, span)]
    conditions = [condition for condition, *_ in found]
    parameters = [value for _, *values in found for value in values]
    if _is_rare(narrow):
        # what the planner needs to take the indexes of the rare kinds
        conditions.append(f"kind <> '{USED}'")
    if split is not None:
        conditions.append(f"{split.column} = mine.one")
    order = f"ORDER BY position {'DESC' if span.is_newest_first else 'ASC'}"
    if narrow.source is None:
        select, parameters = _from_anywhere(conditions, parameters, order, limit)
    else:
        select, parameters = _from_network(conditions, parameters, order, limit, narrow.source)
    if split is not None:
        select = (
            f"SELECT found.* FROM unnest(%s::{split.type}[]) AS mine (one) "
            f"CROSS JOIN LATERAL ({select}) found {order} LIMIT %s"
        )
        parameters = [split.values, *parameters, limit]
    return select, parameters


def _from_anywhere(
    conditions: Sequence[str], parameters: Sequence[Any], order: str, limit: int
) -> tuple[str, list[Any]]:
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT true, {SELECTED} FROM {{table}} {where} {order} LIMIT %s", [*parameters, limit]


def _from_network(
    conditions: Sequence[str], parameters: Sequence[Any], order: str, limit: int, source: Network
) -> tuple[str, list[Any]]:
    """A network is either rare, then all its rows are looked up, or it is not,
    then they are met on the way.

    The planner cannot know which: from the size of a network it guesses that there are many.
    """
    few = (
        "SELECT position FROM {table} WHERE source >= %s::inet AND source <= %s::inet "
        "AND source <<= %s "
        "ORDER BY source LIMIT %s"
    )
    range_ = [source, source.broadcast_address, source, FEW + 1]
    is_rare = "(SELECT count(*) FROM few)"
    rare = ["position = ANY(ARRAY(SELECT position FROM few))", f"{is_rare} <= {FEW}", *conditions]
    of_rare, rare_parameters = _from_anywhere(rare, parameters, order, limit)
    # OFFSET 0: the network is no condition of the walk, or its index would be read to the end, and
    # sorted.
    walked = (
        f"SELECT * FROM {{table}} "
        f"WHERE {' AND '.join([f'{is_rare} > {FEW}', *conditions])} {order} OFFSET 0"
    )
    of_common = (
        f"SELECT true, {SELECTED} FROM ({walked}) walked WHERE source <<= %s {order} LIMIT %s"
    )
    return (
        f"WITH few AS MATERIALIZED ({few}) (({of_rare}) UNION ALL ({of_common}))",
        [*range_, *rare_parameters, *parameters, source, limit],
    )


class _Split(NamedTuple):
    """A column of which several values will do."""

    column: str
    type: str
    values: list[Any]


def _split(narrow: AuditFilter) -> _Split | None:
    is_one = narrow.token_id or narrow.user_id or narrow.api_token_id
    if narrow.teams is not None and len(narrow.teams) != 1 and narrow.token_id is None:
        return _Split("team_id", "uuid", list(narrow.teams))
    if narrow.kinds is not None and _is_rare(narrow) and narrow.teams is None and not is_one:
        return _Split("kind", "text", sorted(narrow.kinds))
    return None


def _without_uses(narrow: AuditFilter) -> AuditFilter:
    """A use names no user and no API token: who asks for those is not led past all that they did
    in search of one.
    """
    if narrow.kinds is None or (narrow.user_id is None and narrow.api_token_id is None):
        return narrow
    return replace(narrow, kinds=frozenset(narrow.kinds) - {USED})


def _is_rare(narrow: AuditFilter) -> bool:
    """Whether it leaves out uses, which are most of all rows."""
    return narrow.kinds is not None and USED not in narrow.kinds


def _equalities(narrow: AuditFilter) -> Iterator[tuple[Any, ...]]:
    """Conditions, each followed by its values."""
    if narrow.teams is not None and narrow.token_id is not None:
        # A token's rows are all of one team, so the first tells: a foreign one costs what a missing
        # one does.
        first = "(SELECT team_id FROM {table} WHERE token_id = %s ORDER BY position LIMIT 1)"
        yield f"{first} = ANY(%s)", narrow.token_id, list(narrow.teams)
    elif narrow.teams is not None and len(narrow.teams) == 1:
        yield "team_id = %s", narrow.teams[0]
    for column in ("token_id", "user_id", "api_token_id"):
        asked = getattr(narrow, column)
        if asked is not None:
            yield f"{column} = %s", asked
    if narrow.secret is not None:
        # Most rows of a secret are uses: for rare kinds its index is not to be taken, but that of
        # its token's rare rows.
        yield f"secret{' + 0' if _is_rare(narrow) else ''} = %s", narrow.secret
    if narrow.kinds is not None:
        # Of no kind at all: the planner is told, who would compare each row of a long walk.
        yield ("kind = ANY(%s)", sorted(narrow.kinds)) if narrow.kinds else ("false",)


def _positions(narrow: AuditFilter, span: Span) -> Iterator[tuple[Any, ...]]:
    """Instants and positions grow together: a range of positions serves every index."""
    first = "(SELECT position FROM {table} WHERE at >= %s ORDER BY at, position LIMIT 1)"
    if narrow.from_at is not None:
        yield f"position >= {first}", narrow.from_at
    if narrow.to_at is not None:
        yield f"position < coalesce({first}, 9223372036854775807)", narrow.to_at
    if span.after is not None:
        yield f"position {'<' if span.is_newest_first else '>'} %s", span.after
    if span.until is not None:
        yield "position <= %s", span.until
