"""What an index finds does not depend on how the operating system orders texts."""

from itertools import combinations
from typing import Final

import psycopg

from domain.eventstore.aggregates import KINDS
from projections.registry import PROJECTIONS
from tests.conftest import Database

OF_THE_DATABASE: Final = """
    SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = %s::regnamespace
        AND 'pg_catalog."default"'::regcollation = ANY(i.indcollation)
    ORDER BY 1
"""
"""Indexes of texts in the order that the database got with its locale."""
TEXTS_OF_VIEWS: Final = """
    SELECT attrelid::regclass || '.' || attname
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'views'::regnamespace AND relkind = 'r'
        AND attcollation NOT IN (0, 'pg_catalog."C"'::regcollation)
"""


def test_views_order_texts_by_their_bytes(database: Database) -> None:
    with psycopg.connect(database.owner) as connection:
        assert connection.execute(TEXTS_OF_VIEWS).fetchall() == []
        assert connection.execute(OF_THE_DATABASE, ["views"]).fetchall() == []


def test_the_ledger_has_words_of_its_own_alone_in_such_an_index(database: Database) -> None:
    """Kinds of aggregate, names of views."""
    with psycopg.connect(database.owner) as connection:
        found = [name for (name,) in connection.execute(OF_THE_DATABASE, ["ledger"])]
    assert found == [
        "ledger.aggregates_kind",
        "ledger.projection_positions_live",
        "ledger.projection_positions_pkey",
        "ledger.projection_rebuilds_underway",
    ]


def test_these_words_are_in_one_order_wherever_punctuation_is() -> None:
    """Where two differ first, both have a letter of the same place."""
    for words in (KINDS, [projection.name for projection in PROJECTIONS]):
        for one, other in combinations(words, 2):
            first, second = next((a, b) for a, b in zip(one, other, strict=False) if a != b)
            assert (first + second).isalpha(), (one, other)
            assert (first + second).islower(), (one, other)
