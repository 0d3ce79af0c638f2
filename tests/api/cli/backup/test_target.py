"""Where `scim-ledger backup` and `restore` write, and where not."""

from pathlib import Path
from typing import Final

import pytest

from tests.api.cli.test_commands import refused
from tests.conftest import Database
from tests.domain.files.kinds import NO_FILES, named, seen

NOWHERE: Final = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_never_replaced_by_a_backup(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "name"
    NO_FILES[kind](path)
    before = seen(tmp_path)
    said = refused(NOWHERE, "backup", str(path), exit_code=2)
    assert said == f"FILE: {named(kind)}: name another place"
    assert seen(tmp_path) == before


@pytest.mark.parametrize("name", [".", "..", "/", "./", "//", "/.."])
def test_the_name_of_a_backup_is_that_of_a_file(name: str) -> None:
    said = refused(NOWHERE, "backup", name, exit_code=2)
    assert said == f"FILE: {named('directory')}: name another place"


@pytest.mark.parametrize("content", ["a" * 64 + "\n", "PGDM", '{"position": 7}', " "])
def test_a_file_that_is_no_backup_is_not_replaced_by_one(
    database: Database, tmp_path: Path, content: str
) -> None:
    """The pepper, the head file: the names of all three stand in one how-to."""
    path = tmp_path / "pepper"
    path.write_text(content)
    said = refused(database.app, "backup", str(path), exit_code=2)
    assert said == "FILE: there is a file that is no backup, and no other is replaced: name another"
    assert path.read_text() == content


def test_a_restore_without_the_pepper_of_the_backup_makes_nothing(tmp_path: Path) -> None:
    """It would end in a ledger in which every token is void."""
    file, directory = tmp_path / "backup", tmp_path / "new"
    file.write_bytes(b"PGDMP")
    said = refused(
        *(None, "restore", str(file), "--data-dir", str(directory)), SCIM_LEDGER_PEPPER=""
    )
    assert said == f"put the pepper of the backup in its place first, {directory / 'pepper'}"
    assert not directory.exists()

    said = refused(NOWHERE, "restore", str(file), SCIM_LEDGER_PEPPER="")
    assert said == "with DATABASE_URL a pepper is needed: set SCIM_LEDGER_PEPPER_FILE"
