"""The head file goes forward only, is whole or not there, and is for its owner alone."""

import os
import stat
import tracemalloc
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.errors import HeadFileUnusable
from domain.eventstore.known_head import keeper
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.keeper import HeadKeeper, keep
from domain.losses.declared import KnownEvent
from tests.conftest import Database
from tests.domain.eventstore.known_head.restored import append, copied, known_by
from tests.faults.proxy import Proxy, proxy_thread
from tests.service import until

STREAM: Final = UUID(int=1)


def event(position: int) -> KnownEvent:
    return KnownEvent(position, STREAM, position, uuid4())


class Careless(HeadFile):
    """Planted: it writes whatever it is given."""

    def write(self, known: KnownEvent) -> None:
        self._replace(known)


def goes_back(file: HeadFile) -> bool:
    """Whether any writer can set it back, one after the other or many at once."""
    file.write(event(9))
    file.write(event(8))
    after_an_older_one = file.read()
    threads = [Thread(target=file.write, args=[event(10 + number)]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in reversed(threads):
        thread.join()
    last = file.read()
    assert after_an_older_one is not None
    assert last is not None
    return (after_an_older_one.position, last.position) != (9, 49)


def test_it_only_goes_forward(tmp_path: Path) -> None:
    assert not goes_back(HeadFile(tmp_path / "head.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["head.json"], "nothing is left behind"
    assert stat.S_IMODE((tmp_path / "head.json").stat().st_mode) == 0o600


def test_planted_one_that_goes_back_is_found(tmp_path: Path) -> None:
    assert goes_back(Careless(tmp_path / "head.json"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "head.json")
    assert file.read() is None
    known = event(3)
    file.write(known)
    assert file.read() == known
    file.path.write_bytes(file.path.read_bytes()[:-9])
    with pytest.raises(HeadFileUnusable, match="is not one"):
        file.read()
    with pytest.raises(HeadFileUnusable, match="is not one"):
        file.write(event(4))


@pytest.mark.parametrize("length", [5000, 3 * 2**30])
def test_a_long_file_is_none_whatever_it_begins_with(tmp_path: Path, length: int) -> None:
    """It is looked at each second: what is read of it is bounded."""
    file = HeadFile(tmp_path / "head.json")
    file.write(event(3))
    os.truncate(file.path, length)
    tracemalloc.start()
    try:
        for use in (file.read, partial(file.write, event(4))):
            with pytest.raises(HeadFileUnusable, match="is not one; if it is there for something"):
                use()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert file.path.stat().st_size == length


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HeadFile(tmp_path / "head.json")
    known = event(3)
    file.write(known)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.write(event(4))
    assert file.read() == known
    assert [path.name for path in tmp_path.iterdir()] == ["head.json"]


def test_it_is_kept_up_while_the_ledger_grows_and_once_more_at_the_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.json"
    monkeypatch.setattr(keeper, "EVERY_S", 0.05)
    with HeadKeeper(database.app, path):
        append(database, 2)
        until(lambda: _position(path) == 2, what="the file")
        monkeypatch.setattr(keeper, "EVERY_S", 60)
        append(database, 2)
    assert _position(path) == 4
    with HeadKeeper(database.app, None):
        pass


def test_it_is_kept_up_after_an_answer_that_never_came(database: Database, tmp_path: Path) -> None:
    """Nor the end of the connection: whoever held it had lost what is behind it."""
    path = tmp_path / "head.json"
    with proxy_thread(database.app) as proxy, HeadKeeper(proxy.conninfo, path):
        append(database)
        until(path.exists, what="the file")
        proxy.tell(Proxy.black_hole)
        append(database)
        until(lambda: _position(path) == 2, what="the file")


def test_it_is_not_kept_up_with_another_ledger(
    server: str, database: Database, tmp_path: Path
) -> None:
    """One statement compares and reads: no restore comes between the two."""
    path = tmp_path / "head.json"
    append(database)
    with copied(server, database) as older:
        append(database)
        known = known_by(path, database)
        append(older, 5)
        with psycopg.connect(older.app, autocommit=True) as connection:
            for _ in range(2):
                with pytest.raises(Exception, match="is not the one that this host has known"):
                    keep(connection, HeadFile(path))
    assert HeadFile(path).read() == known


def _position(path: Path) -> int:
    known = HeadFile(path).read()
    return 0 if known is None else known.position
