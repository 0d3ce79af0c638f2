"""A disk that is full: the file is named, since the database has a disk, too."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG

import pytest

from projections.archive.segment import SegmentUnusable
from tests.conftest import Database, catch_up
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, archive, facts
from tests.projections.history import given

USES = 3


@pytest.mark.parametrize("written", [0, 1], ids=["events", "manifest"])
def test_a_disk_that_is_full_is_named(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    of_file: list[int] = []

    def full(descriptor: int, *, really: Callable[[int], None] = os.fsync) -> None:
        if S_ISREG(os.fstat(descriptor).st_mode):
            of_file.append(descriptor)
            if len(of_file) > written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * USES))
    catch_up(database)
    name = f"events-{1:015d}-{USES + 2:015d}" + (".ndjson.gz", ".json")[written]
    said = f"{tmp_path / name} cannot be written: No space left on device"
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(SegmentUnusable, match=f"^{re.escape(said)}$"):
            archive(database, tmp_path, T0 + 400 * HOUR)
    assert len([*tmp_path.iterdir()]) == written
    assert archive(database, tmp_path, T0 + 400 * HOUR).removed == USES - 2
