"""`scim-ledger keys`: what is left of each key of the pepper."""

from api.cli.console import AsJson, DataDir, connection, show
from domain.eventstore.peppers.remaining import count_digests
from projections.described import rfc3339


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
                "added_at": None if each.recorded_at is None else rfc3339(each.recorded_at),
                "scim_tokens": each.scim_tokens,
                "api_tokens": each.api_tokens,
            }
            for each in generations
        ],
        as_json=as_json,
    )
