"""What `scim-ledger serve` hands on when it starts:
the first API token, and the settings of its children.
"""

import os
import pty
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli import serve
from api.cli.api_token import first
from api.settings import Settings
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.secret import SECRET_PATTERN
from tests.api.cli.test_commands import told
from tests.conftest import Database
from tests.domain.files.kinds import named
from tests.faults.own_server import process_tree
from tests.service import COMMAND, PEPPER_KEY, running_service, service_environment, until

pytestmark = pytest.mark.long

OWNER_PASSWORD: Final = "hunter2-of-the-owner"


def test_the_first_api_token_is_in_a_file_of_its_owner_and_in_no_log(database: Database) -> None:
    """C14."""
    with running_service(database) as service:
        assert stat.S_IMODE(service.first_token.stat().st_mode) == 0o600
        assert [path.name for path in service.first_token.parent.glob("*token*")] == [
            "first-api-token"
        ]
        secret = service.first_token.read_text().strip()
        assert re.fullmatch(SECRET_PATTERN, secret)
        headers = {"Authorization": f"Bearer {secret}"}
        assert service.client.get("/scim-token", headers=headers).status_code == 200
        assert f"is in the file {service.first_token}\n" in service.log.read_text()
        told_to_logs = service.log.read_text() + service.output.read_text()
    assert re.search(SECRET_PATTERN, told_to_logs) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/token", "Not a directory"),
        ("link", f"{named('symbolic link')}: name another place"),
    ],
)
def test_without_a_place_for_it_no_token_is_made(
    database: Database, tmp_path: Path, name: str, reason: str
) -> None:
    """C14: the service starts; a token that nobody has would be good for 90 days."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    place = tmp_path / name
    with running_service(
        database, environment={"SCIM_LEDGER_FIRST_TOKEN_FILE": str(place)}
    ) as service:
        assert told(database.app, "api-token", "list") == []
        (line,) = [
            line for line in service.log.read_text().splitlines() if "this ledger is new" in line
        ]
        assert line == (
            "scim-ledger: this ledger is new, its first API token has "
            f"nowhere to go ({reason}): "
            "scim-ledger api-token create makes one"
        )


def test_the_first_token_of_another_ledger_is_left_where_it_is(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two ledgers of one machine, and nobody has named a file: its token would be nobody's."""
    monkeypatch.setattr(first, "default_base_dir", lambda: tmp_path)
    there = tmp_path / first.FILE_NAME
    there.write_text("of the other\n")
    settings = Settings(database_url=database.app, pepper=PEPPER_KEY)
    first.hand_over(settings, url="http://localhost")
    assert f"nowhere to go ({there} is there, of another ledger): scim-ledger api-token create" in (
        capsys.readouterr().err
    )
    assert there.read_text() == "of the other\n"
    assert told(database.app, "api-token", "list") == []


@contextmanager
def terminal(database: Database) -> Iterator[str]:
    """A service whose standard output is a terminal; what it shows there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0"],
        env=service_environment(database.app), stdout=theirs, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    shown = bytearray()
    try:

        def has_shown() -> bool:
            shown.extend(os.read(ours, 4096))
            return b"Okta provisioning" in shown

        until(has_shown, timeout_s=60, what="the welcome")
        yield shown.decode()
    finally:
        process.terminate()
        with suppress(OSError):
            while os.read(ours, 4096):
                pass
        process.wait(30)
        os.close(ours)


def test_in_a_terminal_the_first_api_token_is_shown(database: Database) -> None:
    with terminal(database) as shown:
        (secret,) = set(re.findall(SECRET_PATTERN, shown))
        assert f"-H 'Authorization: Bearer {secret}'" in shown


def test_no_child_knows_the_owner_of_the_ledger(database: Database) -> None:
    """C13: neither by the setting's name nor by its value."""
    owner = make_conninfo(database.owner, password=OWNER_PASSWORD)
    given = {"SCIM_LEDGER_OWNER_DATABASE_URL": owner, "SCIM_LEDGER_PUBLIC_METRICS": "true"}
    with running_service(database, workers=2, environment=given) as service:
        _, *children = process_tree(service.pid)
        assert len(children) == 3
        for pid in children:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"SCIM_LEDGER_DATABASE_URL" in environment
            assert b"OWNER" not in environment
            assert OWNER_PASSWORD.encode() not in environment
            assert b"FIRST_TOKEN_FILE" not in environment
        assert httpx.get(f"{service.url}/metrics", trust_env=False).status_code == 200, (
            "the rest is told"
        )


class Full:
    """Stands in for the embedded server: it has died, and its disk is full for a while."""

    def __init__(self) -> None:
        self.base_dir, self.is_running = Path("/nowhere"), False
        self.refusals: list[Exception] = [
            OSError(28, "No space left on device"),
            subprocess.TimeoutExpired("initdb", 1),
            EmbeddedPostgresError("it did not start"),
            RuntimeError(),
        ]

    def start(self) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False


def test_an_embedded_server_is_started_again_whatever_has_hindered_it_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Full()
    monkeypatch.setattr(serve, "embedded", lambda _: server)
    monkeypatch.setattr(serve, "_KEEP_EVERY_S", 0.01)
    with serve._kept_running(Settings()):
        until(lambda: server.is_running, what="the server")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_service_on_the_ledger_makes_no_second_first_token(
    database: Database, workers: int
) -> None:
    with running_service(database, workers=workers) as one, running_service(database) as other:
        assert one.first_token.exists()
        assert not other.first_token.exists()


def test_which_ledger_is_served_is_told_without_a_secret(database: Database) -> None:
    """Whoever meant another sees it."""
    parts = conninfo_to_dict(database.app)
    given = {"SCIM_LEDGER_DATABASE_URL": make_conninfo(database.app, password=OWNER_PASSWORD)}
    with running_service(database, environment=given) as service:
        log = service.log.read_text()
    where = f"{parts['dbname']} on {parts['host']}:{parts['port']}"
    assert f"scim-ledger serves the ledger {where}\n" in log
    assert OWNER_PASSWORD not in log
