"""docs/how-to/write-a-view.md: its code, taken from the page, makes a view that runs."""

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest

from domain.postgres.read_pool import ReadPool
from projections.follow.positions import live_position
from projections.projection import Projection
from projections.rebuild.run import check_view, rebuild
from projections.rebuild.shapes import prepare
from projections.runner import Runner
from tests.conftest import Database
from tests.docs.documents import ROOT
from tests.domain.scenario import (
    ADA,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    THIRD,
    created,
    revoked,
    rotated,
    used,
)
from tests.projections.given_events import record

PAGE: Final = ROOT / "docs" / "how-to" / "write-a-view.md"
_BLOCK: Final = re.compile(
    r"^```python (?P<path>\S+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
FILES: Final = {found["path"]: found["code"] for found in _BLOCK.finditer(PAGE.read_text("utf-8"))}
VIEW, REGISTRY, QUERIES, TEST = (
    "projections/rotations/view.py",
    "projections/registry.py",
    "projections/rotations/queries.py",
    "tests/projections/rotations/test_rotations.py",
)
Modules = Callable[[str], ModuleType]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """The modules of the page, as if they stood where it says; the registry stays ours."""
    made: dict[str, ModuleType] = {}
    package = ModuleType("projections.rotations")
    monkeypatch.setitem(sys.modules, "projections.rotations", package)
    for path in (VIEW, QUERIES, TEST, REGISTRY):
        name = path.removesuffix(".py").replace("/", ".")
        made[path] = ModuleType(name)
        if path in {VIEW, QUERIES}:
            monkeypatch.setitem(sys.modules, name, made[path])
            setattr(package, name.rpartition(".")[2], made[path])
        exec(compile(FILES[path], path, "exec"), made[path].__dict__)
    return made.__getitem__


def test_it_has_the_files_that_it_tells_of() -> None:
    assert list(FILES) == [VIEW, REGISTRY, QUERIES, TEST]


def test_its_registry_is_ours_and_one_more() -> None:
    others = [line for line in FILES[REGISTRY].splitlines() if "rotations" not in line]
    assert others == (ROOT / REGISTRY).read_text("utf-8").splitlines()


def test_its_tests_are_green(module: Modules) -> None:
    tests = [each for name, each in vars(module(TEST)).items() if name.startswith("test_")]
    assert len(tests) == FILES[TEST].count("def test_")
    for test in tests:
        test()


def test_the_view_follows_answers_and_is_rebuilt(database: Database, module: Modules) -> None:
    views = module(REGISTRY).PROJECTIONS
    often = record(
        database, created(T0), rotated(T1), used(T1), rotated(T2, digest=THIRD), revoked(T2)
    )
    never = record(database, created(T3), used(T4))
    row = module(VIEW).RotationRow
    expected = [row(often, TEAM_ID, 2, ADA.user_id), row(never, TEAM_ID, 0, None)]
    with psycopg.connect(database.app, autocommit=True) as connection:
        for view in views:
            prepare(connection, view)
        Runner(database.app, views).catch_up(connection)
        assert asked(database, module) == expected

        assert rebuild(connection, views[-1]) == 2
        assert asked(database, module) == expected
        assert check_view(connection, views[-1]) is None


def test_another_shape_is_made_beside_it(database: Database, module: Modules) -> None:
    old: Projection = module(VIEW).PROJECTION
    new = replace(old, shape=old.shape + 1)
    with psycopg.connect(database.app, autocommit=True) as connection:
        for view in (old, new):
            prepare(connection, view)
        found = [live_position(connection, view) for view in (old, new)]
    assert [at and at.version for at in found] == [1, 2]


def asked(database: Database, module: Modules) -> list[Any]:
    async def ask() -> list[Any]:
        pool = ReadPool(database.app)
        try:
            queries = module(QUERIES).RotationQueries(pool)
            found: list[Any] = await queries.of_team(TEAM_ID, limit=10, ledger_head=7)
            return found
        finally:
            await pool.close()

    return asyncio.run(ask())
