"""What only a worker would stumble over is told before there is one, and by the doctor."""

import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from api.cli.installation.contradictions import contradictions
from api.doctor.before_start import NEEDS
from api.doctor.examine import examine
from api.doctor.process import NEEDED_AS
from api.settings import PREFIX, Settings
from tests.api.cli.test_commands import run
from tests.conftest import Database
from tests.service import PEPPER_KEY
from tests.turns import by_turns

WRITTEN: Final = {"first_token_file", "head_file"}
"""By a service, not read before it starts."""
READ: Final = [
    field.name
    for field in msgspec.structs.fields(Settings)
    if field.name.endswith("_file") and field.name not in WRITTEN
]
FAULTS: Final = ("missing", "a directory", "empty", "binary")


def spoilt(path: Path, fault: str) -> None:
    if fault == "a directory":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes(b"" if fault == "empty" else b"\xff" * 40)


@pytest.mark.parametrize(
    ("setting", "fault"),
    by_turns([(setting, fault) for setting in READ for fault in FAULTS], one_of=3),
)
def test_a_file_that_cannot_be_used_keeps_a_service_from_starting(
    database: Database, tmp_path: Path, setting: str, fault: str
) -> None:
    """One sentence with its path and what to do, the same for `serve`, `config check`, doctor."""
    path, name = tmp_path / "file", f"{PREFIX}{setting.upper()}"
    spoilt(path, fault)
    given = {name: str(path)} | ({"SCIM_LEDGER_PEPPER": ""} if setting == "pepper_file" else {})
    done = run(database.app, "serve", "--port", "0", **given)
    assert (done.exit_code, done.stdout) == (1, "")
    (said,) = done.stderr.removeprefix("scim-ledger: ").splitlines()
    assert said.startswith(f"{name}: ")
    found, _, remedy = said.rpartition(": ")
    assert str(path) in found
    assert remedy
    checked = run(database.app, "config", "check", **given)
    assert (checked.exit_code, f"scim-ledger: {said}\n" in checked.stderr) == (1, True)
    told = run(database.app, "doctor", **given)
    assert told.exit_code == 1
    what = "pepper" if setting == "pepper_file" else NEEDED_AS[setting][0]
    assert f"\nfail  {what:<22} {found}\n" in told.stdout
    assert f" -> {remedy}\n" in told.stdout


def test_traces_without_what_they_need_are_told_wherever_settings_are_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(
        traces_endpoint="http://collector:4318/v1/traces", pepper=PEPPER_KEY, data_dir=tmp_path
    )
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    (problem,) = contradictions(settings, {}, {})
    assert problem.startswith("SCIM_LEDGER_TRACES_ENDPOINT needs ")
    (finding,) = (each for each in examine(lambda: settings) if each.what == "traces")
    assert problem == f"{finding.found}: {finding.remedy}"


def test_every_need_has_a_finding_and_every_file_is_a_need() -> None:
    assert NEEDS.keys() - {"head_file"} == NEEDED_AS.keys(), "that of the ledger looks at it"
    assert {*READ} - {"pepper_file"} <= NEEDS.keys(), "every command reads the pepper"
