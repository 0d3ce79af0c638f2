"""An archive that is cut off anywhere: nothing is lost, and the next run goes on where it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from domain.archive.extended import ARCHIVE_ID, Stretch
from domain.eventstore.archive import stretches as stretches_module
from projections.archive import extending as extending_module
from projections.archive import forgetting, segment
from projections.archive.check import check_archive
from projections.archive.extending import Extending
from projections.ledger_check import check_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from tests.conftest import Database, catch_up, new_database
from tests.domain.scenario import MINUTE, T0
from tests.projections.archive.archiving import HOUR, archive, facts, recorder
from tests.projections.history import content, given
from tests.projections.test_ledger_seal import rows_of
from tests.turns import by_turns

HISTORY: Final = facts(
    [
        (token, what, later, source, count)
        for later in (HOUR, MINUTE, MINUTE)
        for token, what, source, count in (
            (0, "used", "192.0.2.1", 2),
            (0, "used", "2001:db8::1", 3),
            (1, "used", "192.0.2.1", 1),
            (1, "refused", None, 1),
        )
    ]
    * 2
)
BEFORE: Final = T0 + 400 * HOUR
STEPS: Final = {
    "write_segment": extending_module,
    "whole_file": segment,
    "sealed_up_to": segment,
    "forget": extending_module,
    "_forget": forgetting,
    "remove": extending_module,
}
"""Functions at which a run is cut, before and after, besides the record: the second whole file of a
stretch is its manifest, and the views forget in several transactions.
"""
MOMENTS: Final = 62
"""Before and after each step of an uninterrupted run, of all stretches."""
LOST: Final = ("nothing", "app", "owner", "both")


class Cut(Exception):
    """The command ends here."""


class Left(NamedTuple):
    """What there is once the archive is extended, without the records of it, which have instants
    of their own.
    """

    rows: Sequence[Any]
    stretches: Sequence[bytes]
    views: Mapping[str, Sequence[str]]
    files: Mapping[str, bytes]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several stretches, of several batches."""
    monkeypatch.setattr(stretches_module, "EVENTS", 12)
    monkeypatch.setattr(forgetting, "_READ", 4)


@pytest.fixture(scope="module")
def whole(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Left, int]:
    """What an uninterrupted run leaves, and how many moments it has."""
    with pytest.MonkeyPatch.context() as sizes, new_database(server) as database:
        small.__wrapped__(sizes)  # type: ignore[attr-defined]
        given(database, *HISTORY)
        directory = tmp_path_factory.mktemp("whole")
        told: list[str] = []
        with moments(database, directory, sizes, lambda name, *_: told.append(name)) as run:
            done = run.run(BEFORE)
        assert {name.split()[1] for name in told} == {*STEPS, "record"}
        assert done.removed > forgetting._READ
        return left(database, directory), len(told)


def left(database: Database, directory: Path) -> Left:
    catch_up(database)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        rows = rows_of(owner)
    of_it = {row[0] for row in rows if row[1] == ARCHIVE_ID}
    return Left(
        [row for row in rows if row[0] not in of_it],
        [row[-1] for row in rows if row[0] in of_it],
        {
            each.name: [
                row
                for row in content(database, each)
                if each.name != "audit_trail" or int(row[1:].partition(",")[0]) not in of_it
            ]
            for each in PROJECTIONS
        },
        {path.name: path.read_bytes() for path in directory.iterdir()},
    )


@contextmanager
def moments(
    database: Database,
    directory: Path,
    patch: pytest.MonkeyPatch,
    tell: Callable[[str, psycopg.Connection, psycopg.Connection], None],
) -> Iterator[Extending]:
    """A run that tells of each of its moments: before and after each step."""
    with (
        psycopg.connect(database.app, autocommit=True) as app,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):

        def told(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(step)
            def run(*args: Any, **named: Any) -> Any:
                tell(f"before {name}", app, owner)
                done = step(*args, **named)
                tell(f"after {name}", app, owner)
                return done

            return run

        for name, module in STEPS.items():
            patch.setattr(module, name, told(name, getattr(module, name)))
        record: Callable[[Stretch], None] = told("record", recorder(database))
        yield Extending(app, owner, directory, record)


def lose(database: Database, *connections: psycopg.Connection) -> None:
    with psycopg.connect(database.owner, autocommit=True) as beside:
        for each in connections:
            beside.execute("SELECT pg_terminate_backend(%s, 5000)", [each.info.backend_pid])


def check(database: Database, directory: Path, *, is_done: bool) -> None:
    """The ledger is whole, and so are the views; half-way they may be ahead of it, and say so."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None
        assert check_archive(connection, directory) is None
        for each in PROJECTIONS:
            found = check_view(connection, each)
            if found is not None:
                assert not is_done, str(found)
                assert str(found).endswith("was cut off: repeat it with --remove first")


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("moment", by_turns(range(MOMENTS), one_of=10))
def test_cut_at_any_moment_it_goes_on(
    database: Database,
    tmp_path: Path,
    whole: tuple[Left, int],
    moment: int,
    lost: str,
) -> None:
    expected, count = whole
    assert count == MOMENTS
    given(database, *HISTORY)
    passed = 0

    def cut(_: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
        nonlocal passed
        passed += 1
        if passed != moment + 1:
            return
        lose(
            database, *([app] * (lost in {"app", "both"})), *([owner] * (lost in {"owner", "both"}))
        )
        if lost == "nothing":
            raise Cut

    with (
        pytest.MonkeyPatch.context() as patch,
        suppress(Cut, psycopg.OperationalError),
        moments(database, tmp_path, patch, cut) as run,
    ):
        run.run(BEFORE)
    assert passed > moment
    catch_up(database)
    check(database, tmp_path, is_done=False)
    archive(database, tmp_path, BEFORE)
    assert left(database, tmp_path) == expected
    check(database, tmp_path, is_done=True)
