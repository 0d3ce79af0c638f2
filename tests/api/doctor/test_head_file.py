"""What the doctor finds of the head file, and what `config check` tells of it."""

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from api.cli.installation.config import UNNOTICED
from api.deployment import head_file
from api.doctor import ledger
from api.doctor.finding import Finding, Status
from api.doctor.ledger import known_head
from api.settings import Settings, SettingsError, check_head_file
from tests.api.cli.test_commands import run
from tests.conftest import Database
from tests.domain.eventstore.known_head.restored import append, copied, known_by


def found(database: Database, path: Path | None) -> Finding:
    with psycopg.connect(database.app, autocommit=True) as connection:
        return known_head(connection, Settings(database_url=database.app, head_file=path))


def test_who_has_none_is_told_that_nobody_would_notice(database: Database) -> None:
    finding = found(database, None)
    assert finding.status is Status.WARN
    assert "nobody would notice a restore of an older state" in finding.found


def test_it_is_written_and_kept_up_or_the_doctor_warns(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.json"
    assert found(database, path).status is Status.WARN, "none is there yet"
    append(database, 2)
    known_by(path, database)
    assert found(database, path) == Finding(
        "head file", Status.OK, "event 2 is the last that this host has known"
    )
    append(database)
    assert found(database, path).status is Status.OK, "a second ago"
    monkeypatch.setattr(ledger, "NOT_KEPT_AFTER", timedelta(0))
    late = found(database, path)
    assert (late.status, late.remedy is None) == (Status.WARN, False)
    assert "head_file.not_kept" in str(late.remedy)


def test_a_ledger_that_lacks_an_event_fails(
    server: str, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "head.json"
    append(database)
    with copied(server, database) as older:
        append(database)
        known_by(path, database)
        finding = found(older, path)
    assert finding.status is Status.FAIL
    assert finding.found.startswith("the ledger ends with event 1 of ")
    assert finding.remedy is not None
    assert "scim-ledger recover" in finding.remedy
    path.write_text("[]")
    unusable = found(database, path)
    assert (unusable.status, unusable.found) == (
        *(Status.FAIL,),
        f"the head file {path} is not one",
    )


def test_its_place_is_beside_the_embedded_server_or_where_it_is_set(tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    assert head_file(Settings(data_dir=tmp_path)) == tmp_path.resolve() / "head.json"
    assert head_file(Settings(data_dir=tmp_path, head_file=given)) == given
    assert head_file(Settings(database_url="dbname=x")) is None
    check_head_file(Settings(head_file=given))
    with pytest.raises(SettingsError, match="HEAD_FILE: the service cannot write into"):
        check_head_file(Settings(head_file=tmp_path / "absent" / "head.json"))
    with pytest.raises(SettingsError, match="HEAD_FILE: there is a directory, and nothing but"):
        check_head_file(Settings(head_file=tmp_path))


def test_a_place_where_none_can_be_written_fails(database: Database, tmp_path: Path) -> None:
    """The start refuses it, so it would not help to start."""
    finding = found(database, tmp_path / "absent" / "head.json")
    assert (finding.status, finding.found) == (
        *(Status.FAIL,),
        f"SCIM_LEDGER_HEAD_FILE: the service cannot write into {tmp_path / 'absent'}",
    )
    assert str(finding.remedy).startswith("make the directory")


def test_config_check_says_where_none_is_set(database: Database) -> None:
    assert UNNOTICED in run(database.app, "config", "check").stdout
