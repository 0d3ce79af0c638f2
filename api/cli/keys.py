"""`scim-ledger keys …`: what is left of each key of the pepper, and the end of one."""

from typing import Annotated, Final

from cyclopts import App, Parameter

from api.cli.console import AsJson, DataDir, connection, keep_head_file, show
from api.cli.repair import as_owner
from api.clock_and_ids import CLOCK_AND_IDS, operator_name
from api.deployment import head_file, owner_as_given
from api.settings import load
from domain.event import Actor
from domain.eventstore.peppers.remaining import count_digests
from domain.eventstore.peppers.retirement import retire_key
from domain.scim_token.values import check_reason
from projections.described import rfc3339, rfc3339_or_none

NEXT: Final = (
    "put the word retired in the place of its key and restart every service, when you like; "
    "keep the key for as long as a backup of before may be restored"
)

app = App(name="keys", help="The keys of the pepper: what is left of each, and the end of one.")


@app.default
def keys(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """How many digests of good secrets each key of the pepper still has, the oldest key first.

    Reads the state of every token: some seconds for a million.
    """
    with connection(data_dir) as opened:
        generations = count_digests(opened)
    show(
        [
            {
                "generation": each.number,
                "added_at": rfc3339_or_none(each.recorded_at),
                "scim_tokens": each.scim_tokens,
                "api_tokens": each.api_tokens,
                "setup_links": each.setup_links,
                "retired_at": rfc3339_or_none(each.retired_at),
            }
            for each in generations
        ],
        as_json=as_json,
    )


@app.command
def retire(
    generation: Annotated[int, Parameter(help="Which key: the first of the pepper is 1.")],
    *,
    reason: Annotated[str, Parameter(help="Why, for the trail; 1 to 200 characters.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Retire an old key of the pepper, as the owner: from then on nobody has to give it.

    Refused while a secret that could be let in is digested under it. Services go on meanwhile.
    """
    check_reason(reason)
    settings = load(data_dir=data_dir)
    with as_owner(settings) as opened:
        retired_at = retire_key(
            opened,
            generation,
            by=Actor(user_id=None, api_token_id=None, operator=operator_name()),
            reason=reason,
            clock=CLOCK_AND_IDS.clock,
            command_id=CLOCK_AND_IDS.new_id(),
        )
        opened.commit()
        keep_head_file(owner_as_given(settings), head_file(settings))
    show(
        {"generation": generation, "retired_at": rfc3339(retired_at), "next": NEXT},
        as_json=as_json,
    )
