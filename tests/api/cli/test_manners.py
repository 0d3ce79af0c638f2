"""How `scim-ledger` speaks: exit codes, one style, nothing broken or echoed;
on a bad day, a sentence.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pytest
from cyclopts import App

from api.cli.commands import app
from domain.secret import SecretKind, mint
from tests.api.cli import forked_cli
from tests.api.cli.test_commands import commands, refused, run, told
from tests.conftest import Database, catch_up
from tests.domain.scenario import T0, T1, created, used
from tests.projections.given_events import record
from tests.service import COMMAND, service_environment
from tests.turns import by_turns

IS_ROOT: Final = os.geteuid() == 0
SECRETS: Final = [mint(kind, bytes(range(32))).reveal() for kind in SecretKind]
PASTED: Final = [*SECRETS, SECRETS[0][:-1], f"Bearer {SECRETS[0]}", f"--{SECRETS[1]}"]
TEAM, USER = str(UUID(int=1)), str(UUID(int=2))
NAMED: Final = [(name, each) for name, each in commands(app) if name]
UNSEEN: Final = "".join(
    map(chr, (0x202E, 0x2066, 0x200B, 0x2028, 0x85, 0xE0041, 0xFEFF, 0xAD, 0x1B, 0x7))
)


@pytest.mark.parametrize("module", by_turns(["api.cli.commands", "api.server.projector"], one_of=2))
def test_nothing_but_a_worker_waits_for_the_framework(module: str) -> None:
    """It takes a third of a second of each command, of the supervisor and of each start."""
    code = f"import sys, {module}; print({{'litestar', 'uvicorn'}} & set(sys.modules))"
    asked = [sys.executable, "-c", code]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "set()\n"


INTERRUPTED: Final = """
import signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "{module}":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from api.cli import main
main()
"""


@pytest.mark.parametrize("module", ["cyclopts", "api.cli.commands", "api.doctor.examine"])
def test_a_command_that_is_interrupted_while_it_is_loaded_says_nothing(module: str) -> None:
    asked = [sys.executable, "-c", INTERRUPTED.format(module=module), "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


ELSEWHERE: Final = """
import asyncio, signal
from api.cli.ending import end_when_told, run

async def elsewhere():
    signal.raise_signal(signal.{name})

async def work():
    task = asyncio.create_task(elsewhere())
    await asyncio.Event().wait()

end_when_told()
run(work())
"""


@pytest.mark.parametrize(("name", "exit_code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_command_that_is_told_to_end_says_nothing_wherever_it_is(
    name: str, exit_code: int
) -> None:
    """Also in a task that nobody waits for, such as a queue's."""
    asked = [sys.executable, "-c", ELSEWHERE.format(name=name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (exit_code, "")


def test_the_version_is_that_of_the_package(database: Database) -> None:
    """D2."""
    done = run(database.app, "--version")
    assert (done.exit_code, done.stdout) == (0, f"{version('scim-ledger')}\n")


# D6: exit codes, and one style


def slots(command: App) -> Iterator[list[str]]:
    """The words before each place of a command where a value goes."""
    yield []
    for argument in command.assemble_argument_collection():
        if argument.index is None and argument.hint is not bool:
            yield [argument.name]


@pytest.mark.parametrize(
    ("name", "command"), by_turns(NAMED, one_of=9), ids=[name for name, _ in NAMED]
)
def test_a_secret_given_by_mistake_is_never_echoed(name: str, command: App) -> None:
    """D6: as an argument and as the value of one option, by turns."""
    places = [*slots(command)]
    for number in {0, len(name) % len(places)}:
        secret = PASTED[(number + len(name)) % len(PASTED)]
        assert_not_echoed(*name.split(), *places[number], secret=secret)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(0, marks=pytest.mark.long),
        *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, len(PASTED))),
    ],
)
@pytest.mark.parametrize(("name", "command"), NAMED, ids=[name for name, _ in NAMED])
def test_wherever_it_stands_a_secret_is_never_echoed(name: str, command: App, start: int) -> None:
    """D6: in every place; the slow run tries all forms in all places."""
    for number, words in enumerate(slots(command), start=start + len(name)):
        assert_not_echoed(*name.split(), *words, secret=PASTED[number % len(PASTED)])


@pytest.mark.parametrize("secret", PASTED)
def test_a_secret_in_place_of_a_command_is_never_echoed(secret: str) -> None:
    assert_not_echoed(secret=secret)


def assert_not_echoed(*words: str, secret: str) -> None:
    """A command line that ends with a secret is refused, and says nothing of it."""
    core = re.sub(r"^\W*(Bearer )?", "", secret)[10:40]
    done = run("postgresql://nobody@127.0.0.1:1/nothing", *words, secret)
    assert done.exit_code in {1, 2}, done
    assert core not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    by_turns(
        [
            (
                ("token", "show", "Okta"),
                "TOKEN-ID: 'Okta' is not a UUID; no command asks for a secret",
            ),
            (("token", "show"), "TOKEN-ID is required; see --help"),
            (("token", "list", "--limit", "x"), "--limit: 'x' is not a whole number"),
            (("token", "list", "--limit", "0"), "--limit: must be 1 to 1000"),
            (
                ("token", "list", "--unused-since", "2026-01-01T00:00:00"),
                "--unused-since: needs a time zone, ",
            ),
            (
                ("token", "rotate", TEAM, "--overlap-seconds", "-1"),
                "--overlap-seconds: must be 0 to 2592000",
            ),
            (("audit", "export", "--format", "xml"), "--format: 'xml' is not one of ndjson, csv"),
            (("serve", "--prot", "8080"), "there is no option --prot here; see --help"),
            (("serve", "--workers", "0"), "--workers: must be 1 to 64"),
            (("serve", "--port", "65536"), "--port: must be 0 to 65535"),
            (("tokn", "list"), "'tokn' is no command and no argument here; see --help"),
            (
                ("token", "show", TEAM, "more"),
                "'more' is no command and no argument here; see --help",
            ),
        ],
        one_of=3,
    ),
)
def test_what_cannot_be_meant_is_told_in_one_line_with_exit_code_2(
    database: Database, arguments: tuple[str, ...], said: str
) -> None:
    assert refused(database.app, *arguments, exit_code=2).startswith(said)


def test_a_variable_that_cannot_be_meant_is_told_by_its_own_name(database: Database) -> None:
    said = "SCIM_LEDGER_WORKERS must be 1 to 64"
    assert refused(database.app, "serve", "--port", "0", SCIM_LEDGER_WORKERS="0") == said


def test_what_is_piped_is_not_broken(database: Database) -> None:
    """D6: a table's row is a line, whatever it holds."""
    name = "n" * 255
    made = told(database.app, "token", "create", "--team", TEAM, "--name", name, "--user", USER)
    done = run(database.app, "token", "list")
    header, row = done.stdout.splitlines()
    assert {"id", "team_id", "name"} <= {*header.split()}
    assert {made["id"], TEAM, name, USER} <= {*row.split()}


def test_a_token_is_rotated(database: Database) -> None:
    made = told(database.app, "token", "create", "--team", TEAM, "--name", "Okta", "--user", USER)
    rotated = told(
        database.app, "token", "rotate", made["id"], "--overlap-seconds", "60", "--user", USER
    )
    assert rotated["id"] == made["id"]
    assert rotated["token"] != made["token"]
    assert refused(database.app, "token", "rotate", str(uuid4())) == "no such token"
    assert [row["kind"] for row in told(database.app, "token", "history", made["id"])] == [
        "scim_token.created",
        "scim_token.rotated",
    ]


def test_the_history_tells_why_and_from_where(database: Database) -> None:
    """D6."""
    token_id = record(database, created(T0), used(T1))
    told(database.app, "token", "revoke", str(token_id), "--reason", "left the company")
    header, *rows = run(database.app, "token", "history", str(token_id)).stdout.splitlines()
    assert header.split() == ["at", "kind", "outcome", "reason", "by", "source"]
    assert "left the company" in rows[-1]


@pytest.mark.long
def test_lists_are_narrowed_as_over_http(database: Database) -> None:
    used_ = record(database, created(T0), used(T1))
    told(database.app, "token", "create", "--team", TEAM, "--name", "other", "--user", USER)
    catch_up(database)

    def ids(*arguments: str) -> set[str]:
        return {token["id"] for token in told(database.app, "token", "list", *arguments)}

    everything = ids()
    assert len(everything) == 2
    assert ids("--never-used") == everything - {str(used_)}
    assert ids("--name", "other") == everything - {str(used_)}
    assert ids("--unused-since", T1.isoformat()) == set()
    assert ids("--created-by", USER) == everything - {str(used_)}
    assert ids("--expires-before", "2999-01-01T00:00:00Z") == set()


# A20: what is not printable


def is_plain(text: str) -> bool:
    """Only what a terminal shows, and line ends."""
    return all(
        each == "\n" or unicodedata.category(each)[0] not in {"C", "Z"} or each == " "
        for each in text
    )


@pytest.mark.parametrize(
    "arguments",
    by_turns(
        [
            (("token", "list"),),
            (("token", "show"),),
            (("token", "history"),),
            (("audit", "list"),),
        ],
        one_of=2,
    ),
)
def test_nothing_that_is_stored_can_move_the_cursor_or_turn_the_line(
    database: Database, arguments: tuple[str, ...]
) -> None:
    """A20: names and reasons of an earlier release may hold anything."""
    token_id: UUID = record(database, created(T0, name=f"a{UNSEEN}b:smiley:[red]c"))
    told(
        database.app,
        "token",
        "revoke",
        str(token_id),
        "--reason",
        "left :smiley:",
    )
    words = (*arguments, str(token_id)) if arguments[1] in {"show", "history"} else arguments
    more = ("--status", "all") if arguments == ("token", "list") else ()
    plain = run(database.app, *words, *more)
    assert plain.exit_code == 0, plain
    assert is_plain(plain.stdout), ascii(plain.stdout)
    if arguments[0] == "token":
        assert ":smiley:" in plain.stdout
    as_json = run(database.app, *words, *more, "--json").stdout
    assert is_plain(as_json)
    if arguments[1] == "show":
        assert json.loads(as_json)["name"] == f"a{UNSEEN}b:smiley:[red]c", "JSON says the same"


def test_errors_are_escaped_too() -> None:
    done = forked_cli.run(
        ("token", "list", "--data-dir", f"/tmp/a{UNSEEN[0]}"), service_environment(None)
    )
    assert is_plain(done.stderr)
    assert done.exit_code in {1, 2}


# C8: on a bad day


def refusal_to_a_number(environment: dict[str, str], *arguments: str) -> str:
    """The one line that a user hears whom no file names."""
    done = forked_cli.run(arguments, environment, user=54321)
    assert (done.exit_code, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    return line.removeprefix("scim-ledger: ")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scim-ledger-c8-", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.mark.parametrize(
    ("command", "kind"),
    by_turns(
        product(
            [("serve",), ("migrate",), ("token", "list"), ("doctor",)],
            ["file", "loop", "below a file"],
        ),
        one_of=4,
    ),
)
def test_a_data_directory_that_can_be_none_is_a_sentence(
    place: Path, kind: str, command: tuple[str, ...]
) -> None:
    """C8."""
    data = place / "data"
    if kind == "loop":
        data.symlink_to(data)
    else:
        data.touch()
    if kind == "below a file":
        data /= "below"
    done = forked_cli.run((*command, "--data-dir", str(data)), service_environment(None))
    assert done.exit_code == 1, done
    assert "Traceback" not in done.stderr
    if command != ("doctor",):
        (line,) = done.stderr.splitlines()
        assert str(data) in line


@pytest.mark.skipif(not IS_ROOT, reason="only root can become a user whom no file names")
@pytest.mark.parametrize("command", [("serve",), ("migrate",), ("token", "list")], ids=" ".join)
def test_a_user_without_a_name_and_a_home_is_told_what_to_do(
    place: Path, command: tuple[str, ...]
) -> None:
    """C8, C5: in a container with a number for a user."""
    environment = service_environment(None)
    for name in ("HOME", "XDG_DATA_HOME", "USER", "LOGNAME"):
        environment.pop(name, None)
    said = refusal_to_a_number(environment, *command)
    assert said == "This user has no home directory: name the data directory with --data-dir."
    said = refusal_to_a_number(environment, *command, "--data-dir", str(place / "closed"))
    assert "Permission denied" in said or "There is no ledger in" in said
    if command[0] != "token":
        place.chmod(0o777)
        said = refusal_to_a_number(environment, *command, "--data-dir", str(place / "data"))
        # initdb's reason, or that the programs lie where this user cannot read them
        assert "the user 54321 is not in the passwd file" in said or "Permission denied" in said


def test_the_owner_needs_to_be_named_where_the_app_role_may_not_migrate(
    empty_database: str,
) -> None:
    """C8."""
    app = empty_database.replace("user=postgres", "user=scim_ledger_app_test")
    assert "set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of" in refused(app, "migrate")


@pytest.mark.parametrize(
    "command",
    by_turns(
        [(("token", "list"),), (("audit", "list"),), (("doctor",),), (("projections", "list"),)],
        one_of=4,
    ),
)
def test_a_reader_that_has_had_enough_is_no_mistake(
    database: Database, command: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, *command],
        env=service_environment(database.app), stdout=writing, stderr=subprocess.PIPE, timeout=60,
        check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("unbuffered", by_turns(["", "1"], one_of=2))
def test_an_output_that_takes_nothing_is_a_sentence(database: Database, unbuffered: str) -> None:
    environment = service_environment(database.app) | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "token", "list", "--json"],
            env=environment, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"scim-ledger: No space left on device\n"


@pytest.mark.long
def test_a_secret_is_not_made_where_it_cannot_be_shown(database: Database) -> None:
    command = f'exec "{COMMAND}" api-token create --user {USER} >&-'
    done = subprocess.run(
        ["sh", "-c", command],
        env=service_environment(database.app),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "scim-ledger: standard output is closed\n")
    assert told(database.app, "api-token", "list") == []


# What is found counts, whoever reads of it

NOWHERE: Final = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
LEAKS: Final = f"{SECRETS[0]}\n".encode()
ANSWERS: Final[dict[str, tuple[str, dict[str, str], bytes, int]]] = {
    "no leak": ("token find-leaked", {}, b"nothing\n", 0),
    "a leak": ("token find-leaked", {}, LEAKS, 3),
    "leaks that fill a pipe": ("token find-leaked", {}, LEAKS * 9000, 3),
    "the last of much that is none": ("token find-leaked --json", {}, b"x\n" * 9000 + LEAKS, 3),
    "a failure": ("doctor", NOWHERE, b"", 1),
    "a failure as JSON": ("doctor --json", NOWHERE, b"", 1),
    "a wrong setting": ("config check", {"SCIM_LEDGER_PROT": "1"}, b"", 1),
    "no database": ("verify", NOWHERE, b"", 1),
    "what cannot be meant": ("token list --limit 0", NOWHERE, b"", 2),
    "a text": ("token pattern", {}, b"", 0),
}


@pytest.mark.parametrize("left", [{"stdout"}, {"stderr"}, {"stdout", "stderr"}])
@pytest.mark.parametrize("answer", by_turns(ANSWERS, one_of=2))
def test_an_exit_code_is_the_same_where_nobody_reads_any_more(answer: str, left: set[str]) -> None:
    """Under pipefail a leak passed, where `head` had read enough."""
    words, more, fed, exit_code = ANSWERS[answer]
    environment = {**service_environment(None), **more}
    code, said = forked_cli.run_to_the_end(words.split(), environment, stdin=fed, unread=left)
    assert code == exit_code, said
    assert b"Traceback" not in said
    assert b"Exception" not in said
