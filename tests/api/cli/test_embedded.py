"""`scim-ledger` on its embedded server:
who makes a ledger, who uses it at once, what is left behind.
"""

import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from cyclopts import App

from api.cli.commands import app
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import available
from tests.api.cli import forked_cli
from tests.api.cli.test_commands import commands
from tests.api.cli.test_flags import arguments
from tests.conftest import roomy_directory
from tests.faults.own_server import postmaster_pid, process_tree, send
from tests.service import COMMAND, service_environment, until

pytestmark = pytest.mark.long

TEAM, USER = str(uuid4()), str(uuid4())
START_TIMEOUT_S: Final = 60.0
MAKERS: Final = {"serve", "migrate", "restore"}
ASKS_NO_LEDGER: Final = {"config check"}
CREATE: Final = ("token", "create", "--team", TEAM, "--user", USER, "--name")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own 0700 directory: as root the server runs as another user."""
    place = Path(tempfile.mkdtemp(prefix="scim-ledger-cli-", dir=roomy_directory()))
    place.chmod(0o711)
    yield place / "ledger"
    shutil.rmtree(place)


class Process:
    """A command of its own on a data directory, as a shell starts it."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self._log = data_dir.with_name(f"{uuid4()}.log")
        self._output = self._log.with_suffix(".out")
        with self._log.open("wb") as stderr, self._output.open("wb") as stdout:
            self.process = subprocess.Popen(
                [COMMAND, *arguments, "--data-dir", str(data_dir)],
                env=service_environment(None), stdout=stdout, stderr=stderr, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def url(self) -> str:
        """Where a service listens, once it does."""
        until(
            lambda: self.process.poll() is not None or "listens on" in self.log,
            timeout_s=START_TIMEOUT_S,
            what="listening",
            tell=lambda: self.log,
        )
        assert self.process.poll() is None, self.log
        return next(
            line.rpartition(" ")[2] for line in self.log.splitlines() if "listens on" in line
        )

    def ended(self) -> int:
        """Its exit code; never with a traceback."""
        exit_code = self.process.wait(START_TIMEOUT_S)
        assert "Traceback" not in self.log, self.log
        return exit_code

    def stop(self) -> None:
        """A clean stop."""
        self.process.send_signal(signal.SIGTERM)
        assert self.ended() == 0, self.log

    def kill(self) -> None:
        """SIGKILL, without a word to its children or to the database."""
        self.process.kill()
        self.process.wait()


def told(data_dir: Path, *arguments: str) -> Any:
    """What a command that went well prints with --json."""
    done = forked_cli.run(
        (*arguments, "--data-dir", str(data_dir), "--json"), service_environment(None)
    )
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def answers(url: str) -> bool:
    try:
        return (
            httpx.get(f"{url}/readyz", trust_env=False, verify=False, timeout=10).status_code == 200
        )
    except httpx.TransportError:
        return False


def nothing_runs(data_dir: Path) -> bool:
    """No process of the database is there: data is their working directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == data_dir / "data":
                return False
    return True


# C10: only `serve` and `migrate` make a ledger, and `restore` out of a backup


OF_ITS_OWN: Final = {
    "--base-url": "https://ledger.example.com",
    "--network": "192.0.2.0/24",
    "--older-than-days": "400",
    "--directory": ".",
}
"""What is good for one argument alone, by its name."""


def arguments_of(name: str, command: App) -> list[str]:
    """The command with all that it requires."""
    words = name.split()
    for argument in command.assemble_argument_collection():
        if argument.required:
            value = {UUID: str(uuid4()), int: "1"}.get(argument.hint, "scim_tokens")
            value = OF_ITS_OWN.get(argument.name, value)
            words += [value] if argument.index is not None else [argument.name, value]
    return words


OTHERS: Final = [
    (name, each)
    for name, each in commands(app)
    if name and name not in MAKERS | ASKS_NO_LEDGER and "--data-dir" in arguments(each)
]


@pytest.mark.parametrize("absent", ["typo", "typo/below"])
@pytest.mark.parametrize(("name", "command"), OTHERS, ids=[name for name, _ in OTHERS])
def test_a_command_on_a_directory_that_does_not_exist_makes_nothing(
    data_dir: Path, name: str, command: App, absent: str
) -> None:
    """C10."""
    arguments = arguments_of(name, command)
    place = data_dir / absent
    done = forked_cli.run((*arguments, "--data-dir", str(place)), service_environment(None))
    assert done.exit_code == 1, done
    assert not data_dir.exists()
    if name != "doctor":  # whose findings are its answer
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(
            f"scim-ledger: There is no ledger in {place}: scim-ledger serve makes one; "
        )


def test_a_command_on_a_directory_of_something_else_leaves_it_alone(data_dir: Path) -> None:
    """C10: the directory exists, and holds no ledger."""
    data_dir.mkdir(mode=0o755)
    (data_dir / "something").touch()
    before = data_dir.stat()
    done = forked_cli.run(("token", "list", "--data-dir", str(data_dir)), service_environment(None))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "There is no ledger in" in done.stderr
    assert [path.name for path in data_dir.iterdir()] == ["something"]
    assert data_dir.stat().st_mode == before.st_mode


def test_a_command_after_a_first_start_that_was_cut_short_makes_nothing(
    data_dir: Path,
) -> None:
    """C10: there is a server's data, and no ledger in it yet."""
    with EmbeddedPostgres(data_dir) as server:
        pass
    assert server.has_cluster
    before = sorted(path.name for path in data_dir.iterdir())
    for _ in range(2):  # the first one has made nothing of it
        done = forked_cli.run(
            ("token", "list", "--data-dir", str(data_dir)), service_environment(None)
        )
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"There is no ledger in {data_dir}: " in done.stderr
    assert sorted(path.name for path in data_dir.iterdir()) == before
    assert nothing_runs(data_dir)


# C11: one server, however many use it


def test_migrate_tells_what_it_applied(data_dir: Path) -> None:
    """It had told of none, whatever it did."""
    first, second = (told(data_dir, "migrate") for _ in range(2))
    assert first == {"applied": sorted(available()), "version": max(available())}
    assert second == {"applied": [], "version": max(available())}


def test_services_and_commands_that_start_at_once_on_a_new_directory_share_one_ledger(
    data_dir: Path,
) -> None:
    """C11: each of them would make cluster, role, database, schema, pepper and first API token."""
    started = [Process(data_dir, "serve", "--port", "0") for _ in range(3)]
    started.append(Process(data_dir, "migrate"))
    urls = [each.url() for each in started[:3]]
    assert started[3].ended() == 0, started[3].log
    for url in urls:
        until(lambda url=url: answers(url), timeout_s=START_TIMEOUT_S, what="answering")  # type: ignore[misc]
    assert len(told(data_dir, "api-token", "list")) == 1
    assert sum("is in the file" in each.log for each in started) == 1
    for service, url in zip(started[:2], urls[:2], strict=True):
        service.stop()
        assert not answers(url)
        assert answers(urls[2]), "the others go on"
    started[2].stop()
    assert nothing_runs(data_dir)


def test_after_a_killed_service_the_next_clean_stop_leaves_nothing(data_dir: Path) -> None:
    """C11: the killed one's server is adopted, by a service or by a command, and not forgotten."""
    first = Process(data_dir, "serve", "--port", "0")
    first.url()
    first.kill()
    assert not nothing_runs(data_dir)
    told(data_dir, "token", "list")
    assert nothing_runs(data_dir)

    second = Process(data_dir, "serve", "--port", "0")
    second.url()
    second.kill()
    third = Process(data_dir, "serve", "--port", "0")
    third.url()
    third.stop()
    assert nothing_runs(data_dir)


def test_a_command_that_is_told_to_end_leaves_nothing(data_dir: Path) -> None:
    """C11: `timeout`, Ctrl-C and a closed terminal are clean stops, too,
    for a command that follows.
    """
    told(data_dir, "migrate")
    told(data_dir, *CREATE, "Okta")
    for number, exit_code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)):
        tail = Process(data_dir, "audit", "tail", "--follow", "--json")
        until(
            lambda tail=tail: "scim_token.created" in tail.output,  # type: ignore[misc]
            timeout_s=START_TIMEOUT_S,
            what="it",
        )
        tail.process.send_signal(number)
        tail.process.send_signal(number)
        assert tail.ended() == exit_code
        assert nothing_runs(data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("_", range(3))
def test_whatever_is_started_stopped_and_killed_the_ledger_is_whole(data_dir: Path, _: int) -> None:
    """C11: random commands and services on one directory,
    some killed with or without the database.
    """
    dice = random.Random(seed := random.randrange(1 << 32))
    print("seed", seed)
    told(data_dir, "migrate")
    running: list[Process] = []
    surely, made = set[str](), 0
    for _ in range(25):
        what = dice.choice(
            ["serve", "serve", "create", "create", "create", "stop", "kill", "kill database"]
        )
        if what == "serve" and len(running) < 4:
            running.append(Process(data_dir, "serve", "--port", "0"))
        elif what == "create":
            running.append(Process(data_dir, *CREATE, f"token {made}"))
            made += 1
        elif what == "kill database" and not nothing_runs(data_dir):
            with suppress(OSError, IndexError, ValueError):
                send(process_tree(postmaster_pid(data_dir)), signal.SIGKILL)
        elif running and what in {"stop", "kill"}:
            leaving = running.pop(dice.randrange(len(running)))
            if what == "kill":
                leaving.kill()
            else:
                leaving.process.terminate()
                leaving.ended()
        time.sleep(dice.random() * dice.choice([0.0, 0.3, 1.5]))
        surely |= {
            line.removeprefix("name: ") for each in running for line in each.output.splitlines()
        }
    for each in running:
        each.process.terminate()
    for each in running:
        each.ended()
    left = told(data_dir, "token", "list", "--limit", "1000")
    assert {name for name in surely if name.startswith("token ")} <= {
        token["name"] for token in left
    }
    assert told(data_dir, "verify")["damage"] is None
    assert nothing_runs(data_dir)


@pytest.mark.slow  # the README's walk-through begins the same way
def test_a_newcomer_needs_nothing_but_a_directory(data_dir: Path) -> None:
    service = Process(data_dir, "serve", "--port", "0")
    url = service.url()
    assert f"scim-ledger serves the ledger embedded in {data_dir}\n" in service.log
    first = (data_dir / "first-api-token").read_text().strip()
    body = {"team_id": TEAM, "name": "Okta"}

    def asked(secret: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.post(
            f"{url}/scim-token", headers=headers, json=body, trust_env=False, verify=False
        )

    until(lambda: answers(url), timeout_s=START_TIMEOUT_S, what="answering")
    assert asked(first).status_code == 201

    # Beside the running service, on the same server.
    made = told(
        data_dir,
        *("api-token", "create", "--user", USER, "--team", TEAM),
        *("--permission", "scim_tokens:write"),
    )
    created = asked(made["token"])
    assert created.status_code == 201
    assert created.json()["created_by"] == USER
    assert len(told(data_dir, "api-token", "list")) == 2
    findings = told(data_dir, "doctor")
    assert all(finding["status"] == "ok" for finding in findings), findings
    assert asked(first).status_code == 201, "the commands did not stop the server"
    service.stop()
    left = told(data_dir, "token", "list", "--team", TEAM)
    assert len(left) == 3, "stopped, the directory alone holds everything"


def test_the_owner_of_an_embedded_ledger_is_known(data_dir: Path) -> None:
    """Who takes events out of a ledger is another role than the service's."""
    for line in (
        ("migrate",),
        (*CREATE, "Okta"),
        ("archive", str(data_dir.parent), "--older-than-days", "90", "--remove"),
    ):
        done = forked_cli.run((*line, "--data-dir", str(data_dir)), service_environment(None))
        assert done.exit_code == 0, done.stderr
    assert "removed: 0\nis_done: True\n" in done.stdout
