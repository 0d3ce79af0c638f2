"""Read the policies in force, outside of any append."""

from collections.abc import Sequence
from uuid import UUID

from domain import policy
from domain.eventstore import append
from domain.eventstore.aggregates import decode_states
from domain.policy import Policy
from domain.postgres.read_pool import ReadPool
from domain.scim_token.conditions import LongestLives


async def longest_lives(reads: ReadPool, teams: Sequence[UUID] | None) -> LongestLives:
    """How long the policies of teams allow a token to live. teams: None for all."""
    if teams is None:
        rows = await reads.fetch(append.LIST_POLICIES)
    else:
        ids = {id_ for team_id in teams for id_ in policy.policies_of(team_id)}
        rows = await reads.fetch(append.LOAD, [list(ids)])
    states = decode_states(rows).values()
    return policy.longest_lives(state for state in states if isinstance(state, Policy))
