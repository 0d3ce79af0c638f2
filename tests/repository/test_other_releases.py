"""Tests run on other releases of PostgreSQL by a script, which the gate calls for each of them."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / ".ci" / "postgresql"
SETTINGS: Final = (
    "tests/domain/postgres/test_session.py::test_the_ledger_is_the_same_whatever_the_role_says"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments, "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.long
def test_the_tests_meet_a_server_of_that_release_which_is_gone_afterwards() -> None:
    done = run("16", f"{SETTINGS}[transaction_timeout-20]", f"{SETTINGS}[statement_timeout-20]")
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(
        r"^== on postgres \(PostgreSQL\) 16\.\d+, in (\S+)$", done.stdout, re.MULTILINE
    )
    assert told is not None, done.stdout
    assert not Path(told[1]).exists()
    assert "this PostgreSQL has no transaction_timeout" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout


@pytest.mark.long
def test_where_no_test_ran_there_is_no_success() -> None:
    done = run("16", f"{SETTINGS}[no such case]")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr


def test_a_release_that_is_not_here_is_no_success() -> None:
    done = run("9", SETTINGS)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "== NOT RUN: there is no PostgreSQL 9 here (apt-get install postgresql-9)\n"
    )


def test_the_gate_runs_every_release_that_is_promised() -> None:
    """On the newest, the embedded server's own, every other test runs; on the oldest the sample."""
    promised = re.search(
        r"^PostgreSQL (\d+) to (\d+),",
        (ROOT / "docs/how-to/own-postgresql.md").read_text(),
        re.MULTILINE,
    )
    assert promised is not None
    gate = (ROOT / ".ci" / "run").read_text()
    (whole,) = re.findall(
        r"^for release in ([\d ]+); do\n  \.ci/postgresql \$release \|\|", gate, re.MULTILINE
    )
    others = re.findall(r"^\.ci/postgresql (\d+) tests/", gate, re.MULTILINE)
    assert promised[1] in whole.split()
    assert sorted([*whole.split(), *others, promised[2]]) == [
        str(release) for release in range(int(promised[1]), int(promised[2]) + 1)
    ]


def test_the_sample_names_files_that_are_there() -> None:
    """pytest would end at the first that is not."""
    (sample,) = re.findall(r"^sample=\(\n.*?^\)$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    listed = subprocess.run(
        ["bash", "-c", sample + '; printf "%s\\n" "${sample[@]}"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(listed) > 10
    assert [name for name in listed if not (ROOT / name).exists()] == []
