"""A number of an advisory lock is of one purpose: what has nothing to do with each other never
waits for each other.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("domain", "projections", "api")
NUMBER: Final = re.compile(r"\b723907\d{3,4}\b")
STORED: Final = ("domain/eventstore/migrations/", "domain/eventstore/schema.sql")
"""The append lock is taken by functions of the database; nothing else in there is a lock."""
SHARED: Final[Mapping[str, frozenset[str]]] = {
    "7239075814": frozenset({"projections/figures/figures.sql", "api/doctor/locks.sql"}),
    "7239075816": frozenset(
        {"projections/follow/sql/positions.sql", "projections/archive/forgetting.sql"}
    ),
    "723907581": frozenset({"projections/follow/locks.py", "projections/follow/sql/locks.sql"}),
}
"""Who waits for the same on purpose, or looks at who does."""


def named() -> Mapping[str, set[str]]:
    """The files that name each number."""
    found = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in {".py", ".sql"} and not name.startswith(STORED):
                for number in NUMBER.findall(path.read_text()):
                    found[number].add(name)
    return found


def test_each_lock_is_of_one_purpose() -> None:
    found = named()
    assert len(found) >= len(SHARED)
    assert {number: files for number, files in found.items() if len(files) > 1} == SHARED


def test_no_lock_of_the_code_is_that_of_a_migration() -> None:
    """But the append lock, at which the code only looks."""
    kept = [*(ROOT / STORED[0]).glob("*.sql"), ROOT / STORED[1]]
    stored = {number for path in kept for number in NUMBER.findall(path.read_text())}
    assert stored & set(named()) == {"7239075814"}
