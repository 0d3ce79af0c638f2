"""`scim-ledger audit …` and `token history`:
the trail in a terminal, in a file, in a pipe, and live.
"""

import csv
import io
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.api.cli import forked_cli
from tests.api.cli.forked_cli import Done
from tests.api.trail import ROW
from tests.conftest import Database, new_database
from tests.domain.scenario import T2, TEAM_ID, TOKEN_ID
from tests.projections.audit_trail.test_audit_trail import CREATED, REFUSED, REVOKED, ROTATED, USED
from tests.projections.history import given
from tests.service import (
    COMMAND,
    START_TIMEOUT_S,
    running_service,
    service_environment,
    until,
)
from tests.turns import by_turns

ALL: Final = [f"scim_token.{kind}" for kind in ("created", "used", "rotated", "revoked", "refused")]


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    """One token's whole life; no service runs."""
    with new_database(server) as database:
        given(database, CREATED, USED, ROTATED, REVOKED, REFUSED)
        yield database


def run(ledger: Database, *arguments: str) -> Done:
    return forked_cli.run(arguments, service_environment(ledger.app))


def told(ledger: Database, *arguments: str) -> list[dict[str, Any]]:
    done = run(ledger, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(list(row) == ROW for row in rows)
    return rows


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    return [row["kind"] for row in rows]


def refused(ledger: Database, *arguments: str, exit_code: int = 2) -> str:
    done = run(ledger, *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("scim-ledger: ")


def test_the_newest_come_first_unless_asked_otherwise(ledger: Database) -> None:
    assert kinds(told(ledger, "audit", "list")) == ALL[::-1]
    assert kinds(told(ledger, "audit", "list", "--oldest-first", "--limit", "2")) == ALL[:2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    by_turns(
        [
            (
                (
                    "--team",
                    str(TEAM_ID),
                    "--kind",
                    "scim_token.used",
                    "--kind",
                    "scim_token.revoked",
                ),
                [ALL[1], ALL[3]],
            ),
            (("--team", str(uuid4())), []),
            (("--token", str(TOKEN_ID), "--outcome", "refused"), [ALL[4]]),
            (("--source", "192.0.2.0/24", "--outcome", "success"), [ALL[1]]),
            (("--since", T2.isoformat()), ALL[2:]),
            (("--until", T2.isoformat()), ALL[:2]),
            (("--user", "00000000-0000-0000-0000-000000000001"), [ALL[0], ALL[2]]),
            (("--api-token", "00000000-0000-0000-0000-000000000002"), [ALL[0], ALL[2]]),
        ],
        one_of=3,
    ),
)
def test_filters_are_those_of_the_api(
    ledger: Database, arguments: tuple[str, ...], expected: list[str]
) -> None:
    assert kinds(told(ledger, "audit", "list", "--oldest-first", *arguments)) == expected


def test_a_table_is_for_people(ledger: Database) -> None:
    done = run(ledger, "audit", "list")
    assert done.exit_code == 0
    header, refused_, *_ = done.stdout.splitlines()
    assert header.split() == ["at", "kind", "outcome", "token", "team", "by"]
    assert refused_.split() == [
        *("2021-08-10T14:00:00.000Z", "scim_token.refused", "revoked"),
        *(str(TOKEN_ID), str(TEAM_ID), "192.0.2.1"),
    ]


def test_the_history_of_a_token_is_whole(ledger: Database) -> None:
    assert kinds(told(ledger, "token", "history", str(TOKEN_ID))) == ALL
    assert refused(ledger, "token", "history", str(uuid4()), exit_code=1) == "no such token"


def test_an_export_holds_every_row(ledger: Database) -> None:
    rows = told(ledger, "audit", "list", "--oldest-first")
    lines = run(ledger, "audit", "export").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows

    table = list(
        csv.DictReader(io.StringIO(run(ledger, "audit", "export", "--format", "csv").stdout))
    )
    assert [row["kind"] for row in table] == ALL
    assert list(table[0]) == ROW


def test_tail_shows_the_last_ones_in_order(ledger: Database) -> None:
    lines = run(ledger, "audit", "tail", "-n", "2").stdout.splitlines()
    assert [line.split()[1] for line in lines] == ALL[-2:]
    assert run(ledger, "audit", "tail", "-n", "0").stdout == ""
    assert (
        kinds(
            [
                json.loads(line)
                for line in run(ledger, "audit", "tail", "--json").stdout.splitlines()
            ]
        )
        == ALL
    )


@pytest.mark.parametrize("is_served", [False, pytest.param(True, marks=pytest.mark.long)])
def test_tail_goes_on_with_each_further_fact_once_and_no_other(
    database: Database, tmp_path: Path, *, is_served: bool
) -> None:
    """Also where no service runs, and nobody else fills the views."""
    environment, told_ = service_environment(database.app), tmp_path / "told"
    create = ("token", "create", "--team", str(TEAM_ID), "--user", str(uuid4()), "--name", "Okta")
    made = [json.loads(run(database, *create, "--json").stdout)["id"]]
    follow = [COMMAND, "audit", "tail", "-f", "-n", "1", "--json", "--kind", "scim_token.created"]

    def ids() -> list[str]:
        return [json.loads(line)["token_id"] for line in told_.read_text().splitlines()]

    with (
        running_service(database) if is_served else nullcontext(),
        told_.open("wb") as output,
        subprocess.Popen(follow, env=environment, stdout=output, stderr=output) as tail,
    ):
        try:
            until(lambda: ids() == made, timeout_s=START_TIMEOUT_S, tell=told_.read_text)
            for _ in range(3):
                made.append(json.loads(run(database, *create, "--json").stdout)["id"])
                assert run(database, "token", "suspend", made[-1]).exit_code == 0
                until(lambda: ids() == made, tell=told_.read_text)
        finally:
            tail.terminate()


@pytest.mark.parametrize(
    ("arguments", "line"),
    by_turns(
        [
            (("list", "--limit", "0"), "--limit: must be 1 to 1000; export has no limit"),
            (("list", "--outcome", "maybe"), "--outcome: must be success or refused"),
            (
                ("export", "--source", "x"),
                "--source: must be an address or a network, such as 192.0.2.0/24",
            ),
            (
                ("tail", "--since", "2021-08-10T10:00:00"),
                "--since: needs a time zone, such as a Z at the end",
            ),
            (("tail", "-n", "-1"), "--lines: must be 0 to 1000"),
        ],
        one_of=3,
    ),
)
def test_a_mistake_is_one_clear_line(
    ledger: Database, arguments: tuple[str, ...], line: str
) -> None:
    assert refused(ledger, "audit", *arguments) == line
    assert refused(ledger, "audit", "list", "--kind", "used").startswith(
        "--kind: must be one of api_token.created"
    )


@pytest.mark.long
def test_a_reader_that_leaves_is_no_mistake(ledger: Database) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, "audit", "export"],
        env=service_environment(ledger.app),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
