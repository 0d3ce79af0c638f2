"""`scim-ledger policy …`: what is asked of SCIM tokens, for the operator."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from api.cli.console import AsJson, DataDir, OnBehalf, operator, show, with_ledger
from domain.errors import InvalidValue
from domain.ledger import TokenLedger
from domain.policy import LIFETIME_MAX_DAYS, LIVE_TOKENS_MAX, NO_RULES, Rules

app = App(name="policy", help="What is asked of SCIM tokens, for all teams or for one.")

Team = Annotated[
    UUID | None, Parameter(help="The team whose own policy it is; without it, the general one.")
]


@app.command(name="show")
def policy_show(*, team: Team = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The general policy, or a team's own."""
    rules = with_ledger(data_dir, lambda ledger: ledger.policy(team))
    show(_fields(rules), as_json=as_json)


@app.command(name="set")
def policy_set(
    *,
    team: Team = None,
    max_lifetime_days: Annotated[
        int | None,
        Parameter(help=f"From a token's creation to its end, 1 to {LIFETIME_MAX_DAYS}."),
    ] = None,
    expiry_required: Annotated[bool, Parameter(help="A token must have an end.")] = False,
    max_live_tokens: Annotated[
        int | None, Parameter(help=f"Of one team at a time, 0 to {LIVE_TOKENS_MAX}.")
    ] = None,
    user: OnBehalf = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replace the general policy, or a team's own: a rule that is not given asks for nothing.

    Tokens that were made before go on.
    """
    rules, by = Rules(max_lifetime_days, expiry_required, max_live_tokens), operator(user)

    async def ask(ledger: TokenLedger) -> Rules:
        if rules == NO_RULES:
            raise InvalidValue(
                "--max-lifetime-days", "is needed, or another rule; policy lift takes all away"
            )
        return await ledger.set_policy(rules, team_id=team, by=by)

    show(_fields(with_ledger(data_dir, ask)), as_json=as_json)


@app.command(name="lift")
def policy_lift(
    *, team: Team = None, user: OnBehalf = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Take all rules of the general policy away, or of a team's own."""
    by = operator(user)
    kept = with_ledger(data_dir, lambda ledger: ledger.set_policy(NO_RULES, team_id=team, by=by))
    show(_fields(kept), as_json=as_json)


def _fields(rules: Rules) -> dict[str, Any]:
    return msgspec.structs.asdict(rules)
