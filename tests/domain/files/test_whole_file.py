"""A file has its name once it is whole; nothing but a file ever makes way for it."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from domain.errors import HeadFileUnusable
from domain.eventstore.known_head.head_file import HeadFile
from domain.files.whole_file import NotAFile, whole_file
from domain.losses.declared import KnownEvent
from tests.domain.files.kinds import NO_FILES, named, seen
from tests.domain.scenario import TOKEN_ID


def write(path: Path, text: bytes) -> None:
    with whole_file(path) as file:
        file.write(text)


def test_it_is_there_once_it_is_whole_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as file:
        file.write(b"half")
        assert not path.exists()
        assert stat.S_IMODE(Path(file.name).stat().st_mode) == 0o600
    assert path.read_bytes() == b"half"
    write(path, b"another")
    assert path.read_bytes() == b"another"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_its_content_and_then_its_name_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may go once the file is there, such as events that it archives, goes after both."""
    told: list[tuple[bool, list[str]]] = []

    def fsync(descriptor: int, *, really: Callable[[int], None] = os.fsync) -> None:
        really(descriptor)
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        told.append((is_directory, [each.name for each in tmp_path.iterdir()]))

    monkeypatch.setattr("os.fsync", fsync)
    write(tmp_path / "file", b"x")
    (is_directory, before), after = told
    assert not is_directory
    assert "file" not in before
    assert after == (True, ["file"])


def test_a_directory_that_cannot_be_synchronised_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("os.fsync", fsync)
    write(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_what_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(file: BinaryIO) -> None:
        file.write(b"after")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"), whole_file(path) as file:
        fail(file)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "absent" / "file", b"")


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "name"
    NO_FILES[kind](path)
    before = seen(tmp_path)
    with pytest.raises(NotAFile, match=named(kind)):
        write(path, b"x")
    assert seen(tmp_path) == before


@pytest.mark.parametrize("kind", NO_FILES)
def test_nor_where_it_came_while_the_file_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "name"
    with pytest.raises(NotAFile, match=named(kind)), whole_file(path):
        NO_FILES[kind](path)
    assert {each.name for each in tmp_path.iterdir()} <= {"name", "other"}
    assert not stat.S_ISREG(path.lstat().st_mode)


@pytest.mark.parametrize("kind", NO_FILES)
def test_nothing_else_is_taken_for_a_head_file_and_none_is_waited_for(
    tmp_path: Path, kind: str
) -> None:
    file = HeadFile(tmp_path / "head.json")
    NO_FILES[kind](file.path)
    before = seen(tmp_path)
    with pytest.raises(HeadFileUnusable, match=named(kind)):
        file.read()
    with pytest.raises(HeadFileUnusable, match=named(kind)):
        file.write(KnownEvent(1, TOKEN_ID, 1, TOKEN_ID))
    assert seen(tmp_path) == before
