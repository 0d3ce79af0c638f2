"""Which keys a process may have: each that the ledger knows, at its place; a retired one may be
left out, and is no other.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from tests.conftest import new_database
from tests.domain.scenario import T0

PLACES: Final = 2
ONE, OTHER, THIRD = (bytes([number]) * 16 for number in (1, 2, 3))


class Key(NamedTuple):
    fingerprint: bytes
    is_retired: bool


KNOWN: Final = [
    list(keys)
    for count in range(PLACES + 1)
    for keys in product(
        *([Key(each, retired) for retired in (False, True)] for each in (ONE, OTHER)[:count])
    )
]
GIVEN: Final = [
    list(keys)
    for count in range(PLACES + 2)
    for keys in product((None, ONE, OTHER, THIRD), repeat=count)
]


def wrong(known: Sequence[Key], given: Sequence[bytes | None]) -> tuple[int, str] | None:
    """The first generation that does not fit, and what its key is; None where all do."""
    for generation, key in enumerate(known, start=1):
        has = given[generation - 1] if generation <= len(given) else None
        if has is None and not key.is_retired:
            return generation, "missing"
        if has is not None and has != key.fingerprint:
            return generation, "another"
    return None


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        new_database(server) as database,
        psycopg.connect(database.owner, autocommit=True) as connection,
    ):
        yield connection


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_the_keys_are_accepted_where_each_fits(
    owner: psycopg.Connection[Any], known: Sequence[Key]
) -> None:
    with owner.transaction(force_rollback=True):
        for generation, key in enumerate(known, start=1):
            owner.execute(
                "INSERT INTO ledger.pepper_generations (generation, fingerprint, retired_at)"
                " VALUES (%s, %s, %s)",
                [generation, key.fingerprint, T0 if key.is_retired else None],
            )
        for given in GIVEN:
            said = ""
            try:
                with owner.transaction():
                    owner.execute("SELECT ledger.require_pepper(%s::bytea[])", [given])
            except psycopg.Error as error:
                said = f"{error.sqlstate}: {error}"
            found = wrong(known, given)
            if found is None:
                assert said == "", given
            else:
                assert said.startswith("SL002: "), given
                assert f"generation {found[0]} is {found[1]}" in said, given
                may_leave_out = any(key.is_retired for key in known)
                assert ("the word retired" in said) == may_leave_out, given
