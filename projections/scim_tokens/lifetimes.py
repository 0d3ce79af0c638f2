"""List tokens by how many days they live, from the newest, along one index.

The index holds tokens that are not revoked, by that number and then by creation. A walk goes from
one number that there is to the next and takes the newest tokens of each, whatever stands between.
Of tokens that live as long, those that end before an instant were made before another: so they are
found there, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.scim_token.conditions import LongestLives
from domain.scim_token.values import ENDLESS_DAYS
from projections.scim_tokens.walk import ORDER, along

IS_EXCEEDED: Final = (
    "lifetime_days > coalesce((%(own_lives)s::jsonb ->> team_id::text)::int, %(general_life)s)"
)
"""SQL: whether a token lives longer than `allowed` says; null of one that is revoked."""

_SPAN: Final = "least(lives.days, 700000) * interval '24 hours'"
"""SQL: the life of the tokens that are walked. Cut where an instant would be before the calendar of
PostgreSQL, which is long before any token.
"""
MAY_BE_LIVE: Final = f"created_at > %(at)s::timestamptz - {_SPAN}"
"""SQL, a bound of `along_lives`: what was made earlier has ended."""
MAY_END: Final = f"created_at < %(ends_by)s::timestamptz - {_SPAN} + interval '24 hours'"
"""SQL, a bound of `along_lives`: what was made later does not end by that instant."""

MAY_END_BEHIND: Final = (
    "(created_at, id) < (least(%(after_at)s::timestamptz, "
    f"%(ends_by)s::timestamptz - {_SPAN} + interval '24 hours'), %(after_id)s)"
)
"""SQL, the first bound of a page behind another: of some lives its place is nearer, of others what
`MAY_END` says.
"""

_ANY: Final = LongestLives(general=-ENDLESS_DAYS)


def allowed(lives: LongestLives) -> Mapping[str, Any]:
    """The parameters of `IS_EXCEEDED`."""
    return {"general_life": lives.general, "own_lives": msgspec.json.encode(lives.own).decode()}


def along_lives(
    bounds: Sequence[str],
    filters: Sequence[str],
    *,
    teams: Sequence[UUID] | None,
    longer_than: LongestLives | None,
    has_end: bool,
) -> tuple[str, Mapping[str, Any]]:
    """SQL: the newest tokens of {table} that are not revoked, `limit` at most; and its parameters.

    bounds, filters: see `walk.along`. longer_than: what they exceed; None for no matter what.
    has_end: without those that live for ever.
    """
    exceeded = longer_than or _ANY
    up_to = ENDLESS_DAYS - 1 if has_end else ENDLESS_DAYS
    if teams is None:
        lives = {team: (days, min(exceeded.general, up_to)) for team, days in exceeded.own.items()}
    else:
        lives = {team: (exceeded.own.get(team, exceeded.general), up_to) for team in teams}
    parameters = {
        "life_teams": list(lives),
        "life_above": [above for above, _ in lives.values()],
        "life_up_to": [most for _, most in lives.values()],
    }
    of_teams = _walk(
        "unnest(%(life_teams)s::uuid[], %(life_above)s::int[], %(life_up_to)s::int[])",
        ["team_id = lives.team_id"],
        bounds,
        filters,
    )
    if teams is not None:
        return of_teams, parameters
    any_team = {"general_above": exceeded.general, "general_up_to": up_to}
    of_any = _walk(
        "(VALUES (NULL::uuid, %(general_above)s::int, %(general_up_to)s::int))",
        [],
        bounds,
        filters,
    )
    if not exceeded.own:
        return of_any, any_team
    both = f"SELECT * FROM (({of_any}) UNION ALL ({of_teams})) found {ORDER} LIMIT %(limit)s"
    return both, {**any_team, **parameters}


def _walk(asked: str, team: Sequence[str], bounds: Sequence[str], filters: Sequence[str]) -> str:
    """asked: rows of a team, the life that is exceeded, and the longest one that is listed."""
    longer = " AND ".join([*team, "lifetime_days > lives.days"])
    following = (
        f"(SELECT lifetime_days FROM {{table}} WHERE {longer} ORDER BY lifetime_days LIMIT 1)"
    )
    page = along([*team, "lifetime_days = lives.days"], bounds, filters, is_of_one_team=None)
    return (
        "WITH RECURSIVE lives (team_id, days, up_to) AS ("
        f"SELECT team_id, {following}, up_to FROM {asked} AS lives (team_id, days, up_to) "
        f"UNION ALL SELECT team_id, {following}, up_to FROM lives WHERE days < up_to"
        f") SELECT found.* FROM lives CROSS JOIN LATERAL ({page}) found "
        f"WHERE lives.days <= lives.up_to {ORDER} LIMIT %(limit)s"
    )
