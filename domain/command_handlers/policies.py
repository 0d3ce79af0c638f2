"""The general policy and those of teams."""

from datetime import datetime
from uuid import UUID

from domain import policy
from domain.authority import Authority, authorise_policy
from domain.command_handlers.execution import Execution
from domain.commands import CommandKey
from domain.event import Aggregate, Changes, States
from domain.policy import NO_RULES, Policy, Rules


class PolicyCommands(Execution):
    """What `TokenLedger` does with policies."""

    async def set_policy(
        self,
        rules: Rules,
        *,
        team_id: UUID | None,
        by: Authority,
        key: CommandKey | None = None,
    ) -> Rules:
        """Replace the general policy, or a team's own; returns its rules.

        by: an API token needs policies:manage, and the team, or every team for the general one.
        Raises InvalidValue, Unauthenticated, PermissionDenied, Confined, NotFound (foreign team),
        CommandIdReused.
        """
        id_ = policy.policy_id(team_id)

        def decide(states: States, at: datetime) -> Changes:
            actor = authorise_policy(states, by, at, team_id=team_id)
            before = states.get(id_)
            assert before is None or isinstance(before, Policy)
            return [(id_, policy.set_policy(before, team_id=team_id, rules=rules, by=actor))]

        outcome = await self._execute(id_, decide, by=by, key=key)
        return _rules_of(outcome.state)

    async def policy(self, team_id: UUID | None) -> Rules:
        """The rules of the general policy, or of a team's own; none where it was never set."""
        id_ = policy.policy_id(team_id)
        return _rules_of((await self._stored([id_])).get(id_))


def _rules_of(state: Aggregate | None) -> Rules:
    assert state is None or isinstance(state, Policy)
    return NO_RULES if state is None else state.rules
