"""The retirement of a key of the pepper: it records, it refuses, it stays silent."""

from datetime import datetime
from uuid import UUID

import pytest

from domain.errors import InvalidValue
from domain.event import Actor, Recorded
from domain.keyring.retirement import (
    KEYRING_ID,
    Holders,
    NotRetirable,
    Retired,
    evolve,
    retire,
)
from tests.domain.scenario import COMMAND_ID, T0, T1

BY = Actor(user_id=None, api_token_id=None, operator="root@db1")
NOBODY = Holders(0, [])
KNOWN: dict[int, datetime | None] = {1: None, 2: T0, 3: None}


def asked(generation: int, holders: Holders = NOBODY, reason: str = "yearly") -> list[Retired]:
    return retire(generation, known=KNOWN, holders=holders, by=BY, reason=reason)


def test_an_old_key_that_nobody_needs_is_retired_once() -> None:
    assert asked(1) == [Retired(1, BY, "yearly")]
    assert asked(2) == []


def test_neither_the_newest_nor_an_unknown_one_is() -> None:
    with pytest.raises(NotRetirable, match=r"generation 3 is the newest.*: add another first"):
        asked(3)
    for unknown in (0, 4, -1):
        with pytest.raises(NotRetirable, match=f"no key of generation {unknown}"):
            asked(unknown)


@pytest.mark.parametrize("reason", ["", "a\nb", "r" * 201])
def test_nobody_retires_one_without_a_reason(reason: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        asked(1, reason=reason)
    assert caught.value.pointer == "/reason"


def test_one_that_is_needed_is_not_and_some_of_its_holders_are_named() -> None:
    some = [("api_token", UUID(int=1)), ("scim_token", UUID(int=2))]
    with pytest.raises(NotRetirable) as caught:
        asked(1, Holders(2, some))
    assert str(caught.value) == (
        f"the key of generation 1 still has 2 digests that could be let in (api token {some[0][1]}"
        f", scim token {some[1][1]}): use, rotate or revoke these tokens, and let their setup "
        "links end, first"
    )
    with pytest.raises(NotRetirable, match=r"has 1 digest .*\(setup link .*1\):"):
        asked(1, Holders(1, [("setup_link", UUID(int=1))]))
    with pytest.raises(NotRetirable, match=r"has 7 digests .*, …\):"):
        asked(1, Holders(7, some))


def test_the_keyring_counts_what_became_of_it() -> None:
    once = evolve(None, Recorded(KEYRING_ID, 1, T0, COMMAND_ID, Retired(1, BY, "yearly")))
    twice = evolve(once, Recorded(KEYRING_ID, 2, T1, COMMAND_ID, Retired(2, BY, "yearly")))
    assert (twice.version, twice.secret_rows(), twice.stream_team) == (2, [], None)
