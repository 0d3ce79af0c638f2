"""Count the digests that each generation of the pepper still has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from psycopg import Connection

from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore.peppers", "sql/peppers.sql")


class Generation(NamedTuple):
    """A key of the pepper, by its number.

    recorded_at: when the ledger learnt of it, None where it did not. retired_at: None where it is
    not. scim_tokens, api_tokens: how many digests under it are of secrets that may authenticate,
    suspended tokens included. setup_links: how many links that can hand a token over.
    """

    number: int
    recorded_at: datetime | None
    retired_at: datetime | None
    scim_tokens: int
    api_tokens: int
    setup_links: int


def count_digests(connection: Connection) -> Sequence[Generation]:
    """Every generation, the oldest first. It reads the state of every token."""
    return [Generation(*row) for row in connection.execute(_SQL["count_digests"])]
