"""List tokens along one index, from the newest, whatever the planner's statistics say.

A planner that finds few rows likely collects and sorts them; without statistics, or with those of
another day, it is wrong, and a page of a hundred reads twenty thousand. So the order is asked for
inside a subquery that nothing is pushed into (OFFSET 0), with just the conditions of one index: any
other way reads no less and has to sort. What else is asked for is compared on the way.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from domain.eventstore.lookups.page_end import PageEnd

ORDER: Final = "ORDER BY created_at DESC, id DESC"
NEWEST: Final = (datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1))
"""Creation and id, before which every token stands: where a walk begins."""

_LISTS: Final = (
    ("active", "", " WHERE revoked_at IS NULL"),
    ("all", "", ""),
    ("named", "name, ", ""),
    ("made_by", "created_by, ", ""),
    ("unused", "", " WHERE NOT is_used"),
    ("revoked", "", " WHERE revoked_at IS NOT NULL"),
    ("suspended", "", " WHERE suspended_at IS NOT NULL"),
    ("rotating", "", " WHERE rotation_ends_at IS NOT NULL"),
    ("lives", "lifetime_days, ", " WHERE lifetime_days IS NOT NULL"),
)
"""What is listed, each of one team and of all. No column here changes with each
use, which would have to write all of the indexes then (`pg_stat_user_tables.n_tup_hot_upd`)."""

INDEXES: Final[Mapping[str, str]] = {
    f"{name}{suffix}": f"({columns}created_at DESC, id DESC){where}"
    for name, columns, where in _LISTS
    for suffix, columns in (("_of_team", f"team_id, {columns}"), ("", columns))
}
"""Of the view `scim_tokens`: the indexes along which lists are walked."""


SHOWN: Final = ("id", "created_at", "rotation_ends_at", "before_use", "last_use", "after_use")
"""What a page of documents is made of."""
_COMPARED: Final = (
    *("team_id", "name", "created_by", "last_used_at", "updated_at", "expires_at", "revoked_at"),
    *("suspended_at", "lifetime_days", "is_used"),
)
"""What a filter may name."""
_NAME: Final = re.compile(r"[a-z_]+")


def along(
    index: Sequence[str],
    bounds: Sequence[str],
    filters: Sequence[str],
    *,
    is_of_one_team: bool | None,
    shown: Sequence[str] = SHOWN,
) -> str:
    """SQL: the newest rows of {table}, `limit` at most.

    index: conditions that an index of `scim_tokens` begins with, or that it is partial by. bounds:
    where on it to begin, first of all that of `behind`. filters: what else a row must meet.
    is_of_one_team: that of the parameter `team`; False for one of `teams`, each of which is walked
    by itself; None for all.
    shown: the columns to return; to carry all of them past the filters costs a sixth of a page.
    """
    within = [*index, *bounds]
    if is_of_one_team is not None:
        within.insert(0, "team_id = %(team)s" if is_of_one_team else "team_id = mine.one")
    columns = ", ".join(dict.fromkeys([*shown, *_named(filters)]))
    walked = f"SELECT {columns} FROM {{table}} {_where(within)} {ORDER} OFFSET 0"
    page = f"SELECT * FROM ({walked}) walked {_where(filters)} {ORDER} LIMIT %(limit)s"
    if is_of_one_team is not False:
        return page
    return (
        "SELECT found.* FROM unnest(%(teams)s::uuid[]) AS mine (one) "
        f"CROSS JOIN LATERAL ({page}) found {ORDER} LIMIT %(limit)s"
    )


def _named(filters: Iterable[str]) -> list[str]:
    names = frozenset(_NAME.findall(" ".join(filters)))
    return [name for name in _COMPARED if name in names]


def behind(after: PageEnd | None) -> tuple[list[str], dict[str, Any]]:
    """The first bound of a page, and its parameters: none of the first page.

    PostgreSQL enters an index by the first bound that it is given, and passes over all that lies
    before the others.
    """
    if after is None:
        return [], {}
    bound = "(created_at, id) < (%(after_at)s, %(after_id)s)"
    return [bound], {"after_at": after.created_at, "after_id": after.id}


def of_teams(teams: Sequence[Any] | None) -> tuple[bool | None, dict[str, Any]]:
    """What `along` needs to know of them, and the parameter for it."""
    if teams is None:
        return None, {}
    if len(teams) == 1:
        return True, {"team": teams[0]}
    return False, {"teams": list(dict.fromkeys(teams))}


def _where(conditions: Iterable[str]) -> str:
    joined = " AND ".join(conditions)
    return f"WHERE {joined}" if joined else ""
